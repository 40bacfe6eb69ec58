#include "memcachedlock/lock.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <random>
#include <system_error>
#include <utility>

#include "backend.hpp"
#include "memcachedlock/error.hpp"
#include "owners.hpp"
#include "process.hpp"
#include "tenure.hpp"

namespace memcachedlock {

namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// memcached takes a TTL over 30 days for an absolute time; two seconds go to the rounding.
constexpr milliseconds longest_lease = std::chrono::hours(24 * 30) - std::chrono::seconds(2);

void check_range(std::string_view name, milliseconds value) {
  if (value.count() > 0 && value <= longest_lease) return;
  throw InvalidOption(
      fmt::format("LockOptions::{} is {} ms; it must be more than 0 and at most {} "
                  "ms (30 days less 2 s)",
                  name, value.count(), longest_lease.count()));
}

/// The pauses of one wait: short first, then growing with jitter up to `interval`.
class Pauses {
 public:
  explicit Pauses(milliseconds longest) : longest_(longest) {}

  /// Sleeps, no longer than until `limit`. False once `stop` is requested.
  bool sleep(std::optional<Clock::time_point> limit, const std::stop_token& stop) {
    thread_local std::minstd_rand random(std::random_device{}());
    std::uniform_real_distribution<double> jitter(0.5, 1.0);
    auto until = Clock::now() + std::chrono::duration_cast<Clock::duration>(next_ * jitter(random));
    next_ = std::min<Clock::duration>(next_ * 2, longest_);
    if (limit) until = std::min(until, *limit);
    return sleep_until(until, stop);
  }

  static bool sleep_until(Clock::time_point until, const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    return !never.wait_until(lock, stop, until, [&] { return stop.stop_requested(); });
  }

 private:
  Clock::duration longest_;
  Clock::duration next_ = std::min<Clock::duration>(std::chrono::microseconds(500), longest_);
};

}  // namespace

BasicLock::BasicLock(const MemcachedClient& client, std::string_view key, LockOptions options,
                     detail::Reentry reentry)
    : client_(client),
      key_(client_.options().prefix, options.scope, key),
      options_(std::move(options)),
      reentry_(reentry) {
  check_range("timeout", options_.timeout);
  check_range("interval", options_.interval);
}

BasicLock::~BasicLock() {
  while (state_ != State::free) unlock();
}

BasicLock::BasicLock(BasicLock&& other) noexcept
    : client_(other.client_),
      key_(other.key_),
      options_(other.options_),
      reentry_(other.reentry_),
      state_(std::exchange(other.state_, State::free)),
      depth_(std::exchange(other.depth_, 0)),
      generation_(other.generation_),
      tenure_(std::move(other.tenure_)) {}

BasicLock& BasicLock::operator=(BasicLock&& other) noexcept {
  if (this == &other) return *this;
  while (state_ != State::free) unlock();
  client_ = other.client_;
  key_ = other.key_;
  options_ = other.options_;
  reentry_ = other.reentry_;
  state_ = std::exchange(other.state_, State::free);
  depth_ = std::exchange(other.depth_, 0);
  generation_ = other.generation_;
  tenure_ = std::move(other.tenure_);
  return *this;
}

void BasicLock::lock() { acquire(std::nullopt, {}); }
void BasicLock::lock(const std::stop_token& stop) { acquire(std::nullopt, stop); }
bool BasicLock::try_lock() { return acquire(SteadyTime::min(), {}); }

/// The whole acquire path: enter again if its owner is inside; else ask memcached until it says
/// yes, the time is over, or the wait is cancelled. SteadyTime::min() asks once.
bool BasicLock::acquire(std::optional<SteadyTime> deadline, const std::stop_token& stop) {
  if (generation_ != detail::process_generation()) clear();  // what is held is the parent's
  if (state_ != State::free && reentry_ == detail::Reentry::never) {
    throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                            "memcachedlock: this Lock is already held; use RLock to enter again");
  }
  if (state_ == State::unprotected) {
    ++depth_;
    return true;
  }
  const OwnerId owner = depth_ == 0 ? options_.owner.resolved() : owner_;
  const auto started = Clock::now();
  Pauses pauses(options_.interval);
  bool told_contended = false;
  for (;;) {
    if (stop.stop_requested()) break;
    auto retry_at = SteadyTime::min();
    if (attempt(owner, started, told_contended, retry_at)) return true;
    if (deadline && Clock::now() >= *deadline) return false;
    const bool guarded = retry_at != SteadyTime::min();
    if (guarded && deadline) retry_at = std::min(retry_at, *deadline);
    if (!(guarded ? Pauses::sleep_until(retry_at, stop) : pauses.sleep(deadline, stop))) break;
  }
  throw Cancelled(fmt::format("waiting for \"{}\" was cancelled", key_.text()), key_.text());
}

bool BasicLock::attempt(const OwnerId& owner, SteadyTime started, bool& told_contended,
                        SteadyTime& retry) {
  detail::Server& server = client_.backend_->server_of(key_);
  try {
    if (reentry_ == detail::Reentry::by_owner) {
      if (auto inside = detail::Owners::instance().enter(server, key_, owner)) {
        if (!inside->is_reserved()) {
          take(std::move(inside), owner);
          return true;
        }
        if (inside->resume()) {
          take(detail::Owners::instance().put(key_, owner, inside), owner);
          if (options_.renew) tenure_->start_renewal();
          tenure_->notify(EventKind::acquired, Clock::now() - started);
          return true;
        }
        detail::Owners::instance().forget(key_, owner, inside);
      }
    }
    const bool named = reentry_ == detail::Reentry::by_owner;
    auto result = detail::Tenure::acquire(client_.backend_, key_, options_,
                                          named ? owner : OwnerId::this_thread());
    if (auto* guarded = std::get_if<detail::Tenure::Guarded>(&result)) {
      retry = guarded->until;
      return false;
    }
    if (auto* got = std::get_if<std::shared_ptr<detail::Tenure>>(&result)) {
      auto tenure = *got;
      if (reentry_ == detail::Reentry::by_owner) {
        tenure = detail::Owners::instance().put(key_, owner, *got);
        if (tenure != *got) (*got)->withdraw();  // its owner got it in another thread meanwhile
      }
      take(tenure, owner);
      tenure_->notify(EventKind::acquired, Clock::now() - started);
      return true;
    }
    if (!std::exchange(told_contended, true)) notify(EventKind::contended);
    return false;
  } catch (const LeaseLost&) {
    throw;
  } catch (const Error& error) {
    notify(EventKind::unavailable, 0, {}, error.what());
    const bool of_memcached = dynamic_cast<const Unavailable*>(&error) != nullptr ||
                              dynamic_cast<const ServerError*>(&error) != nullptr;
    if (!of_memcached || options_.on_unavailable == OnUnavailable::fail) throw;
    state_ = State::unprotected;
    generation_ = detail::process_generation();
    depth_ = 1;
    notify(EventKind::proceeded_unlocked, 0, {}, error.what());
    return true;
  }
}

void BasicLock::take(std::shared_ptr<detail::Tenure> tenure, const OwnerId& owner) {
  tenure_ = std::move(tenure);
  owner_ = owner;
  state_ = State::leased;
  generation_ = detail::process_generation();
  ++depth_;
}

void BasicLock::clear() noexcept {
  state_ = State::free;
  depth_ = 0;
  tenure_.reset();
}

void BasicLock::require_held() const {
  if (state_ != State::free && generation_ == detail::process_generation()) return;
  throw std::system_error(std::make_error_code(std::errc::operation_not_permitted),
                          fmt::format("memcachedlock: \"{}\" is not held", key_.text()));
}

Release BasicLock::release() { return leave(std::nullopt); }

/// Out of one level; with the last one the lock is released, or reserved for a while.
Release BasicLock::leave(std::optional<milliseconds> reservation) {
  require_held();
  if (state_ == State::unprotected) {
    if (--depth_ == 0) clear();
    return Release::unavailable;
  }
  const auto tenure = tenure_;
  if (--depth_ == 0) clear();
  const bool by_owner = reentry_ == detail::Reentry::by_owner;
  if (by_owner &&
      !detail::Owners::instance().leave(key_, owner_, tenure, reservation.has_value())) {
    return tenure->owns() ? Release::released : Release::lost;
  }
  if (!reservation) return tenure->release();
  tenure->reserve(*reservation);
  if (tenure->is_reserved()) return Release::released;
  detail::Owners::instance().forget(key_, owner_, tenure);
  return Release::lost;
}

void BasicLock::reserve(milliseconds time) { leave(time); }

void BasicLock::unlock() noexcept {
  try {
    (void)release();
  } catch (const std::exception& error) {
    notify(EventKind::unavailable, 0, {}, error.what());
    if (generation_ != detail::process_generation()) clear();
  }
}

bool BasicLock::extend() {
  require_held();
  if (state_ == State::unprotected) return false;
  return tenure_->extend(options_.timeout, client_.options().operation_timeout);
}

bool BasicLock::owns_lock() const { return tenure_ != nullptr && tenure_->owns(); }

milliseconds BasicLock::remaining() const {
  return tenure_ != nullptr ? tenure_->remaining() : milliseconds(0);
}

FencingToken BasicLock::fencing_token() const { return lease().fencing_token(); }
std::stop_token BasicLock::lost() const { return lease().lost(); }
Lease BasicLock::lease() const { return Lease(tenure_); }

void BasicLock::notify(EventKind kind, int attempt, std::chrono::nanoseconds duration,
                       std::string_view detail) const noexcept {
  Event event;
  event.kind = kind;
  event.key = key_.text();
  event.scope = options_.scope;
  event.server = client_.backend_->server_of(key_).name();
  event.attempt = attempt;
  event.duration = duration;
  event.token = tenure_ != nullptr ? tenure_->fencing_token() : FencingToken{};
  event.detail = detail;
  client_.backend_->notify(event);
}

}  // namespace memcachedlock
