#include "candidate.hpp"

#include <fmt/format.h>

#include <utility>

#include "departure.hpp"
#include "memcachedlock/error.hpp"
#include "process.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

// The record must stay short: it is read with every look. Whoever finds it full asks as others do.
constexpr std::size_t most_waiters = 64;

// Who polls in vain for as long as it takes others to hold it so often, and at least so long,
// starves and enters the queue too. Where that has more than a few in it already it polls on:
// should they all have died, each costs the others a grace.
constexpr int turns_until_starving = 8;
constexpr milliseconds shortest_starving{50};
constexpr std::size_t most_starving = 4;

/// How long somebody else's lease may still run by their clock when it is over by ours.
Clock::duration drift_of(milliseconds lease) { return lease / 500 + milliseconds(10); }

}  // namespace

Candidate::Candidate(const std::shared_ptr<Backend>& backend, const Key& key,
                     const LockOptions& options, OwnerId owner, LockType type)
    : backend_(backend),
      key_(key),
      options_(options),
      owner_(std::move(owner)),
      type_(type),
      server_(backend->server_of(key)),
      recent_(Recent::of(key)),
      place_(here()),
      token_(next_token()),
      stamp_(next_stamp()) {}

Candidate::~Candidate() {
  if (!queued_) return;
  try {
    take_out(server_, key_, token_, server_.read_lock(key_));
  } catch (const Error&) {
    take_out_later(backend_, key_, token_, options_.timeout);
  }
}

std::optional<std::string> Candidate::give_place() {
  if (!std::exchange(queued_, false)) return std::nullopt;
  return token_;
}

void Candidate::take_place(std::string token) {
  token_ = std::move(token);
  queued_ = true;
}

Record Candidate::own_record(const Record& before, const std::string& token) const {
  Record record = before;
  record.reserved = false;
  record.lease = options_.timeout;
  record.stamp = stamp_;
  record.fence = 0;
  record.owner = owner_.word();
  record.members.clear();
  record.add(token, place_);
  record.since = {};
  record.date();
  // Who has not held it yet passes on what others have found.
  const auto hold = recent_.hold();
  if (hold.usual.count() != 0) record.hold = hold;
  record.remove_waiter(token_);
  return record;
}

Record Candidate::offer(const Record& before, const Handed& handed) const {
  Record record = own_record(before, handed.token);
  record.stamp = handed.stamp;
  return record;
}

View Candidate::add() {
  queued_ = false;
  may_have_landed_ = true;
  sent_ = own_record({}, token_);
  sent_text_ = sent_->encode();
  return server_.add_and_read(key_, sent_text_, lifetime(*sent_, options_.fair));
}

View Candidate::enter_queue() {
  may_have_landed_ = true;
  return server_.append_and_read(key_, Record::waiter_word(token_, place_));
}

View Candidate::write_own(const Record& before, const Cas& cas) {
  stamp_ = next_stamp();
  may_have_landed_ = true;
  const Record record = own_record(before, token_);
  return server_.cas_and_read(key_, record.encode(), lifetime(record, options_.fair), cas);
}

/// The same owner in another process has it: join it, or take its reservation.
View Candidate::join(const Record& before, const Cas& cas) {
  Record joined = before;
  if (joined.reserved) joined.members.clear();
  joined.reserved = false;
  joined.lease = std::max(joined.lease, options_.timeout);
  joined.fence = joined.fence != 0 ? joined.fence : cas.id;
  joined.stamp = stamp_ = next_stamp();
  joined.add(token_, place_);
  joined.date();
  joined.remove_waiter(token_);
  may_have_landed_ = true;
  return server_.cas_and_read(key_, joined.encode(), lifetime(joined, options_.fair), cas);
}

/// A lease that has run out by our clock, counted from when we first saw it, has by its holder's.
View Candidate::evict(const Record& before, const Cas& cas) {
  if (before.waiters.empty() || before.place_of(token_) == 0U) return write_own(before, cas);
  Record next = before;
  next.grant(grace);
  next.stamp = next_stamp();
  return server_.cas_and_read(key_, next.encode(), lifetime(next, true), cas);
}

bool Candidate::is_stuck(const Record& found) {
  const auto now = Clock::now();
  if (found.stamp != seen_stamp_) {
    seen_stamp_ = found.stamp;
    seen_at_ = now;
    return false;
  }
  return now >= seen_at_ + found.lease + drift_of(found.lease);
}

bool Candidate::is_starving() const {
  if (!contended_) return false;
  const Clock::duration turns = turns_until_starving * recent_.hold().usual;
  return Clock::now() - contended_since_ >= std::max<Clock::duration>(turns, shortest_starving);
}

Candidate::Attempt Candidate::ask(bool may_queue, bool lined_up) {
  may_queue_ = may_queue && (options_.fair || is_starving());
  lined_up_ = lined_up;
  const Admission before = server_.prepare(key_, options_.timeout, options_.restart_guard);
  if (!before.open) return Guarded{before.retry_at};
  try {
    const auto started = Clock::now();
    const bool at_once = may_queue_ && options_.fair && !queued_ && recent_.contended();
    // Who asks again only looks, as that costs least.
    if (queued_ || (contended_ && !at_once)) return judge(server_.read_lock(key_), started);
    return judge(at_once ? enter_queue() : add(), started);
  } catch (const Error&) {
    if (may_have_landed_ || queued_) take_out_later(backend_, key_, token_, options_.timeout);
    queued_ = false;
    throw;
  }
}

Candidate::Attempt Candidate::receive(Handed handed) {
  token_ = std::move(handed.token);
  stamp_ = std::move(handed.stamp);
  cohort_ = handed.cohort;
  may_have_landed_ = true;
  queued_ = false;
  try {
    return judge(std::move(handed.view), handed.started);
  } catch (const Error&) {
    if (may_have_landed_) take_out_later(backend_, key_, token_, options_.timeout);
    throw;
  }
}

/// What to make of the record that came back; asks again where that is to be done at once.
Candidate::Attempt Candidate::judge(View view, Clock::time_point started) {
  int added = 0;
  for (int tries = 0; tries < most_patient_tries; ++tries) {
    if (!view.lock) {  // freed between our two commands, or the server keeps nothing
      if (added++ == most_tries) {
        throw ServerError(
            fmt::format(
                "{} does not keep what it is given: is its memory full (-M)? Give it more (-m)",
                server_.name()),
            key_.text(), server_.name());
      }
      started = Clock::now();
      view = add();
      continue;
    }
    // Nearly always it is what we have just sent.
    std::optional<Record> found = sent_ && view.lock->value == sent_text_
                                      ? std::exchange(sent_, std::nullopt)
                                      : Record::parse(view.lock->value);
    if (!found) {
      may_have_landed_ = queued_ = false;
      reject_item(key_, server_);
    }
    if (found->stamp != stamp_) recent_.learn(found->hold);  // else it is from there
    const bool shared = owner_.is_named() && found->owner == owner_.word();
    if (found->has(token_)) {
      // What was granted is confirmed by a record of our own, which must be what is there; but in
      // one of a named owner others write too.
      const bool granted = found->stamp != stamp_ && !shared;
      const bool fence_unknown = shared && found->fence == 0;
      if (!granted && !fence_unknown) return settle(view, std::move(*found), started);
      started = Clock::now();
      if (granted) {
        view = write_own(*found, view.lock->cas);
      } else {
        // Who joins must know the token, which the id of the item is not once others queue.
        Record known = *found;
        known.fence = view.lock->cas.id;
        known.stamp = stamp_ = next_stamp();
        view = server_.cas_and_read(key_, known.encode(), lifetime(known, options_.fair),
                                    view.lock->cas);
      }
      continue;
    }
    if (shared) {
      started = Clock::now();
      view = join(*found, view.lock->cas);
      continue;
    }
    const auto place = found->place_of(token_);
    queued_ = place.has_value();
    if (is_stuck(*found)) {
      started = Clock::now();
      view = evict(*found, view.lock->cas);
      continue;
    }
    const bool local = lined_up_ && is_of_this_process(found->members.front()) && !found->reserved;
    if (found->waiters.size() < most_waiters) recent_.note_contention();
    const std::size_t room = options_.fair ? most_waiters : most_starving;
    if (may_queue_ && !queued_ && !local && found->waiters.size() < room) {
      view = enter_queue();
      continue;
    }
    if (!queued_) may_have_landed_ = false;
    if (!std::exchange(contended_, true)) contended_since_ = started;
    return Contended{{.holder = found->members.front(),
                      .confirmed = found->since.count() != 0,
                      .hold = found->hold,
                      .round_trip = Clock::now() - started,
                      .place = place,
                      .local = local,
                      .lease = found->lease}};
  }
  throw ServerError(
      fmt::format("others change \"{}\" at {} all the time: fewer should share its owner",
                  key_.text(), server_.name()),
      key_.text(), server_.name());
}

Candidate::Attempt Candidate::settle(const View& view, Record found, Clock::time_point started) {
  queued_ = false;
  if (cohort_.passes == 0) cohort_.since = started;
  const Admission now = server_.admit(key_, view.epoch, options_.timeout, options_.restart_guard);
  auto tenure =
      std::make_shared<Tenure>(backend_, server_, key_, options_, owner_, type_, std::move(found),
                               token_, *view.lock, now.epoch, started, cohort_);
  may_have_landed_ = false;
  if (!now.open || !tenure->owns()) {  // or the answer came when the lease had run out
    tenure->withdraw();
    token_ = next_token();  // the other may be cleared away yet
    if (!now.open) return Guarded{now.retry_at};
    return Contended{};
  }
  if (options_.renew) tenure->start_renewal();
  succeeded_ = true;
  return tenure;
}

}  // namespace memcachedlock::detail
