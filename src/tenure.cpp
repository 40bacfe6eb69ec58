#include "tenure.hpp"

#include <algorithm>
#include <utility>

#include "candidate.hpp"
#include "departure.hpp"
#include "memcachedlock/error.hpp"
#include "owners.hpp"
#include "process.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

/// Between "cannot be kept" and "somebody else may hold it".
milliseconds margin_of(milliseconds lease) { return std::min(lease / 8, milliseconds(500)); }

// A cohort gives way to other processes after so many passes, fewer when they stand in the queue,
// or after so long; where none stands there, for a part of the time that it took.
constexpr unsigned most_passes = 64;
constexpr unsigned most_passes_while_queued = 8;
constexpr milliseconds longest_cohort{50};
constexpr int share_for_others = 16;

}  // namespace

Tenure::Tenure(std::shared_ptr<Backend> backend, Server& server, Key key,
               const LockOptions& options, OwnerId owner, LockType type, Record record,
               std::string token, const Item& item, std::uint64_t epoch, Clock::time_point started,
               Cohort cohort)
    : backend_(std::move(backend)),
      server_(server),
      key_(std::move(key)),
      recent_(Recent::of(key_)),
      scope_(options.scope),
      owner_(std::move(owner)),
      type_(type),
      lease_(options.timeout),
      fair_(options.fair),
      token_(std::move(token)),
      fence_{epoch, record.fence != 0 ? record.fence : item.cas.id},
      started_(started),
      since_(Clock::now()),
      cohort_(cohort),
      generation_(process_generation()),
      record_(std::move(record)),
      cas_(item.cas),
      deadline_(started + lease_) {}

bool Tenure::owns() const {
  return state_.load() == State::held && generation_ == process_generation() &&
         Clock::now() < deadline_.load();
}

milliseconds Tenure::remaining() const {
  if (!owns()) return milliseconds(0);
  const auto left = deadline_.load() - Clock::now();
  return std::max(std::chrono::floor<milliseconds>(left), milliseconds(0));
}

Record Tenure::anew(bool reserved, milliseconds lease) const {
  const bool alone = record_.members.size() == 1;
  Record next = record_;
  next.reserved = reserved && alone;
  next.lease = alone ? lease : std::max(next.lease, lease);
  next.fence = fence_.sequence;
  next.stamp = next_stamp();
  next.date();
  return next;
}

std::optional<Tenure::Write> Tenure::accept(const Record& next, Clock::time_point started,
                                            milliseconds lease, const std::optional<Item>& item) {
  const auto found = record_in(item);
  if (!found || !found->has(token_)) return Write::lost;
  cas_ = item->cas;
  record_ = *found;
  // Somebody else's, or of an earlier try of ours.
  if (found->stamp != next.stamp) return std::nullopt;
  if (Clock::now() >= started + lease) return Write::lost;
  deadline_.store(started + lease);
  return Write::done;
}

/// Our record anew, with a full lifetime. Reads what is there when others have written too.
Tenure::Write Tenure::write(bool reserved, milliseconds lease, milliseconds limit) {
  for (int tries = 0; tries < most_tries; ++tries) {
    const auto started = Clock::now();
    const Record next = anew(reserved, lease);
    const View view = server_.cas_and_read(key_, next.encode(), lifetime(next, fair_), cas_, limit);
    if (const auto outcome = accept(next, started, lease, view.lock)) return *outcome;
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

Tenure::Passed Tenure::pass_on() {
  const auto now = Clock::now();
  // With a request before and one after, as it is for those who wait.
  recent_.note_hold(std::chrono::duration_cast<std::chrono::microseconds>((now - started_) +
                                                                          (since_ - started_)));
  if (record_.members.size() > 1) return {};
  auto next = LocalQueue::claim(server_, key_);
  if (!next) return {};
  const unsigned most = record_.waiters.empty() ? most_passes : most_passes_while_queued;
  if (cohort_.passes < most && now - cohort_.since < longest_cohort) return {hand_over(*next)};
  // Where nobody queues in the record, others may poll all the same.
  if (!record_.waiters.empty()) return {};
  return {false, (now - cohort_.since) / share_for_others};
}

/// Writes the record anew for the next. False when it is not ours any more, or not ours alone.
bool Tenure::hand_over(LocalQueue::Claim& next) {
  const Candidate& candidate = next.candidate();
  // While it is ours alone: a named owner may have been joined since.
  for (int tries = 0; tries < most_tries && record_.members.size() == 1; ++tries) {
    Handed handed;
    handed.token = next_token();
    handed.stamp = next_stamp();
    handed.started = Clock::now();
    handed.cohort = {cohort_.passes + 1, cohort_.since};
    const Record record = candidate.offer(record_, handed);
    try {
      handed.view =
          server_.cas_and_read(key_, record.encode(), lifetime(record, candidate.fair()), cas_);
    } catch (const Error&) {
      take_out_later(candidate.backend(), key_, handed.token, candidate.lease());
      throw;
    }
    const auto found = record_in(handed.view.lock);
    if (found && found->has(handed.token)) {
      next.serve(std::move(handed));
      return true;
    }
    if (!found || !found->has(token_)) return false;
    record_ = *found;  // somebody has entered the queue, or joined
    cas_ = handed.view.lock->cas;
  }
  return false;
}

Release Tenure::release() {
  if (generation_ != process_generation()) return Release::lost;  // the parent's
  Release outcome = Release::lost;
  Passed passed;
  std::string trouble;
  {
    const MutexLock lock(mutex_);
    const bool in_time = owns();
    const bool was_held = state_.exchange(State::over) == State::held;
    try {
      if (in_time && was_held) passed = pass_on();
      // Also when the lease is over: whoever waits need not wait longer.
      outcome = passed.on ? Release::released : depart();
    } catch (const Error& error) {
      outcome = Release::unavailable;
      trouble = error.what();
    }
    // Rather than at the end of its lease.
    if (outcome == Release::unavailable) {
      take_out_later(backend_, key_, token_, lease_, Arrival::certain);
    }
    if (!in_time || !was_held) outcome = Release::lost;
  }
  if (!passed.on) LocalQueue::wake(server_, key_, passed.pause);
  end_tasks();
  if (outcome == Release::lost) announce_loss();
  if (outcome == Release::unavailable) notify(EventKind::unavailable, {}, trouble);
  if (outcome != Release::lost) {
    notify(EventKind::released, Clock::now() - since_,
           outcome == Release::unavailable ? "unavailable" : "");
  }
  return outcome;
}

/// Where somebody came into the queue during the last hold, as is likely to happen again, it reads
/// first: to be refused would cost a round trip more.
Release Tenure::depart() {
  const TakenOut taken =
      take_out(server_, key_, token_, std::move(record_), cas_,
               recent_.arrivals() ? Belief::likely_outdated : Belief::likely_true);
  recent_.note_arrivals(taken.others_wrote);
  return taken.outcome;
}

void Tenure::withdraw() {
  const MutexLock lock(mutex_);
  state_.store(State::over);
  try {
    take_out(server_, key_, token_, std::move(record_), cas_);
  } catch (const Error&) {
    take_out_later(backend_, key_, token_, lease_);
  }
  LocalQueue::wake(server_, key_);
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
      take_out(server_, key_, token_, std::move(record_), cas_);
    } catch (const Error&) {  // memcached will expire it
    }
  }
  LocalQueue::wake(server_, key_);
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
  LocalQueue::wake(server_, key_);
  std::optional<std::stop_source> stop;
  {
    const MutexLock lock(stop_mutex_);
    if (std::exchange(announced_, true)) return;
    stop = stop_;
  }
  if (stop) stop->request_stop();
  notify(EventKind::lost, Clock::now() - since_);
}

std::optional<Keeper::Times> Tenure::on_time(milliseconds limit) {
  return on_time_together({shared_from_this()}, limit).front();
}

/// Renewals, and ends of reservations.
std::vector<std::optional<Keeper::Times>> Tenure::on_time_together(const Keeper::Batch& batch,
                                                                   milliseconds limit) {
  std::vector<std::optional<Keeper::Times>> again(batch.size());
  std::vector<Renewal> renewals;
  const auto started = Clock::now();
  for (std::size_t place = 0; place < batch.size(); ++place) {
    again[place] = static_cast<Tenure&>(*batch[place]).begin_renewal(started, place, renewals);
  }
  std::vector<Renewal*> open;
  for (Renewal& renewal : renewals) {
    const auto left = renewal.tenure->watch_until() - started;
    limit = std::min(limit, std::chrono::ceil<milliseconds>(left));
    open.push_back(&renewal);
  }
  // Again for those that others have written to, and those whose CAS ids are from a connection that
  // is closed.
  for (int tries = 0; tries < most_tries && !open.empty(); ++tries) renew(open, limit);
  for (Renewal* renewal : open) renewal->tenure->lose();
  for (Renewal& renewal : renewals) renewal.tenure->end_renewal(renewal, started);
  // When all are unlocked: who is told may release one of them.
  for (const Renewal& renewal : renewals) again[renewal.place] = renewal.tenure->tell(renewal);
  return again;
}

/// One round trip for all of them; takes those out that need no other.
void Tenure::renew(std::vector<Renewal*>& open, milliseconds limit) {
  const auto started = Clock::now();
  std::vector<std::optional<Item>> items;
  try {
    std::vector<Server::Rewrite> requests;
    for (Renewal* renewal : open) {
      renewal->next = renewal->tenure->anew(false, renewal->tenure->lease_);
      requests.push_back(renewal->tenure->request(renewal->next));
    }
    items = server_.cas_and_read_all(requests, limit);
  } catch (const Error& error) {
    for (Renewal* renewal : open) renewal->trouble = error.what();
    open.clear();
    return;
  }
  std::vector<Renewal*> still_open;
  for (std::size_t at = 0; at < open.size(); ++at) {
    Tenure& tenure = *open[at]->tenure;
    const auto outcome = tenure.accept(open[at]->next, started, tenure.lease_, items[at]);
    if (!outcome) still_open.push_back(open[at]);
    if (outcome == Write::lost) tenure.lose();
  }
  open.swap(still_open);
}

Server::Rewrite Tenure::request(const Record& next) const {
  return {&key_, next.encode(), lifetime(next, fair_), cas_};
}

std::optional<Keeper::Times> Tenure::begin_renewal(Clock::time_point now, std::size_t place,
                                                   std::vector<Renewal>& renewals) {
  if (generation_ != process_generation()) return std::nullopt;
  if (is_reserved()) return lapse();
  if (now >= watch_until()) return std::nullopt;  // the watch gives it up
  if (!mutex_.try_lock()) return Keeper::Times{now + milliseconds(5), watch_until()};
  std::optional<Keeper::Times> again;
  if (state_.load() == State::held && renewing_.load()) {
    const auto rest = server_.resting_until();
    if (now >= next_renewal_ && now >= rest) {
      renewals.push_back({.place = place, .tenure = this, .next = {}, .trouble = {}, .again = {}});
      return std::nullopt;
    }
    if (now >= next_renewal_) next_renewal_ = rest;
    again = next_times();
  }
  mutex_.unlock();
  if (state_.load() == State::lost) announce_loss();
  return again;
}

void Tenure::end_renewal(Renewal& renewal, Clock::time_point started) {
  if (renewal.trouble.empty()) {
    next_renewal_ = started + lease_ / 3;
  } else {
    // Lease time is left: again, more often than the first time.
    server_.rest(Clock::now() + std::min(rest_time, lease_ / 20));
    next_renewal_ = started + std::clamp(lease_ / 20, milliseconds(5), milliseconds(1'000));
  }
  renewal.again = next_times();
  mutex_.unlock();
}

std::optional<Keeper::Times> Tenure::tell(const Renewal& renewal) {
  if (!renewal.trouble.empty()) notify(EventKind::unavailable, {}, renewal.trouble);
  if (state_.load() == State::lost) {
    announce_loss();
    return std::nullopt;
  }
  if (state_.load() != State::held) return std::nullopt;  // released since
  if (renewal.trouble.empty()) notify(EventKind::extended);
  return renewal.again;
}

void Tenure::notify(EventKind kind, std::chrono::nanoseconds duration,
                    std::string_view detail) const {
  if (!backend_->options().observer) return;
  Event event;
  event.kind = kind;
  event.key = key_.text();
  event.scope = scope_;
  event.server = server_.name();
  event.lock = type_;
  event.duration = duration;
  event.token = fence_;
  event.detail = detail;
  backend_->notify(event);
}

}  // namespace memcachedlock::detail
