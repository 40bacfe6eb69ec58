#include "lock/candidate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <system_error>
#include <utility>

#include "base/process.hpp"
#include "lock/record_changes.hpp"
#include "lock/remove_token.hpp"
#include "lock/verdict.hpp"
#include "memcachedlock/error.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

// The record must stay short: every look reads it. A waiter that finds it full polls.
constexpr std::size_t max_waiters = 64;

// A waiter that has polled for this many usual holds and at least `min_starving`
// starves and enters the queue too, unless `max_starving` waiters are in it:
// should they all have died, each costs the others a grace.
constexpr int turns_until_starving = 8;
constexpr milliseconds min_starving{50};
constexpr std::size_t max_starving = 4;

/// How long a lease may still run by its holder's clock when it is over by ours.
Clock::duration drift_of(milliseconds lease) { return lease / 500 + milliseconds(10); }

}  // namespace

Candidate::Candidate(SharedSpec spec, OwnerId owner, std::string label)
    : bid_{std::move(spec), std::move(owner), std::move(label)},
      generation_(process_generation()),
      token_(next_token()),
      stamp_(next_stamp()) {}

Candidate::~Candidate() {
  if (queued_ && generation_ == process_generation()) leave_seat(token_);
}

void Candidate::leave_seat(const std::string& token) noexcept {
  try {
    remove_token(spec_->server, spec_->key, token, spec_->server.read_lock(spec_->key));
  } catch (const Error&) {
    remove_token_later(spec_, token);
  }
}

void Candidate::leave_later() noexcept {
  if (std::exchange(queued_, false)) remove_token_later(spec_, token_, WasStored::yes);
}

std::optional<std::string> Candidate::give_seat() {
  if (!std::exchange(queued_, false)) return std::nullopt;
  return std::exchange(token_, next_token());
}

void Candidate::take_seat(std::string token) {
  token_ = std::move(token);
  queued_ = true;
}

Snapshot Candidate::add() {
  queued_ = false;
  stamp_ = next_stamp();  // a waiter that saw it before must not take it for the old record
  sent_ = taken_by(bid_, {}, token_, stamp_, token_);
  const LockOptions& options = spec_->options;
  return spec_->server.add_and_read(
      spec_->key, *sent_, lease_term(token_, *sent_, options, options.timeout), may_have_landed_);
}

Snapshot Candidate::enter_queue() {
  return spec_->server.append_and_read(spec_->key, Record::waiter_word(token_, bid_.thread_label),
                                       may_have_landed_);
}

Snapshot Candidate::write(Record record, const Cas& cas) {
  sent_ = std::move(record);
  const LockOptions& options = spec_->options;
  return spec_->server.cas_and_read(spec_->key, *sent_,
                                    lease_term(token_, *sent_, options, options.timeout), cas,
                                    may_have_landed_);
}

Snapshot Candidate::write_own(const Record& before, const Cas& cas) {
  stamp_ = next_stamp();
  return write(taken_by(bid_, before, token_, stamp_, token_), cas);
}

/// The same owner in another process has it: join it, or take its reservation.
Snapshot Candidate::join(const Record& before, const Snapshot& snapshot) {
  const Cas& cas = snapshot.lock->cas;
  Record joined = before;
  if (joined.reserved) joined.holders.clear();
  joined.reserved = false;
  joined.lease = std::max(joined.lease, spec_->options.timeout);
  // All members have the first one's token, whatever becomes of the epoch meanwhile.
  if (!joined.fence) joined.fence = {epoch_of(snapshot), cas.id};
  joined.stamp = stamp_ = next_stamp();
  joined.add_holder(token_, bid_.thread_label);
  joined.stamp_times();
  joined.remove_waiter(token_);
  return write(std::move(joined), cas);
}

Snapshot Candidate::evict(Record rest, const Cas& cas) {
  rest.stamp = next_stamp();
  Term term;
  if (rest.holders.empty()) {
    if (rest.waiters.empty() || rest.queue_position(token_) == 0U) return write_own(rest, cas);
    rest.grant_to_first(grace);
    term.lease = grace;
  }
  sent_ = std::move(rest);
  if (term.lease.count() != 0) term.holder = sent_->holders.front().token();
  term.item = lifetime(*sent_, true);
  bool stored = false;  // nothing of ours
  return spec_->server.cas_and_read(spec_->key, *sent_, term, cas, stored);
}

/// By the end that each has put there, if the server's clock shows it when it is asked now: it does
/// not run faster than the holder's, which began to count before. Or by a lease that has run out by
/// our clock, counted from when we first saw it.
std::optional<Record> Candidate::without_dead(const Record& found) {
  const auto now = Clock::now();
  Record rest = found;
  if (found.stamp != seen_stamp_) {
    seen_stamp_ = found.stamp;
    seen_at_ = now;
  } else if (now >= seen_at_ + found.lease + drift_of(found.lease)) {
    rest.holders.clear();
    return rest;
  }
  const auto first_end = std::min_element(
      found.holders.begin(), found.holders.end(), [](const Member& one, const Member& other) {
        return (one.end != 0 ? one.end : std::numeric_limits<std::int64_t>::max()) <
               (other.end != 0 ? other.end : std::numeric_limits<std::int64_t>::max());
      });
  if (first_end->end == 0 || !spec_->server.seems_past(first_end->end)) return std::nullopt;
  const std::int64_t time = spec_->server.time(spec_->key);
  if (!found.has_dead(time)) return std::nullopt;
  rest.remove_dead(time);
  return rest;
}

bool Candidate::is_starving() const {
  if (!contended_) return false;
  const Clock::duration turns = turns_until_starving * spec_->history.hold().usual;
  return Clock::now() - contended_since_ >= std::max<Clock::duration>(turns, min_starving);
}

Candidate::Attempt Candidate::ask(bool may_queue, bool lined_up) {
  const LockOptions& options = spec_->options;
  Server& server = spec_->server;
  may_queue_ = may_queue && (options.fair || is_starving());
  lined_up_ = lined_up;
  const Admission before = server.prepare(spec_->key, options.timeout, options.restart_guard);
  if (!before.open) return Guarded{before.retry_at};
  try {
    const auto started = Clock::now();
    const bool at_once = may_queue_ && options.fair && !queued_ && spec_->history.contended();
    // A later attempt only looks: that costs least.
    if (queued_ || (contended_ && !at_once)) return judge(server.read_lock(spec_->key), started);
    return judge(at_once ? enter_queue() : add(), started);
  } catch (...) {
    if (may_have_landed_ || queued_) remove_token_later(spec_, token_);
    queued_ = false;
    throw;
  }
}

Candidate::Attempt Candidate::receive(Handoff handoff) {
  handoff.snapshot.as_sent = false;  // another thread has sent it
  token_ = std::move(handoff.token);
  stamp_ = std::move(handoff.stamp);
  cohort_ = handoff.cohort;
  may_have_landed_ = true;
  queued_ = false;
  try {
    return judge(std::move(handoff.snapshot), handoff.started);
  } catch (...) {
    if (may_have_landed_) remove_token_later(spec_, token_);
    throw;
  }
}

/// In a copy of the process that is made while one waits, as in an observer that forks: what was
/// written is the other's.
void Candidate::become_another() {
  generation_ = process_generation();
  token_ = next_token();
  stamp_ = next_stamp();
  queued_ = may_have_landed_ = false;
}

/// What to make of the record that came back; asks again where that is to be done at once.
Candidate::Attempt Candidate::judge(Snapshot snapshot, Clock::time_point started) {
  const Key& key = spec_->key;
  Server& server = spec_->server;
  const LockOptions& options = spec_->options;
  int added = 0;
  for (int tries = 0; tries < max_patient_tries; ++tries) {
    if (generation_ != process_generation()) become_another();
    if (!snapshot.lock) {  // freed between our two commands, or the server keeps nothing
      if (added++ == max_tries) server.raise_full(key);
      started = Clock::now();
      snapshot = add();
      continue;
    }
    // Nearly always it is what we have just sent.
    std::optional<Record> found =
        snapshot.as_sent ? std::exchange(sent_, std::nullopt) : Record::parse(snapshot.lock->value);
    if (!found) {
      may_have_landed_ = queued_ = false;
      reject_item(key, server);
    }
    if (found->stamp != stamp_) spec_->history.learn(found->hold);  // else it is from there
    switch (detail::judge(*found, token_, stamp_, bid_.owner, snapshot.asked_epoch)) {
      case Verdict::settle:
        return settle(snapshot, std::move(*found), started);
      case Verdict::confirm:
        started = Clock::now();
        snapshot = write_own(*found, snapshot.lock->cas);
        continue;
      case Verdict::publish_fence: {
        // The id of the item is not the token any more once others queue.
        started = Clock::now();
        Record known = *found;
        known.fence = {epoch_of(snapshot), snapshot.lock->cas.id};
        known.stamp = stamp_ = next_stamp();
        snapshot = write(std::move(known), snapshot.lock->cas);
        continue;
      }
      case Verdict::join:
        started = Clock::now();
        snapshot = join(*found, snapshot);
        continue;
      case Verdict::read_epoch:
        started = Clock::now();
        snapshot = server.read(key);
        continue;
      case Verdict::contended:
        break;
    }
    const auto position = found->queue_position(token_);
    queued_ = position.has_value();
    if (auto rest = without_dead(*found)) {
      started = Clock::now();
      snapshot = evict(*std::move(rest), snapshot.lock->cas);
      continue;
    }
    const bool local =
        lined_up_ && is_of_this_process(found->holders.front().word) && !found->reserved;
    if (found->waiters.size() < max_waiters) spec_->history.note_contention();
    const std::size_t room = options.fair ? max_waiters : max_starving;
    if (may_queue_ && !queued_ && !local && found->waiters.size() < room) {
      snapshot = enter_queue();
      continue;
    }
    if (!queued_) may_have_landed_ = false;
    if (!std::exchange(contended_, true)) contended_since_ = started;
    return Contended{{.holder = found->holders.front().word,
                      .confirmed = found->since.count() != 0,
                      .hold = found->hold,
                      .round_trip = Clock::now() - started,
                      .queue_position = position,
                      .local = local,
                      .lease = found->lease}};
  }
  throw ServerError(
      fmt::format("others change \"{}\" at {} all the time: fewer should share its owner",
                  key.text(), server.name()),
      key.text(), server.name());
}

std::uint64_t Candidate::epoch_of(const Snapshot& snapshot) {
  const Admission now =
      spec_->server.admit(spec_->key, snapshot, spec_->options.timeout, RestartGuard::off);
  if (now.start == snapshot.start) return now.epoch;
  throw Unavailable(
      fmt::format("{} was restarted during a request; try again", spec_->server.name()),
      spec_->key.text(), spec_->server.name());
}

Candidate::Attempt Candidate::settle(const Snapshot& snapshot, Record found,
                                     Clock::time_point started) {
  queued_ = false;
  if (cohort_.passes == 0) cohort_.since = started;
  const LockOptions& options = spec_->options;
  const Admission now =
      spec_->server.admit(spec_->key, snapshot, options.timeout, options.restart_guard);
  // The record has gone with the server that gave it its CAS id.
  const bool is_gone = now.start != snapshot.start;
  auto holding = std::make_shared<Holding>(spec_, std::move(found), std::move(token_),
                                           *snapshot.lock, now.epoch, started, cohort_);
  may_have_landed_ = false;
  if (is_gone || !now.open || !holding->owns()) {  // or the answer came when the lease had run out
    holding->withdraw();
    token_ = next_token();  // the other may be cleared away yet
    if (!now.open) return Guarded{now.retry_at};
    return Contended{};
  }
  if (options.renew) {
    try {
      holding->start_renewal();
    } catch (const std::system_error& error) {
      holding->withdraw();
      Holding::raise_no_thread(*spec_, error);
    }
  }
  succeeded_ = true;
  return holding;
}

}  // namespace memcachedlock::detail
