#include "tenure.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "memcachedlock/error.hpp"
#include "owners.hpp"
#include "process.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

// How often a record is read again that others change at the same time.
constexpr int most_tries = 8;

// How long the background thread leaves a server alone that did not answer it.
constexpr milliseconds rest_time{100};

/// Between "cannot be kept" and "somebody else may hold it".
milliseconds margin_of(milliseconds lease) { return std::min(lease / 8, milliseconds(500)); }

/// Takes one member out of the lock's item: by compare-and-delete, or by compare-and-swap where
/// others share it. `record` and `cas` are what is believed to be there; what others have written
/// meanwhile is read again, as an extension that went unanswered may be ours all the same.
Release take_out(Server& server, const Key& key, const std::string& token, Record record, Cas cas) {
  const auto is_in = [&](const std::optional<Item>& item) {
    const auto found = item ? Record::parse(item->value) : std::nullopt;
    if (!found || !found->has(token)) return false;
    record = *found;
    cas = item->cas;
    return true;
  };
  for (int tries = 0; tries < most_tries; ++tries) {
    if (record.members.size() == 1) {
      const Removal removal = server.remove_if(key, cas);
      if (removal == Removal::removed) return Release::released;
      if (removal == Removal::absent || !is_in(server.read(key).lock)) return Release::lost;
      continue;
    }
    Record next = record;
    next.remove(token);
    if (next.fence == 0) next.fence = cas.id;
    next.stamp = next_stamp();
    const View view = server.cas_and_read(key, next.encode(), next.lease, cas);
    if (!is_in(view.lock)) {
      const auto found = view.lock ? Record::parse(view.lock->value) : std::nullopt;
      // Of the same holding, and without us: that was this attempt, or an earlier one.
      const bool ours = found && found->owner == next.owner && found->fence == next.fence;
      return ours ? Release::released : Release::lost;
    }
  }
  return Release::unavailable;
}

/// Takes away what an acquire without an answer may have left: it would keep others out for a
/// whole lease. Gives up when the item's lifetime is certainly over.
class Cleanup final : public Keeper::Task {
 public:
  Cleanup(std::shared_ptr<Backend> backend, Key key, std::string token, milliseconds lease)
      : backend_(std::move(backend)),
        key_(std::move(key)),
        token_(std::move(token)),
        until_(Clock::now() + lease + ServerClock::longest_rounding +
               backend_->options().operation_timeout) {}

  std::optional<Keeper::Times> on_time(milliseconds limit) override {
    Server& server = backend_->server_of(key_);
    try {
      if (Clock::now() >= server.resting_until()) {
        const View view = server.read(key_, limit);
        const auto record = view.lock ? Record::parse(view.lock->value) : std::nullopt;
        if (record && record->has(token_) &&
            take_out(server, key_, token_, *record, view.lock->cas) == Release::released) {
          return std::nullopt;
        }
      }
    } catch (const Error&) {
      server.rest(Clock::now() + rest_time);
    }
    pause_ = std::min(pause_ * 2, milliseconds(1'000));
    const auto next = Clock::now() + pause_;
    return next < until_ ? std::optional(Keeper::Times{next, until_}) : std::nullopt;
  }

  static constexpr milliseconds first_pause{25};

 private:
  const std::shared_ptr<Backend> backend_;
  const Key key_;
  const std::string token_;
  const Clock::time_point until_;
  milliseconds pause_ = first_pause;
};

void clean_up_later(const std::shared_ptr<Backend>& backend, const Key& key,
                    const std::string& token, milliseconds lease) {
  const auto now = Clock::now();
  Keeper::instance().schedule(std::make_shared<Cleanup>(backend, key, token, lease),
                              {now + Cleanup::first_pause, now + lease});
}

}  // namespace

Tenure::Attempt Tenure::acquire(const std::shared_ptr<Backend>& backend, const Key& key,
                                const LockOptions& options, const OwnerId& owner) {
  Server& server = backend->server_of(key);
  const Admission before = server.prepare(key, options.timeout, options.restart_guard);
  if (!before.open) return Guarded{before.retry_at};

  const std::string token = next_token();
  Record record;
  record.lease = options.timeout;
  record.stamp = next_stamp();
  record.owner = owner.word();
  record.add(token);

  const auto started = Clock::now();
  bool may_have_landed = true;
  try {
    View view = server.add_and_read(key, record.encode(), options.timeout);
    for (int tries = 0; tries < most_tries; ++tries) {
      if (!view.lock) {
        // Freed between our two commands, or the server does not keep what it is given.
        view = server.add_and_read(key, record.encode(), options.timeout);
        continue;
      }
      std::optional<Record> found = Record::parse(view.lock->value);
      if (!found) {
        may_have_landed = false;
        throw ServerError(
            fmt::format("the item \"{}\" on {} is no lock: something else uses this name; choose "
                        "another key, or another ClientOptions::prefix",
                        key.item(), server.name()),
            key.text(), server.name());
      }
      if (found->has(token)) {
        const Admission now = server.admit(key, view.epoch, options.timeout, options.restart_guard);
        auto tenure = std::make_shared<Tenure>(backend, key, options, owner, *found, token,
                                               *view.lock, now.epoch, started + options.timeout);
        may_have_landed = false;
        if (!now.open) {
          tenure->withdraw();
          return Guarded{now.retry_at};
        }
        if (!tenure->owns()) {  // the answer came when the lease had run out
          tenure->withdraw();
          return Contended{};
        }
        if (options.renew) tenure->start_renewal();
        return tenure;
      }
      if (!owner.is_named() || found->owner != record.owner) return Contended{};

      // The same owner in another process: join it, or take its reservation.
      Record joined = *found;
      if (joined.reserved) joined.members.clear();
      joined.reserved = false;
      joined.lease = std::max(joined.lease, options.timeout);
      joined.fence = joined.fence != 0 ? joined.fence : view.lock->cas.id;
      joined.stamp = next_stamp();
      joined.add(token);
      view = server.cas_and_read(key, joined.encode(), joined.lease, view.lock->cas);
    }
  } catch (const Error&) {
    if (may_have_landed) clean_up_later(backend, key, token, options.timeout);
    throw;
  }
  throw ServerError(
      fmt::format("{} does not keep what it is given: is its memory full (-M)? Give it more (-m)",
                  server.name()),
      key.text(), server.name());
}

Tenure::Tenure(std::shared_ptr<Backend> backend, Key key, const LockOptions& options, OwnerId owner,
               Record record, std::string token, const Item& item, std::uint64_t epoch,
               Clock::time_point deadline)
    : backend_(std::move(backend)),
      server_(backend_->server_of(key)),
      key_(std::move(key)),
      scope_(options.scope),
      owner_(std::move(owner)),
      lease_(options.timeout),
      token_(std::move(token)),
      fence_{epoch, record.fence != 0 ? record.fence : item.cas.id},
      since_(Clock::now()),
      generation_(process_generation()),
      record_(std::move(record)),
      cas_(item.cas),
      deadline_(deadline) {}

bool Tenure::owns() const {
  return state_.load() == State::held && generation_ == process_generation() &&
         Clock::now() < deadline_.load();
}

milliseconds Tenure::remaining() const {
  if (!owns()) return milliseconds(0);
  const auto left = deadline_.load() - Clock::now();
  return std::max(std::chrono::floor<milliseconds>(left), milliseconds(0));
}

/// Our record anew, with a full lifetime. Reads what is there when others have written too.
Tenure::Write Tenure::write(bool reserved, milliseconds lease, milliseconds limit) {
  for (int tries = 0; tries < most_tries; ++tries) {
    const auto started = Clock::now();
    const bool alone = record_.members.size() == 1;
    Record next = record_;
    next.reserved = reserved && alone;
    next.lease = alone ? lease : std::max(next.lease, lease);
    next.fence = fence_.sequence;
    next.stamp = next_stamp();
    const View view = server_.cas_and_read(key_, next.encode(), next.lease, cas_, limit);
    const auto found = view.lock ? Record::parse(view.lock->value) : std::nullopt;
    if (!found || !found->has(token_)) return Write::lost;
    cas_ = view.lock->cas;
    record_ = *found;
    if (found->stamp != next.stamp) continue;  // somebody else wrote, or an earlier try of ours
    if (Clock::now() >= started + lease) return Write::lost;
    deadline_.store(started + lease);
    return Write::done;
  }
  return Write::lost;
}

/// From held to lost. False when it was not held any more.
bool Tenure::lose() {
  State held = State::held;
  return state_.compare_exchange_strong(held, State::lost);
}

bool Tenure::extend(milliseconds lease, milliseconds limit) {
  bool extended = false;
  {
    const MutexLock lock(mutex_);
    extended = owns() && write(false, lease, limit) == Write::done;
    if (!extended) lose();
    extended = extended && state_.load() == State::held;  // the watch may have given it up
  }
  if (state_.load() == State::lost) announce_loss();
  if (extended) notify(EventKind::extended);
  return extended;
}

Release Tenure::release() {
  if (generation_ != process_generation()) return Release::lost;  // the parent's
  Release outcome = Release::lost;
  std::string trouble;
  {
    const MutexLock lock(mutex_);
    const bool in_time = owns();
    const bool was_held = state_.exchange(State::over) == State::held;
    try {
      // Also when the lease is over: whoever waits need not wait longer.
      outcome = take_out(server_, key_, token_, record_, cas_);
    } catch (const Error& error) {
      outcome = Release::unavailable;
      trouble = error.what();
    }
    if (!in_time || !was_held) outcome = Release::lost;
  }
  end_tasks();
  if (outcome == Release::lost) announce_loss();
  if (outcome == Release::released) notify(EventKind::released, Clock::now() - since_);
  if (outcome == Release::unavailable) notify(EventKind::unavailable, {}, trouble);
  return outcome;
}

void Tenure::withdraw() {
  const MutexLock lock(mutex_);
  state_.store(State::over);
  try {
    take_out(server_, key_, token_, record_, cas_);
  } catch (const Error&) {
    clean_up_later(backend_, key_, token_, lease_);
  }
}

void Tenure::reserve(milliseconds time) {
  {
    const MutexLock lock(mutex_);
    bool kept = false;
    try {
      kept = owns() && write(true, time, backend_->options().operation_timeout) == Write::done;
    } catch (const Error&) {  // unknown: not to be counted on
    }
    State held = State::held;
    if (!state_.compare_exchange_strong(held, kept ? State::reserved : State::lost)) return;
    renewing_.store(false);
  }
  if (!is_reserved()) {
    announce_loss();
    return;
  }
  const auto end = deadline_.load();
  end_tasks();
  Keeper::instance().schedule(shared_from_this(), {end, end});
  notify(EventKind::reserved, time);
}

bool Tenure::resume() {
  const MutexLock lock(mutex_);
  if (!is_reserved() || generation_ != process_generation()) return false;
  const bool mine = Clock::now() < deadline_.load() &&
                    write(false, lease_, backend_->options().operation_timeout) == Write::done;
  state_.store(mine ? State::held : State::over);
  return mine;
}

/// The end of a reservation that was not used: the next need not wait for memcached to expire it.
std::optional<Keeper::Times> Tenure::lapse() {
  const auto end = deadline_.load();
  if (Clock::now() < end) return Keeper::Times{end, end};
  {
    const MutexLock lock(mutex_);
    State reserved = State::reserved;
    if (!state_.compare_exchange_strong(reserved, State::over)) return std::nullopt;
    try {
      take_out(server_, key_, token_, record_, cas_);
    } catch (const Error&) {  // memcached will expire it
    }
  }
  Owners::instance().forget(key_, owner_, shared_from_this());
  return std::nullopt;
}

void Tenure::start_renewal() {
  Keeper::Times times{};
  {
    const MutexLock lock(mutex_);
    if (renewing_.exchange(true)) return;
    next_renewal_ = Clock::now() + (deadline_.load() - Clock::now()) / 3;
    times = next_times();
  }
  Keeper::instance().schedule(shared_from_this(), times);
  start_watch();
}

void Tenure::start_watch() {
  if (state_.load() != State::held || generation_ != process_generation()) return;
  if (watched_.exchange(true)) return;
  Keeper::punctual().schedule(loss_watch(), {watch_until(), watch_until()});
}

void Tenure::end_tasks() {
  Keeper::instance().cancel(shared_from_this());
  if (watched_.exchange(false)) Keeper::punctual().cancel(loss_watch());
}

std::shared_ptr<Keeper::Task> Tenure::loss_watch() {
  return {shared_from_this(), &loss_watch_};  // lives as long as the tenure
}

std::optional<Keeper::Times> Tenure::LossWatch::on_time(milliseconds) {
  if (tenure_.state_.load() != State::held) return std::nullopt;
  const auto until = tenure_.watch_until();
  if (Clock::now() < until) return Keeper::Times{until, until};
  if (tenure_.lose()) tenure_.announce_loss();
  return std::nullopt;
}

Clock::time_point Tenure::watch_until() const { return deadline_.load() - margin_of(lease_); }

Keeper::Times Tenure::next_times() const {
  const auto latest = watch_until();
  return {std::min(next_renewal_, latest), latest};
}

std::stop_token Tenure::lost() {
  start_watch();
  const MutexLock lock(stop_mutex_);
  if (!stop_) {
    stop_.emplace();
    if (announced_) stop_->request_stop();
  }
  return stop_->get_token();
}

void Tenure::announce_loss() {
  std::optional<std::stop_source> stop;
  {
    const MutexLock lock(stop_mutex_);
    if (std::exchange(announced_, true)) return;
    stop = stop_;
  }
  if (stop) stop->request_stop();
  notify(EventKind::lost, Clock::now() - since_);
}

/// Renewal, or the end of a reservation.
std::optional<Keeper::Times> Tenure::on_time(milliseconds limit) {
  if (generation_ != process_generation()) return std::nullopt;
  if (is_reserved()) return lapse();
  const auto now = Clock::now();
  if (now >= watch_until()) return std::nullopt;  // the watch gives it up
  if (!mutex_.try_lock()) return Keeper::Times{now + milliseconds(5), watch_until()};
  bool extended = false;
  std::string trouble;
  std::optional<Keeper::Times> again;
  if (state_.load() == State::held && renewing_.load()) {
    const auto rest = server_.resting_until();
    if (now >= next_renewal_ && now < rest) {
      next_renewal_ = rest;
    } else if (now >= next_renewal_) {
      try {
        const auto left = std::chrono::ceil<milliseconds>(watch_until() - now);
        if (write(false, lease_, std::min(limit, left)) == Write::done) {
          extended = true;
          next_renewal_ = now + lease_ / 3;
        } else {
          lose();
        }
      } catch (const Error& error) {
        // Lease time is left: again, more often than the first time.
        trouble = error.what();
        server_.rest(Clock::now() + std::min(rest_time, lease_ / 20));
        next_renewal_ = now + std::clamp(lease_ / 20, milliseconds(5), milliseconds(1'000));
      }
    }
    again = next_times();
  }
  const bool gone = state_.load() == State::lost;
  mutex_.unlock();
  if (extended) notify(EventKind::extended);
  if (!trouble.empty()) notify(EventKind::unavailable, {}, trouble);
  if (!gone) return again;
  announce_loss();
  return std::nullopt;
}

void Tenure::notify(EventKind kind, std::chrono::nanoseconds duration, std::string_view detail,
                    int attempt) const {
  Event event;
  event.kind = kind;
  event.key = key_.text();
  event.scope = scope_;
  event.server = server_.name();
  event.duration = duration;
  event.token = fence_;
  event.detail = detail;
  event.attempt = attempt;
  backend_->notify(event);
}

}  // namespace memcachedlock::detail
