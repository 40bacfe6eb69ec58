#include "memcachedlock/lock.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <utility>

#include "backend.hpp"
#include "candidate.hpp"
#include "local_queue.hpp"
#include "memcachedlock/error.hpp"
#include "owners.hpp"
#include "pace.hpp"
#include "process.hpp"
#include "tenure.hpp"
#include "wait.hpp"

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

void sleep_until(Clock::time_point until, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_until(lock, stop, until, [&] { return stop.stop_requested(); });
}

}  // namespace

BasicLock::BasicLock(const MemcachedClient& client, std::string_view key, LockOptions options,
                     LockType type)
    : client_(client),
      key_(client_.options().prefix, options.scope, key),
      options_(std::move(options)),
      type_(type) {
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
      type_(other.type_),
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
  type_ = other.type_;
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
/// yes, the time is over, or the wait is cancelled; or until a thread of this process hands the
/// lock over. SteadyTime::min() asks once.
bool BasicLock::acquire(std::optional<SteadyTime> deadline, const std::stop_token& stop) {
  if (is_unprotected()) return true;
  Wait wait(*this, deadline == SteadyTime::min() ? Wait::Way::once : Wait::Way::thread);
  while (!stop.stop_requested()) {
    if ((!wait.place || wait.place->may_ask()) && attempt(wait)) return true;
    if (deadline && Clock::now() >= *deadline) {
      tell_end(wait, EventKind::given_up, "timed_out");
      return false;
    }
    if (!wait.place) {
      sleep_until(deadline ? std::min(wait.again, *deadline) : wait.again, stop);
    } else if (auto handed = wait.place->sleep(deadline, stop)) {
      if (attempt(wait, &*handed)) return true;
    }
  }
  cancel(wait);
}

/// Before an acquire: true when it enters again what runs without a lock.
bool BasicLock::is_unprotected() {
  if (generation_ != detail::process_generation()) clear();  // what is held is the parent's
  if (state_ != State::free && !reenters()) {
    throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                            "memcachedlock: this Lock is already held; use RLock to enter again");
  }
  if (state_ != State::unprotected) return false;
  ++depth_;
  return true;
}

void BasicLock::cancel(Wait& wait) const {
  tell_end(wait, EventKind::given_up, "cancelled");
  throw Cancelled(fmt::format("waiting for \"{}\" was cancelled", key_.text()), key_.text());
}

/// One request, or what another thread handed over.
bool BasicLock::attempt(Wait& wait, detail::Handed* handed) {
  try {
    if ((!wait.place || wait.owner_moves) && reenter(wait)) return true;
    if (!wait.place && wait.lines_up && somebody_waits(wait)) {
      line_up(wait);
      if (!wait.place->may_ask()) {
        tell_contended(wait);
        return false;
      }
    }
    const bool may_queue = wait.waits && (wait.place || !wait.lines_up);
    auto result = handed != nullptr ? wait.candidate.receive(std::move(*handed))
                                    : wait.candidate.ask(may_queue, wait.lines_up);
    if (auto* got = std::get_if<std::shared_ptr<detail::Tenure>>(&result)) {
      auto tenure = *got;
      if (wait.by_owner) {
        tenure = detail::Owners::instance().put(key_, wait.owner, *got);
        if (tenure != *got) (*got)->withdraw();  // its owner got it in another thread meanwhile
      }
      const bool ours = tenure == *got;
      take(std::move(tenure), wait.owner);
      if (ours) {
        tell_end(wait, EventKind::acquired);
      } else {
        tell_end(wait, EventKind::given_up, "entered");
      }
      return true;
    }
    Clock::duration pause{0};
    if (const auto* guarded = std::get_if<detail::Candidate::Guarded>(&result)) {
      pause = guarded->until - Clock::now();
    } else {
      const auto& sight = std::get<detail::Candidate::Contended>(result).sight;
      // A holder in this process wakes who lines up, but not who did so only just now.
      const bool unseen = wait.lines_up && !wait.place && sight.local;
      if (!unseen) pause = wait.pauses.after(sight);
      tell_contended(wait);
    }
    wait.again = Clock::now() + pause;
    if (wait.lines_up && !wait.place) line_up(wait);
    if (wait.place) wait.place->ask_after(pause);
    return false;
  } catch (const LeaseLost&) {
    tell_end(wait, EventKind::given_up, "lost");
    throw;
  } catch (const Error& error) {
    notify(EventKind::unavailable, 0, {}, error.what());
    const bool of_memcached = dynamic_cast<const Unavailable*>(&error) != nullptr ||
                              dynamic_cast<const ServerError*>(&error) != nullptr;
    if (!of_memcached || options_.on_unavailable == OnUnavailable::fail) {
      tell_end(wait, EventKind::given_up, "unavailable");
      throw;
    }
    state_ = State::unprotected;
    generation_ = detail::process_generation();
    depth_ = 1;
    tell_end(wait, EventKind::proceeded_unlocked, error.what());
    return true;
  }
}

/// True when the owner is inside, or comes back to its reservation.
bool BasicLock::reenter(Wait& wait) {
  if (!wait.by_owner) return false;
  detail::Owners& owners = detail::Owners::instance();
  auto inside = owners.enter(wait.candidate.server(), key_, wait.owner);
  if (!inside) return false;
  if (!inside->is_reserved()) {
    take(std::move(inside), wait.owner);
    if (wait.told_contended) tell_end(wait, EventKind::given_up, "entered");
    return true;
  }
  if (!inside->resume()) {
    owners.forget(key_, wait.owner, inside);
    return false;
  }
  take(owners.put(key_, wait.owner, inside), wait.owner);
  if (options_.renew) tenure_->start_renewal();
  tell_end(wait, EventKind::acquired);
  return true;
}

/// Then to ask at once would be in vain, or out of turn.
bool BasicLock::somebody_waits(const Wait& wait) const {
  return detail::LocalQueue::has(wait.candidate.server(), key_) ||
         (options_.fair && detail::Recent::of(key_).contended());
}

void BasicLock::tell_contended(Wait& wait) const {
  if (!std::exchange(wait.told_contended, true)) notify(EventKind::contended);
}

void BasicLock::tell_end(Wait& wait, EventKind kind, std::string_view detail) const {
  notify(kind, 0, Clock::now() - wait.started, detail, std::exchange(wait.told_contended, false));
}

void BasicLock::line_up(Wait& wait) {
  wait.place.emplace(wait.candidate.server(), wait.candidate);
  if (wait.wake) wait.place->on_change(wait.wake);
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
  if (reenters() &&
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
                       std::string_view detail, bool ends_contention) const noexcept {
  if (!client_.options().observer) return;
  Event event;
  event.kind = kind;
  event.key = key_.text();
  event.scope = options_.scope;
  event.server = client_.backend_->server_of(key_).name();
  event.lock = type_;
  event.attempt = attempt;
  event.duration = duration;
  event.token = tenure_ != nullptr ? tenure_->fencing_token() : FencingToken{};
  event.detail = detail;
  event.ends_contention = ends_contention;
  client_.backend_->notify(event);
}

}  // namespace memcachedlock
