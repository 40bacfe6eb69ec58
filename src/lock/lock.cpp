#include "memcachedlock/lock.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/clock.hpp"
#include "base/process.hpp"
#include "lock/candidate.hpp"
#include "lock/lock_spec.hpp"
#include "lock/owners.hpp"
#include "lock/tenure.hpp"
#include "lock/wait.hpp"
#include "memcachedlock/error.hpp"
#include "waiting/local_queue.hpp"
#include "waiting/pace.hpp"

namespace memcachedlock {

namespace {

using std::chrono::milliseconds;

// memcached takes a TTL over 30 days for an absolute time; two seconds go to the rounding.
constexpr milliseconds longest_lease = std::chrono::hours(24 * 30) - std::chrono::seconds(2);

void check_range(std::string_view name, milliseconds value) {
  if (value.count() > 0 && value <= longest_lease) return;
  throw InvalidOption(
      fmt::format("LockOptions::{} is {} ms; it must be more than 0 and at most {} "
                  "ms (30 days less 2 s)",
                  name, value.count(), longest_lease.count()));
}

using detail::Clock;

void sleep_until(Clock::time_point until, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  while (!stop.stop_requested()) {
    const auto now = Clock::now();
    if (now >= until) return;
    never.wait_until(lock, stop, std::min<Clock::time_point>(until, now + detail::longest_nap),
                     [&] { return stop.stop_requested(); });
  }
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
        return std::make_shared<const detail::LockSpec>(client.backend_, std::move(made),
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

void BasicLock::lock() { acquire(std::nullopt, {}); }
void BasicLock::lock(const std::stop_token& stop) { acquire(std::nullopt, stop); }
bool BasicLock::try_lock() { return acquire(std::chrono::nanoseconds(0), {}); }

bool BasicLock::reenters() const noexcept { return spec_->type != LockType::lock; }

/// Held by the parent, before the fork that made this process.
bool BasicLock::is_inherited() const noexcept {
  return hold_.depth != 0 && hold_.generation != detail::process_generation();
}

/// The whole acquire path: enter again if its owner is inside; else ask memcached until it says
/// yes, the time is over, or the wait is cancelled; or until a thread of this process hands the
/// lock over. No time at all: asks once.
bool BasicLock::acquire(Limit limit, const std::stop_token& stop) {
  if (is_unprotected()) return true;
  const bool once = limit == std::chrono::nanoseconds(0);
  const auto deadline = limit ? std::optional(Clock::now() + *limit) : std::nullopt;
  Wait wait(*this, once ? Wait::Way::once : Wait::Way::thread);
  while (!stop.stop_requested()) {
    if ((!wait.place || wait.place->may_ask()) && attempt(wait, {})) return true;
    if (deadline && Clock::now() >= *deadline) {
      tell_end(wait, EventKind::given_up, "timed_out");
      return false;
    }
    if (!wait.place) {
      sleep_until(deadline ? std::min(wait.again, *deadline) : wait.again, stop);
      continue;
    }
    Attempt how{wait.place->sleep(deadline, stop)};
    if (how.woken.index() != 0 && attempt(wait, std::move(how))) return true;
  }
  cancel(wait);
}

/// Before an acquire: true when it enters again what runs without a lock.
bool BasicLock::is_unprotected() {
  if (is_inherited()) clear();
  if (hold_.depth != 0 && !reenters()) {
    throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                            "memcachedlock: this Lock is already held; use RLock to enter again");
  }
  if (hold_.unprotected == 0) return false;
  ++hold_.unprotected;
  ++hold_.depth;
  return true;
}

/// A coroutine has no thread, so without a name the lock object itself is the owner.
OwnerId BasicLock::owner_of(detail::WayToWait way) {
  if (hold_.depth != 0) return hold_.owner;
  const OwnerId& owner = spec_->options.owner;
  if (way != Wait::Way::background || owner != OwnerId::this_thread()) return owner.resolved();
  if (hold_.loop_owner == OwnerId::this_thread()) hold_.loop_owner = OwnerId::unique();
  return hold_.loop_owner;
}

void BasicLock::cancel(Wait& wait) const {
  tell_end(wait, EventKind::given_up, "cancelled");
  const std::string& key = spec_->key.text();
  throw Cancelled(fmt::format("waiting for \"{}\" was cancelled", key), key, spec_->server.name());
}

/// ask(), and what becomes of its errors.
bool BasicLock::attempt(Wait& wait, Attempt how) {
  const bool proceeds = spec_->options.on_unavailable == OnUnavailable::proceed;
  const auto began = Clock::now();
  const auto in_vain = [&](const Error& error) {
    tell_end(wait, EventKind::given_up,
             dynamic_cast<const LeaseLost*>(&error) != nullptr ? "lost" : "unavailable");
  };
  const auto not_answered = [&](const Error& error, bool is_setting) {
    notify(EventKind::unavailable, 0, {}, error.what());
    if (wait.asked && wait.place) wait.place->fail({is_setting, error.what(), error.server()});
    // Of other keys too, where it took its time: not what is wrong with this one.
    const bool took_long = Clock::now() - began >= spec_->backend->options().operation_timeout / 2;
    if (wait.asked && took_long && !is_setting && wait.way == Wait::Way::background) {
      spec_->server.note_failure({is_setting, error.what(), error.server()});
    }
    if (!proceeds) in_vain(error);
  };
  wait.asked = false;
  try {
    return ask(wait, std::move(how));
  } catch (const LeaseLost& error) {
    // Its owner has lost it further out. A store in front of which a ZLock stands protects its
    // data.
    if (spec_->type != LockType::zlock) {
      in_vain(error);
      throw;
    }
    go_unprotected(wait, error.what());
  } catch (const Unavailable& error) {
    not_answered(error, false);
    if (!proceeds) throw;
    go_unprotected(wait, error.what());
  } catch (const ServerError& error) {
    not_answered(error, true);
    if (!proceeds) throw;
    go_unprotected(wait, error.what());
  }
  return true;
}

/// One request, or what came from another thread.
bool BasicLock::ask(Wait& wait, Attempt how) {
  if ((!wait.place || wait.owner_moves) && reenter(wait)) return true;
  if (const auto* failure = std::get_if<detail::SharedFailure>(&how.woken)) {
    const std::string& key = spec_->key.text();
    const std::string what = failure->what.substr(failure->what.find(": ") + 2);
    if (failure->is_setting) throw ServerError(what, key, failure->server);
    throw Unavailable(what, key, failure->server);
  }
  if (!wait.place && wait.lines_up && somebody_waits(wait)) {
    line_up(wait);
    if (!wait.place->may_ask()) {
      tell_contended(wait);
      return false;
    }
  }
  const bool may_queue = wait.waits && (wait.place || !wait.lines_up);
  auto* const handed = std::get_if<detail::Handed>(&how.woken);
  if (spec_->options.renew) detail::Tenure::prepare_renewal(*spec_);
  wait.asked = handed == nullptr;
  auto result = handed != nullptr ? wait.candidate.receive(std::move(*handed))
                                  : wait.candidate.ask(may_queue, wait.lines_up);
  if (auto* got = std::get_if<std::shared_ptr<detail::Tenure>>(&result)) {
    auto tenure = *got;
    if (wait.by_owner) {
      tenure = detail::Owners::instance().put(wait.owner, *got);
      if (tenure != *got) (*got)->withdraw();  // its owner got it in another thread meanwhile
    }
    const bool ours = tenure == *got;
    take(std::move(tenure), wait);
    if (ours) {
      tell_end(wait, EventKind::acquired);
    } else {
      tell_end(wait, EventKind::given_up, "entered");
    }
    return true;
  }
  if (const auto* guarded = std::get_if<detail::Candidate::Guarded>(&result)) {
    wait.place.reset();  // those behind may not have to wait for it
    wait.again = guarded->until;
    return false;
  }
  Clock::duration pause{0};
  const auto& sight = std::get<detail::Candidate::Contended>(result).sight;
  // A holder in this process wakes who lines up, but not who did so only just now.
  const bool unseen = wait.lines_up && !wait.place && sight.local;
  if (!unseen) pause = wait.pauses.after(sight);
  tell_contended(wait);
  wait.again = Clock::now() + pause;
  if (wait.lines_up && !wait.place) line_up(wait);
  if (wait.place) wait.place->ask_after(pause);
  return false;
}

void BasicLock::go_unprotected(Wait& wait, const char* why) {
  hold_.generation = detail::process_generation();
  ++hold_.depth;
  ++hold_.unprotected;
  hold_.owner = wait.owner;
  tell_end(wait, EventKind::proceeded_unlocked, why);
}

/// True when the owner is inside, or comes back to its reservation.
bool BasicLock::reenter(Wait& wait) {
  if (!wait.by_owner) return false;
  detail::Owners& owners = detail::Owners::instance();
  auto inside = owners.enter(*spec_, wait.owner);
  if (!inside) return false;
  if (!inside->is_reserved()) {
    take(std::move(inside), wait);
    if (wait.told_contended) tell_end(wait, EventKind::given_up, "entered");
    return true;
  }
  if (spec_->options.renew) detail::Tenure::prepare_renewal(*spec_);
  if (!inside->resume()) {
    owners.forget(wait.owner, inside);
    return false;
  }
  take(owners.put(wait.owner, inside), wait);
  if (spec_->options.renew) hold_.tenure->start_renewal();
  tell_end(wait, EventKind::acquired);
  return true;
}

/// Then to ask at once would be in vain, or out of turn.
bool BasicLock::somebody_waits(const Wait& /*wait*/) const {
  return detail::LocalQueue::has(spec_->server, spec_->key) ||
         (spec_->options.fair && spec_->recent.contended());
}

void BasicLock::tell_contended(Wait& wait) const {
  if (!std::exchange(wait.told_contended, true)) notify(EventKind::contended);
}

void BasicLock::tell_end(Wait& wait, EventKind kind, std::string_view detail) const {
  notify(kind, 0, Clock::now() - wait.started, detail, std::exchange(wait.told_contended, false));
}

void BasicLock::line_up(Wait& wait) {
  wait.place.emplace(spec_->server, wait.candidate);
  if (wait.wake) wait.place->on_change(wait.wake);
}

void BasicLock::take(std::shared_ptr<detail::Tenure> tenure, const Wait& wait) {
  hold_.tenure = std::move(tenure);
  hold_.owner = wait.owner;
  hold_.generation = detail::process_generation();
  hold_.on_loop = wait.way == Wait::Way::background;
  ++hold_.depth;
}

void BasicLock::clear() noexcept {
  OwnerId loop_owner = std::move(hold_.loop_owner);
  hold_ = {};
  hold_.loop_owner = std::move(loop_owner);
}

void BasicLock::require_held() const {
  if (hold_.depth != 0 && !is_inherited()) return;
  throw std::system_error(std::make_error_code(std::errc::operation_not_permitted),
                          fmt::format("memcachedlock: \"{}\" is not held", spec_->key.text()));
}

Release BasicLock::release() { return leave(std::nullopt); }

/// Out of one level. The last of all objects in which the owner is, if it has to be told that it is
/// free: by whom is left to the caller.
std::shared_ptr<detail::Tenure> BasicLock::leave_level(bool keep, Release& outcome) {
  require_held();
  if (hold_.unprotected > 0) {
    outcome = Release::unavailable;
    --hold_.unprotected;
    if (--hold_.depth == 0) clear();
    return nullptr;
  }
  auto tenure = hold_.tenure;
  const OwnerId owner = hold_.owner;
  if (--hold_.depth == 0) clear();
  if (!reenters() || detail::Owners::instance().leave(owner, tenure, keep)) return tenure;
  outcome = tenure->owns() ? Release::released : Release::lost;
  return nullptr;
}

/// Out of one level; with the last one the lock is released, or reserved for a while.
Release BasicLock::leave(std::optional<milliseconds> reservation) {
  const OwnerId owner = hold_.owner;
  Release outcome = Release::released;
  const auto tenure = leave_level(reservation.has_value(), outcome);
  if (tenure == nullptr) return outcome;
  if (!reservation) return tenure->release();
  tenure->reserve(*reservation);
  if (tenure->is_reserved()) return Release::released;
  detail::Owners::instance().forget(owner, tenure);
  return Release::lost;
}

/// What the end of the object does.
void BasicLock::leave_for_good() noexcept {
  if (is_inherited()) clear();
  while (hold_.depth != 0) {
    if (!hold_.on_loop) {
      unlock();
      continue;
    }
    Release outcome{};
    const auto tenure = leave_level(false, outcome);
    if (tenure != nullptr && !tenure->release_in_background()) (void)tenure->release();
  }
}

void BasicLock::reserve(milliseconds time) { leave(time); }

void BasicLock::unlock() noexcept {
  try {
    (void)release();
  } catch (const std::system_error& error) {
    notify(EventKind::misused, 0, {}, error.what());
    if (is_inherited()) clear();
  } catch (const std::exception& error) {
    notify(EventKind::unavailable, 0, {}, error.what());
  }
}

bool BasicLock::extend() {
  require_held();
  if (hold_.unprotected > 0) return false;
  const auto tenure = hold_.tenure;  // who is told of its loss may release it
  return tenure->extend(spec_->options.timeout);
}

bool BasicLock::owns_lock() const { return lease().owns_lock(); }
milliseconds BasicLock::remaining() const { return lease().remaining(); }

FencingToken BasicLock::fencing_token() const { return lease().fencing_token(); }
std::stop_token BasicLock::lost() const { return lease().lost(); }
Lease BasicLock::lease() const { return hold_.unprotected > 0 ? Lease() : Lease(hold_.tenure); }

void BasicLock::notify(EventKind kind, int attempt, std::chrono::nanoseconds duration,
                       std::string_view detail, bool ends_contention) const noexcept {
  Event event;
  event.kind = kind;
  event.attempt = attempt;
  event.duration = duration;
  event.token = hold_.tenure != nullptr ? hold_.tenure->fencing_token() : FencingToken{};
  event.detail = detail;
  event.ends_contention = ends_contention;
  spec_->notify(event);
}

}  // namespace memcachedlock
