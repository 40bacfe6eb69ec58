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

/// Between "cannot be kept" and "somebody else may hold it".
milliseconds margin_of(milliseconds lease) { return std::min(lease / 8, milliseconds(500)); }

/// Takes away what an acquire without an answer may have left: it would keep others out for a
/// whole lease. Gives up when the item's lifetime is certainly over.
class Cleanup final : public Keeper::Task {
 public:
  Cleanup(std::shared_ptr<Backend> backend, const Key& key, std::string token, milliseconds lease)
      : backend_(std::move(backend)),
        key_(key),
        token_(std::move(token)),
        until_(Clock::now() + std::chrono::seconds(ttl_of(lease)) +
               backend_->options().operation_timeout) {}

  std::optional<Clock::time_point> on_time(milliseconds) override {
    const auto now = Clock::now();
    try {
      Server& server = backend_->server_of(key_);
      const View view = server.read(key_);
      const auto record = view.lock ? Record::parse(view.lock->value) : std::nullopt;
      if (record && record->has(token_) && record->members.size() == 1 &&
          server.remove_if(key_, view.lock->cas) == Removal::removed) {
        return std::nullopt;
      }
    } catch (const Error&) {  // still unavailable
    }
    pause_ = std::min(pause_ * 2, milliseconds(1'000));
    return now + pause_ < until_ ? std::optional(now + pause_) : std::nullopt;
  }

 private:
  const std::shared_ptr<Backend> backend_;
  const Key key_;
  const std::string token_;
  const Clock::time_point until_;
  milliseconds pause_{25};
};

void clean_up_later(const std::shared_ptr<Backend>& backend, const Key& key,
                    const std::string& token, milliseconds lease) {
  Keeper::instance().schedule(std::make_shared<Cleanup>(backend, key, token, lease),
                              Clock::now() + milliseconds(25));
}

}  // namespace

Tenure::Attempt Tenure::acquire(std::shared_ptr<Backend> backend, const Key& key,
                                const LockOptions& options, const OwnerId& owner) {
  Server& server = backend->server_of(key);
  const Admission before = server.prepare(key, options.timeout, options.restart_guard);
  if (!before.open) return Guarded{before.retry_at};

  const std::string token = next_token();
  Record record;
  record.lease = options.timeout;
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
          tenure->release();
          return Guarded{now.retry_at};
        }
        if (!tenure->owns()) {  // the answer came when the lease had run out
          tenure->release();
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
      joined.fence = joined.fence != 0 ? joined.fence : view.lock->cas;
      joined.add(token);
      view = server.cas_and_read(key, joined.encode(), joined.lease, view.lock->cas,
                                 backend->options().operation_timeout);
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

Tenure::Tenure(std::shared_ptr<Backend> backend, const Key& key, const LockOptions& options,
               const OwnerId& owner, Record record, std::string token, const Item& item,
               std::uint64_t epoch, Clock::time_point deadline)
    : backend_(std::move(backend)),
      server_(backend_->server_of(key)),
      key_(key),
      scope_(options.scope),
      owner_(owner),
      lease_(options.timeout),
      token_(std::move(token)),
      fence_{epoch, record.fence != 0 ? record.fence : item.cas},
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
    Record next = record_;
    next.reserved = reserved;
    if (next.members.size() == 1) {
      next.lease = lease;
    } else {
      next.lease = std::max(next.lease, lease);
    }
    next.fence = fence_.sequence;
    next.writes = ++writes_;  // tells this writing from one before that went unanswered
    const std::string value = next.encode();
    const View view = server_.cas_and_read(key_, value, next.lease, cas_, limit);
    const auto found = view.lock ? Record::parse(view.lock->value) : std::nullopt;
    if (!found || !found->has(token_)) return Write::lost;
    cas_ = view.lock->cas;
    record_ = *found;
    if (view.lock->value != value) continue;
    if (Clock::now() >= started + lease) return Write::lost;
    deadline_.store(started + lease);
    return Write::done;
  }
  return Write::lost;
}

bool Tenure::extend(milliseconds lease, milliseconds limit) {
  bool extended = false;
  {
    const MutexLock lock(mutex_);
    if (state_.load() != State::held) return false;
    if (!owns() || write(false, lease, limit) == Write::lost) {
      state_.store(State::lost);
    } else {
      extended = true;
    }
  }
  if (!extended) {
    announce_loss();
    return false;
  }
  notify(EventKind::extended);
  return true;
}

/// Compare-and-delete; where others share the record, out of it by compare-and-swap.
Release Tenure::take_away() {
  for (int tries = 0; tries < most_tries; ++tries) {
    if (record_.members.size() > 1) {
      Record next = record_;
      next.remove(token_);
      next.fence = fence_.sequence;
      next.writes = ++writes_;
      const View view = server_.cas_and_read(key_, next.encode(), next.lease, cas_,
                                             backend_->options().operation_timeout);
      const auto found = view.lock ? Record::parse(view.lock->value) : std::nullopt;
      if (!found) return Release::lost;
      if (!found->has(token_)) {
        return found->owner == next.owner ? Release::released : Release::lost;
      }
      cas_ = view.lock->cas;
      record_ = *found;
      continue;
    }
    switch (server_.remove_if(key_, cas_)) {
      case Removal::removed:
        return Release::released;
      case Removal::absent:
        return Release::lost;
      case Removal::changed:
        break;
    }
    // Ours all the same where an extension went unanswered, or another process joined.
    const View view = server_.read(key_);
    const auto found = view.lock ? Record::parse(view.lock->value) : std::nullopt;
    if (!found || !found->has(token_)) return Release::lost;
    cas_ = view.lock->cas;
    record_ = *found;
  }
  return Release::unavailable;
}

Release Tenure::release() {
  Release outcome = Release::lost;
  std::string trouble;
  {
    const MutexLock lock(mutex_);
    if (generation_ != process_generation()) return Release::lost;  // the parent's
    const bool in_time = owns();
    if (!in_time && state_.load() == State::held) state_.store(State::lost);
    try {
      outcome = take_away();  // also when the lease is over: whoever waits need not wait longer
    } catch (const Error& error) {
      outcome = Release::unavailable;
      trouble = error.what();
    }
    if (!in_time) outcome = Release::lost;
    if (outcome == Release::lost) state_.store(State::lost);
  }
  if (outcome == Release::lost) announce_loss();
  state_.store(State::over);
  Keeper::instance().cancel(shared_from_this());
  if (outcome == Release::released) notify(EventKind::released, Clock::now() - since_);
  if (outcome == Release::unavailable) notify(EventKind::unavailable, {}, trouble);
  return outcome;
}

void Tenure::reserve(milliseconds time) {
  {
    const MutexLock lock(mutex_);
    if (!owns()) {
      if (state_.load() == State::held) state_.store(State::lost);
      return;
    }
    try {
      if (write(true, time, backend_->options().operation_timeout) == Write::lost) {
        state_.store(State::lost);
        return;
      }
    } catch (const Error&) {
      state_.store(State::lost);  // unknown: not to be counted on
      return;
    }
    renewing_.store(false);
    state_.store(State::reserved);
  }
  Keeper::instance().schedule(shared_from_this(), deadline_.load());
  notify(EventKind::reserved, time);
}

bool Tenure::resume() {
  const MutexLock lock(mutex_);
  if (state_.load() != State::reserved || generation_ != process_generation()) return false;
  const bool mine = Clock::now() < deadline_.load() &&
                    write(false, lease_, backend_->options().operation_timeout) == Write::done;
  state_.store(mine ? State::held : State::lost);
  return mine;
}

/// A reservation that was not used: the next need not wait for memcached to expire it.
void Tenure::lapse() {
  {
    const MutexLock lock(mutex_);
    if (state_.load() != State::reserved) return;
    state_.store(State::over);
    try {
      take_away();
    } catch (const Error&) {  // memcached will expire it
    }
  }
  Owners::instance().forget(key_, owner_, shared_from_this());
}

void Tenure::start_renewal() {
  if (renewing_.exchange(true)) return;
  const auto now = Clock::now();
  {
    const MutexLock lock(mutex_);
    next_renewal_ = now + std::max<Clock::duration>((deadline_.load() - now) / 3, {});
  }
  Keeper::instance().schedule(shared_from_this(), now + (deadline_.load() - now) / 3);
}

Clock::time_point Tenure::watch_until() const { return deadline_.load() - margin_of(lease_); }

std::stop_token Tenure::lost() {
  std::stop_token token;
  bool first = false;
  {
    const MutexLock lock(stop_mutex_);
    if (!stop_) {
      stop_.emplace();
      first = true;
      if (announced_) stop_->request_stop();
    }
    token = stop_->get_token();
  }
  if (first && state_.load() == State::held && generation_ == process_generation()) {
    Keeper::instance().schedule(shared_from_this(), watch_until());
  }
  return token;
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

std::optional<Clock::time_point> Tenure::on_time(milliseconds limit) {
  if (generation_ != process_generation()) return std::nullopt;
  const auto now = Clock::now();
  if (is_reserved()) {
    if (now < deadline_.load()) return deadline_.load();
    lapse();
    return std::nullopt;
  }
  if (!mutex_.try_lock()) return now + milliseconds(5);  // somebody extends or releases it now
  std::optional<Clock::time_point> again;
  bool extended = false;
  std::string trouble;
  if (state_.load() == State::held) {
    if (now >= watch_until()) {
      state_.store(State::lost);
    } else if (renewing_.load() && now >= next_renewal_) {
      try {
        const auto left = std::chrono::ceil<milliseconds>(watch_until() - now);
        if (write(false, lease_, std::min(limit, left)) == Write::lost) {
          state_.store(State::lost);
        } else {
          extended = true;
          next_renewal_ = now + lease_ / 3;
        }
      } catch (const Error& error) {
        // Lease time is left: again, more often than the first time.
        trouble = error.what();
        next_renewal_ = now + std::clamp(lease_ / 20, milliseconds(5), milliseconds(1'000));
      }
    }
    again = watch_until();
    if (renewing_.load()) again = std::min(*again, next_renewal_);
  }
  const bool lost = state_.load() == State::lost;
  mutex_.unlock();
  if (extended) notify(EventKind::extended);
  if (!trouble.empty()) notify(EventKind::unavailable, {}, trouble);
  if (lost) {
    announce_loss();
    return std::nullopt;
  }
  return again;
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
