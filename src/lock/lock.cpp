#include "memcachedlock/lock.hpp"

#include <fmt/format.h>

#include <stop_token>
#include <system_error>
#include <utility>

#include "lock/acquisition.hpp"
#include "lock/holding.hpp"
#include "lock/reentry_table.hpp"
#include "memcachedlock/error.hpp"
#include "waiting/lock_spec.hpp"
#include "waiting/waker.hpp"

namespace memcachedlock {

namespace {

using std::chrono::milliseconds;

// memcached takes a TTL over 30 days for an absolute time; two seconds go to the rounding.
constexpr milliseconds max_lease = std::chrono::hours(24 * 30) - std::chrono::seconds(2);

void check_range(std::string_view name, milliseconds value) {
  if (value.count() > 0 && value <= max_lease) return;
  throw InvalidOption(
      fmt::format("LockOptions::{} is {} ms; it must be more than 0 and at most {} "
                  "ms (30 days less 2 s)",
                  name, value.count(), max_lease.count()));
}

/// Checked before anything is made of them.
LockOptions checked(LockOptions options) {
  check_range("timeout", options.timeout);
  check_range("interval", options.interval);
  return options;
}

}  // namespace

BasicLock::BasicLock(const MemcachedClient& client, std::string_view key, LockOptions options,
                     LockType type)
    : spec_([&] {
        Key made(client.options().prefix, options.scope, key);
        return std::make_shared<const detail::LockSpec>(client.cluster_, std::move(made),
                                                        checked(std::move(options)), type);
      }()) {}

BasicLock::~BasicLock() { leave_for_good(); }

BasicLock::BasicLock(BasicLock&& other) noexcept
    : spec_(other.spec_),  // NOLINT(performance-move-constructor-init): the other can be used again
      hold_(std::exchange(other.hold_, {})) {}

BasicLock& BasicLock::operator=(BasicLock&& other) noexcept {
  if (this == &other) return *this;
  leave_for_good();
  spec_ = other.spec_;
  hold_ = std::exchange(other.hold_, {});
  return *this;
}

void BasicLock::lock() & { acquire(std::nullopt, {}); }
void BasicLock::lock(const std::stop_token& stop) & { acquire(std::nullopt, stop); }
bool BasicLock::try_lock() { return acquire(std::chrono::nanoseconds(0), {}); }

bool BasicLock::acquire(Limit limit, const std::stop_token& stop) {
  refresh();
  if (hold_.enter_unprotected(*spec_)) return true;
  detail::ThreadWaker waker;
  const auto wake = [&waker] { waker.wake(); };
  const bool once = limit == std::chrono::nanoseconds(0);
  detail::Acquisition acquisition(
      spec_, hold_, once ? detail::Waiting::nothing : detail::Waiting::thread, limit, wake);
  const std::stop_callback on_stop(stop, wake);
  while (const auto until = acquisition.step(stop.stop_requested())) {
    waker.wait_until(*until, acquisition.mailbox());
  }
  return acquisition.acquired();
}

/// The client's lists of servers may have changed since it was made.
void BasicLock::refresh() {
  if (spec_->is_current()) return;
  spec_ = spec_->at(spec_->cluster->agreement().first_server_of(spec_->key));
}

Release BasicLock::release() { return leave(std::nullopt); }

/// Out of one level; with the last one the lock is released, or reserved for a while.
Release BasicLock::leave(std::optional<milliseconds> reservation,
                         const detail::SharedFailure* failure) {
  const OwnerId owner = hold_.owner;
  Release outcome = Release::released;
  const auto holding = hold_.leave(*spec_, reservation.has_value(), outcome);
  if (holding == nullptr) return outcome;
  if (!reservation) return holding->release(failure);
  const auto forget = [owner, kept = std::weak_ptr(holding)] {
    if (const auto lapsed = kept.lock()) detail::ReentryTable::instance().forget(owner, lapsed);
  };
  if (holding->reserve(*reservation, forget)) return Release::released;
  detail::ReentryTable::instance().forget(owner, holding);
  return Release::lost;
}

/// What the end of the object does.
void BasicLock::leave_for_good() noexcept {
  if (hold_.is_inherited()) hold_.clear();
  while (hold_.depth != 0) {
    if (!hold_.on_loop) {
      unlock();
      continue;
    }
    Release outcome{};
    const auto holding = hold_.leave(*spec_, false, outcome);
    if (holding != nullptr && !holding->release_in_background()) (void)holding->release();
  }
}

void BasicLock::reserve(milliseconds time) { leave(time); }

void BasicLock::unlock() noexcept {
  try {
    (void)release();
  } catch (const std::system_error& error) {
    notify(EventKind::misused, 0, error.what());
    if (hold_.is_inherited()) hold_.clear();
  } catch (const std::exception& error) {
    notify(EventKind::unavailable, 0, error.what());
  }
}

bool BasicLock::extend() {
  hold_.require(*spec_);
  if (hold_.unprotected > 0) return false;
  const auto holding = hold_.holding;  // its loss callback may release it
  return holding->extend(spec_->options.timeout);
}

bool BasicLock::owns_lock() const { return lease().owns_lock(); }
milliseconds BasicLock::remaining() const { return lease().remaining(); }

FencingToken BasicLock::fencing_token() const { return lease().fencing_token(); }
std::stop_token BasicLock::lost() const { return lease().lost(); }
Lease BasicLock::lease() const { return hold_.unprotected > 0 ? Lease() : Lease(hold_.holding); }

void BasicLock::notify(EventKind kind, int attempt, std::string_view detail) const noexcept {
  Event event;
  event.kind = kind;
  event.attempt = attempt;
  if (hold_.holding != nullptr) event.token = hold_.holding->fencing_token();
  event.detail = detail;
  spec_->notify(event);
}

}  // namespace memcachedlock
