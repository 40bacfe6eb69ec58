#include "lock/candidate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <utility>

#include "base/mutex.hpp"
#include "base/process.hpp"
#include "lock/own_entry.hpp"
#include "lock/remove_token.hpp"
#include "memcachedlock/error.hpp"
#include "waiting/waker.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

// The record must stay short: every look reads it. A waiter that finds it full looks now and then.
constexpr std::size_t max_waiters = 200;

// Others take a waiter for dead at its END, so that is not nearer than this, and further once it
// has waited: to say that it waits on costs a request. A holder's END is that of its lease.
constexpr milliseconds min_wait{2'000};
constexpr milliseconds min_further_wait{10'000};

// Each of those behind a dead one leaves it to those before, for so long.
constexpr milliseconds turn_to_remove{250};
constexpr std::size_t max_turns = 8;

// How often a waiter that looks once writes to go on waiting.
constexpr int max_stays = 4;

/// How long a lease may still run by its holder's clock when it is over by ours.
Clock::duration drift_of(Clock::duration lease) { return lease / 100 + milliseconds(10); }

/// When each holder that has not confirmed was first seen, by all acquires of this process: one of
/// try_lock() looks only once.
class FirstSights {
 public:
  static FirstSights& instance() {
    static constinit PerProcessForever<FirstSights> all;
    return all.get();
  }
  /// `place`: of the lock, and in its record.
  Clock::time_point of(const std::string& place, const Entry& holder, Clock::time_point now) {
    constexpr std::size_t most = 10'000;
    const MutexLock lock(mutex_);
    if (seen_.size() >= most) {
      std::erase_if(seen_, [&](const auto& one) { return one.second.at < now - 4 * grace; });
    }
    Seen& seen = seen_[place];
    if (seen.token != holder.token || seen.count != holder.count) {
      seen = {holder.token, holder.count, now};
    }
    return seen.at;
  }

 private:
  struct Seen {
    std::string token;
    std::uint64_t count = 0;
    Clock::time_point at{};
  };
  Mutex mutex_;
  std::unordered_map<std::string, Seen> seen_ MCL_GUARDED_BY(mutex_);
};

}  // namespace

Candidate::Told::Told(const std::string& token, const std::function<void()>& wake, Mailbox* by_loop)
    : box(token, wake), read_by_loop(by_loop) {
  if (read_by_loop != nullptr) read_by_loop->add_loop_wait(1);
}

Candidate::Told::~Told() {
  if (read_by_loop != nullptr) read_by_loop->add_loop_wait(-1);
}

Candidate::Candidate(SharedSpec spec, OwnerId owner, std::string label, std::function<void()> wake,
                     bool is_for_loop)
    : bid_{std::move(spec), std::move(owner), std::move(label)},
      generation_(process_generation()),
      token_(next_token()),
      wake_(std::move(wake)),
      is_for_loop_(is_for_loop) {}

Candidate::~Candidate() {
  if (queued_ && !is_copy()) leave_seat({spec_, token_});
}

void Candidate::leave_seat(const Seat& seat) noexcept {
  const LockSpec& spec = *seat.spec;
  try {
    remove_token(spec.server, spec.key, seat.token, spec.server.read_lock(spec.key));
  } catch (const Error&) {
    remove_token_later(seat.spec, seat.token);
  }
}

void Candidate::leave_later() noexcept {
  if (std::exchange(queued_, false) && !is_copy())
    remove_token_later(spec_, token_, WasStored::yes);
}

std::optional<Seat> Candidate::give_seat() {
  if (!std::exchange(queued_, false) || is_copy()) return std::nullopt;
  Seat seat{spec_, token_};
  renew_token();
  return seat;
}

void Candidate::take_seat(std::string token) {
  renew_token();
  token_ = std::move(token);
  open_inbox();
  queued_ = seen_ = true;
  written_ = {.end = std::numeric_limits<std::int64_t>::max()};  // another has counted its lease
  wait_ = {};
}

/// Before it enters the queue: it may be told before that is answered.
void Candidate::open_inbox() {
  if (inbox_) return;
  Mailbox& mailbox = spec_->server.mailbox();
  inbox_.emplace(token_, wake_, is_for_loop_ ? &mailbox : nullptr);
  // The thread may have begun anew since.
  if (!is_for_loop_) return;
  spec_->server.acquiring().pass_time_with([&] { return std::make_shared<LoopPastime>(mailbox); });
}

Snapshot Candidate::add() {
  queued_ = false;
  sent_ = record_of(bid_, token_);
  written_ = {Clock::now(), 0, 0, true};
  auto snapshot = spec_->server.add_and_read(spec_->key, *sent_, lease_term(token_, spec_->options),
                                             may_have_landed_);
  written_.end = sent_->entries.front().end;
  return snapshot;
}

Snapshot Candidate::append(const Server::Words& words) {
  return append(spec_->options.timeout, words);
}

Snapshot Candidate::append(milliseconds lease, const Server::Words& words) {
  return spec_->server.append_and_read(spec_->key, lease, words, may_have_landed_);
}

Snapshot Candidate::enter_queue() {
  open_inbox();
  written_ = {.started = Clock::now()};
  wait_ = {};
  wait_.entered = written_.started;
  wait_.length = std::max(spec_->options.timeout, min_wait);
  return append(wait_.length, [&](std::string& text, const Server::Stamps& now) {
    Entry entry = entry_of(bid_, token_);
    entry.end = written_.end = now.end;
    entry.told_at = now.told_at;
    append_entry_word(text, entry);
  });
}

Snapshot Candidate::append_lease(const Entry& own, milliseconds lease) {
  written_ = {.started = Clock::now(), .count = own.count + 1};
  return append(lease, [&](std::string& text, const Server::Stamps& now) {
    written_.end = now.end;
    append_lease_word(text, token_, now.end);
  });
}

Snapshot Candidate::write(Record record, const Cas& cas) {
  sent_ = std::move(record);
  sent_->words = sent_->entries.size();
  const LockOptions& options = spec_->options;
  Term term{{}, options.timeout, std::max(max_lifetime(options.timeout), same_term(*sent_).item)};
  const Entry* const own = sent_->find(token_);
  const bool holds = own != nullptr && sent_->holds(token_);
  if (holds) {
    term.holder = token_;
    if (sent_->entries.size() == 1) term.item = options.timeout;
    written_ = {Clock::now(), 0, own->count, true};
  }
  auto snapshot = spec_->server.cas_and_read(spec_->key, *sent_, term, cas, may_have_landed_);
  if (holds) written_.end = own->end;
  return snapshot;
}

std::optional<Snapshot> Candidate::complete(const Record& found, const Snapshot& snapshot) {
  const Entry& own = *found.find(token_);
  const Cas& cas = snapshot.lock->cas;
  const bool is_full = own.count < written_.count;  // no word lands any more
  if (!is_full && (!own.confirmed || own.end < written_.end)) {
    return append_lease(own, spec_->options.timeout);
  }
  // Nobody counts a lease beyond the expiry of the item.
  if (is_full || (found.expiry != 0 ? own.end > found.expiry : !written_.with_expiry)) {
    Record longer = found;
    Entry& entry = *longer.find(token_);
    ++entry.count;
    entry.confirmed = true;
    entry.lease = std::max(entry.lease, spec_->options.timeout);
    return write(std::move(longer), cas);
  }
  if (!bid_.owner.is_named()) return std::nullopt;
  // Members of one owner, in whatever process, agree on a token: the first that is written.
  if (!own.fence) {
    if (!snapshot.asked_item) return spec_->server.read(spec_->key);
    const FencingToken own_fence{epoch_of(snapshot), cas.id};
    // That of the other place counts, then.
    if (snapshot.server_item &&
        (asks_for_more(*snapshot.server_item) || is_refused(*snapshot.server_item))) {
      return std::nullopt;
    }
    const FencingToken fence = fence_ ? fence_ : own_fence;
    return append(
        [&](std::string& text, const Server::Stamps&) { append_fence_word(text, token_, fence); });
  }
  // It is inside now, so it need not be kept reserved by another process.
  std::string words;
  for (std::size_t at = 0; at < found.holders(); ++at) {
    const Entry& one = found.entries[at];
    if (one.reserved) append_removal_word(words, one.token, one.count);
  }
  if (words.empty()) return std::nullopt;
  return append([&](std::string& text, const Server::Stamps&) { text += words; });
}

std::optional<Snapshot> Candidate::stay(const Record& found, const Snapshot& snapshot) {
  const milliseconds lease = spec_->options.timeout;
  // The queue must not go with the item while somebody waits.
  const bool ends_soon = found.expiry != 0 && found.expiry < spec_->server.end_of(lease + grace);
  if (ends_soon || found.is_long()) return write(found, snapshot.lock->cas);
  // Those behind it take it for dead otherwise.
  if (Clock::now() < written_.started + wait_.length / 2) return std::nullopt;
  wait_.length = std::max(lease, min_further_wait);
  return append_lease(*found.find(token_), wait_.length);
}

bool Candidate::never_confirmed(const Entry& holder, std::size_t at) const {
  if (holder.confirmed) return false;
  const auto now = Clock::now();
  const Clock::duration time = std::min(holder.lease, grace);
  const std::string place = fmt::format("{} {} {}", spec_->server.name(), spec_->key.item(), at);
  return now >= FirstSights::instance().of(place, holder, now) + time + drift_of(time);
}

/// Those whose END has passed, if the server's clock shows it when it is asked now: it does not run
/// faster than the holder's, which began to count before. A holder without END, by a lease that has
/// run out by our clock, counted from when we first saw it.
Candidate::Dead Candidate::find_dead(const Record& found) {
  Dead dead;
  const auto now = Clock::now();
  const std::size_t holders = found.holders();
  std::size_t before = 0;  // and those that wait before this one
  bool may_be_over = false;
  std::size_t turns = 0;  // of those before it that may do it as well
  for (const Entry& entry : found.entries) {
    if (entry.token == token_) break;
    const bool seems_over = entry.end != 0 && spec_->server.seems_past(entry.end);
    may_be_over = may_be_over || seems_over;
    if (before++ >= holders && !seems_over) ++turns;
  }
  if (!queued_ && !full_) turns = 0;  // it has no place, and will not come back soon
  const Clock::duration patience = turn_to_remove * static_cast<int>(std::min(turns, max_turns));
  if (dead_since_ && now < *dead_since_ + patience) return dead;
  const std::int64_t time = may_be_over ? spec_->server.time(spec_->key) : 0;
  bool heads_alive = true;
  std::string process;  // what the tokens of one begin with that has let its turn pass
  for (std::size_t at = 0; at < before; ++at) {
    const Entry& entry = found.entries[at];
    bool is_dead = may_be_over && entry.has_ended(time);
    if (at < holders && !is_dead && never_confirmed(entry, at)) {
      is_dead = true;
      if (!is_of_this_process(entry.token)) {
        process = entry.token.substr(0, entry.token.find('.') + 1);
      }
    }
    if (at == 0 && entry.confirmed && entry.end == 0) {
      const std::string holder = fmt::format("{}:{}", entry.token, entry.count);
      if (holder != seen_holder_) {
        seen_holder_ = holder;
        seen_at_ = now;
      }
      is_dead = now >= seen_at_ + entry.lease + drift_of(entry.lease);
    }
    if (at < holders && (is_dead || !entry.confirmed)) heads_alive = false;
    if (is_dead) dead.entries.emplace_back(entry.token, entry.count);
  }
  if (dead.entries.empty()) {
    // Those before it that sleep through one death sleep through the next.
    if (heads_alive) dead_since_.reset();
    return dead;
  }
  if (!dead_since_) dead_since_ = now;
  if (now < *dead_since_ + patience) return {};
  for (std::size_t at = holders; at < found.entries.size() && !process.empty(); ++at) {
    const std::string& token = found.entries[at].token;
    if (token.starts_with(process)) dead.waiting.push_back(token);
  }
  return dead;
}

Candidate::Attempt Candidate::ask(bool may_queue, bool lined_up) {
  if (is_copy()) become_another();
  const LockOptions& options = spec_->options;
  Server& server = spec_->server;
  may_queue_ = may_queue;
  lined_up_ = lined_up;
  const Admission before = spec_->cluster->agreement().prepare(server, spec_->key, options.timeout,
                                                               options.restart_guard);
  if (!before.open) return Guarded{before.retry_at};
  try {
    if (inbox_) {
      if (auto grant = inbox_->box.take()) return hear(*grant);
    }
    const auto started = Clock::now();
    const bool at_once = may_queue_ && !queued_ && !local_ && !full_ && spec_->history.contended();
    // A later attempt only looks: that costs least.
    if (queued_ || (contended_ && !at_once)) return judge(server.read_lock(spec_->key), started);
    return judge(at_once ? enter_queue() : add(), started);
  } catch (...) {
    if (is_copy()) become_another();
    if (may_have_landed_ || queued_) remove_token_later(spec_, token_);
    queued_ = false;
    throw;
  }
}

Candidate::Attempt Candidate::receive(Handoff handoff) {
  handoff.snapshot.as_sent = false;  // another thread has sent it
  leave_later();
  renew_token();
  token_ = std::move(handoff.token);
  seen_ = true;
  written_ = {handoff.started, handoff.end, 0, handoff.with_expiry};
  cohort_ = handoff.cohort;
  may_have_landed_ = true;
  try {
    return judge(std::move(handoff.snapshot), handoff.started);
  } catch (...) {
    if (is_copy()) become_another();
    if (may_have_landed_) remove_token_later(spec_, token_);
    throw;
  }
}

/// By words, which land whatever others write. Where there are many, or the item takes no more, by
/// writing the rest anew, though others may come between: in turns.
Snapshot Candidate::remove_dead(const Dead& dead, const Record& found, const Snapshot& snapshot) {
  constexpr std::size_t few = 16;
  const Cas& cas = snapshot.lock->cas;
  const bool is_much = dead.entries.size() > few || !dead.waiting.empty() || found.is_long();
  if ((is_much || removed_from_ == cas.id) && !std::exchange(wrote_rest_, true)) {
    Record rest = found;
    for (const auto& [token, count] : dead.entries) rest.remove(token);
    // The record is written only if these still wait.
    for (const std::string& token : dead.waiting) rest.remove(token);
    return write(std::move(rest), cas);
  }
  wrote_rest_ = false;
  removed_from_ = cas.id;
  return append([&](std::string& text, const Server::Stamps&) {
    for (std::size_t at = 0; at < std::min(few, dead.entries.size()); ++at) {
      append_removal_word(text, dead.entries[at].first, dead.entries[at].second);
    }
  });
}

/// In a copy of the process that is made while one waits, as in an observer that forks: what was
/// written is the other's.
void Candidate::become_another() {
  generation_ = process_generation();
  renew_token();
}

/// One that has left the record is never used again: a removal of it may be under way.
void Candidate::renew_token() {
  inbox_.reset();
  token_ = next_token();
  queued_ = seen_ = may_have_landed_ = false;
}

/// What to make of the record that came back; asks again where that is to be done at once.
Candidate::Attempt Candidate::judge(Snapshot snapshot, Clock::time_point started) {
  const Key& key = spec_->key;
  Server& server = spec_->server;
  int added = 0;
  int stays = 0;
  bool has_removed = false;
  for (int tries = 0; tries < max_patient_tries; ++tries) {
    if (is_copy()) become_another();
    if (!snapshot.lock) {  // freed between our two commands, or the server keeps nothing
      if (seen_ || queued_) renew_token();
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
      reject_item(key, server, snapshot.lock->value);
    }
    if (!snapshot.as_sent) spec_->history.learn(found->hold);
    if (found->holds(token_)) {
      seen_ = true;
      if (!snapshot.asked_item && queued_ && !found->find(token_)->confirmed) {
        server.note_grant(GrantKind::found);
        if (is_copy()) continue;  // by the observer
      }
      started = Clock::now();
      auto next = complete(*found, snapshot);
      if (!next) return settle(snapshot, *std::move(found));
      snapshot = *std::move(next);
      continue;
    }
    if (snapshot.asked_item &&
        !spec_->cluster->agreement().knows(server, snapshot.server_item, snapshot.start, {})) {
      (void)spec_->admit(snapshot, RestartGuard::off);
      if (is_copy()) continue;  // by the observer
    }
    if (first_place_ && snapshot.server_item && snapshot.server_item->item &&
        snapshot.server_item->item->id == first_place_->item().id) {
      queued_ = found->includes(token_);
      leave_later();
      return SamePlace{};
    }
    const auto position = found->queue_position(token_);
    queued_ = position.has_value();
    const bool is_first_look = queued_ && wait_.looked == Clock::time_point{};
    if (queued_) {
      seen_ = true;
      note_wait(*found, snapshot, started);
    } else if (seen_) {
      renew_token();
    }
    // The same as before our word was appended: it takes no more.
    const bool is_shut = entered_from_ == snapshot.lock->cas.id;
    const bool joins = !queued_ && bid_.owner.is_named() && !found->entries.empty() &&
                       found->entries.front().owner() == bid_.owner.word() && !is_shut;
    if (std::exchange(has_removed, false)) server.tell_holders(*found, snapshot);
    const Dead dead = find_dead(*found);
    if (dead.entries.empty()) wrote_rest_ = false;
    if (joins || !dead.entries.empty() || found->entries.empty()) {
      started = Clock::now();
      if (!dead.entries.empty()) {
        snapshot = remove_dead(dead, *found, snapshot);
        has_removed = true;
      } else if (joins) {
        entered_from_ = snapshot.lock->cas.id;
        snapshot = enter_queue();
      } else {
        snapshot = write(record_of(bid_, token_), snapshot.lock->cas);
      }
      continue;
    }
    full_ = position.value_or(found->waiters()) >= max_waiters;
    if (full_ && is_first_look) {
      started = Clock::now();
      snapshot = append(
          [&](std::string& text, const Server::Stamps&) { append_leave_word(text, token_); });
      renew_token();
      continue;
    }
    if (queued_ && stays < max_stays) {
      const auto now = Clock::now();
      if (auto next = stay(*found, snapshot)) {
        ++stays;
        started = now;
        snapshot = *std::move(next);
        continue;
      }
    }
    const Entry& first = found->entries.front();
    // One that was let in and has not noticed wakes nobody.
    const bool local =
        lined_up_ && is_of_this_process(first.token) && first.confirmed && !first.reserved;
    if (!full_) spec_->history.note_contention();
    if (may_queue_ && !queued_ && !local && !full_ && !is_shut) {
      started = Clock::now();
      entered_from_ = snapshot.lock->cas.id;
      snapshot = enter_queue();
      continue;
    }
    if (!queued_) may_have_landed_ = false;
    contended_ = true;
    local_ = local;
    return Contended{{.holder = fmt::format("{}:{}", first.token, first.count),
                      .confirmed = first.confirmed,
                      .hold = found->hold,
                      .round_trip = Clock::now() - started,
                      .queue_position = position,
                      .local = local,
                      .told = queued_ && wait_.tellable && server.mailbox().is_trusted(),
                      .lease = first.lease}};
  }
  throw ServerError(fmt::format("others change \"{}\" at {} all the time: fewer should wait for it",
                                key.text(), server.name()),
                    key.text(), server.name());
}

void Candidate::set_first_place(Place place, std::uint64_t floor, FencingToken fence) {
  first_place_ = std::move(place);
  first_floor_ = floor;
  fence_ = fence;
}

/// For a holder whose server asks for another place too. Only where it is free.
std::shared_ptr<Holding> Candidate::take_place(SharedSpec spec, std::string label, Place first,
                                               FencingToken fence) {
  OwnerId owner = spec->options.owner.is_named() ? spec->options.owner : OwnerId::this_thread();
  Candidate second(
      std::move(spec), std::move(owner), std::move(label), [] {}, false);
  second.set_first_place(std::move(first), 0, fence);
  Attempt result = second.ask(false, false);
  auto* const holding = std::get_if<std::shared_ptr<Holding>>(&result);
  return holding != nullptr ? std::move(*holding) : nullptr;
}

/// Tokens of the new list's servers are higher than all of the old one's.
std::uint64_t Candidate::token_epoch(const Admission& now) const {
  if (!first_place_) return now.epoch;
  std::uint64_t floor = first_floor_;
  if (now.item->next) {
    const Demand demand = spec_->cluster->agreement().demand(*now.item, spec_->server, spec_->key);
    if (demand.here && demand.first != nullptr) floor = std::max(floor, now.item->floor);
  }
  return std::max(now.epoch, floor);
}

bool Candidate::asks_for_more(const SeenItem& seen) {
  if (!seen.item || !seen.item->confirmed || first_place_) return false;
  if (!seen.item->next && spec_->is_plain()) return false;
  return !spec_->cluster->agreement().demand(*seen.item, spec_->server, spec_->key).is_here_alone();
}

/// As a second place.
bool Candidate::is_refused(const SeenItem& seen) {
  if (!first_place_ || !seen.item || !seen.item->confirmed) return false;
  const Demand demand = spec_->cluster->agreement().demand(*seen.item, spec_->server, spec_->key);
  // A later move leads from here to the first place: tokens are of that one then.
  if (demand.here && demand.second != nullptr) return true;
  const auto is_missing = [&](const Server* server) {
    return server != nullptr && !first_place_->is(*server);
  };
  return is_missing(demand.first) || is_missing(demand.second);
}

std::uint64_t Candidate::epoch_of(const Snapshot& snapshot) {
  const Admission now = spec_->admit(snapshot, RestartGuard::off);
  if (now.start == snapshot.start) return token_epoch(now);
  throw Unavailable(
      fmt::format("{} was restarted during a request; try again", spec_->server.name()),
      spec_->key.text(), spec_->server.name());
}

void Candidate::note_wait(const Record& found, const Snapshot& snapshot, Clock::time_point began) {
  const Entry& own = *found.find(token_);
  wait_.looked = began;
  wait_.item_lasts = found.expiry != 0 && found.expiry >= spec_->server.end_of(grace);
  wait_.tellable = own.told_at != "-";
  if (own.end == 0) {
    wait_.until = Clock::time_point::max();
  } else if (own.end >= written_.end && own.count >= written_.count) {
    wait_.until = written_.started + wait_.length;
  }
  if (!snapshot.asked_item || wait_.item) return;
  wait_.item = snapshot.server_item;
  wait_.start = snapshot.start;
}

/// It holds the lock without a request, by a lease that counts from its last look: it was let in
/// later, and nobody takes it out within a grace of that, nor before its END.
Candidate::Attempt Candidate::hear(const Grant& grant) {
  const auto now = Clock::now();
  auto found = Record::parse(grant.record);
  const Entry* const own = found ? found->find(token_) : nullptr;
  if (own == nullptr) return judge(spec_->server.read_lock(spec_->key), now);
  seen_ = true;
  spec_->history.learn(found->hold);
  spec_->server.note_grant(GrantKind::told, grant.by_datagram);
  if (is_copy()) {  // by the observer
    become_another();
    return Contended{};
  }
  const milliseconds lease = std::min(grace, own->lease);
  const auto until = std::min(wait_.looked + lease, wait_.until);
  // Else the list of servers, or the number for tokens, may be another.
  const bool is_same_item = wait_.item && wait_.item->item && !first_place_ &&
                            wait_.item->item->id == grant.item_id &&
                            wait_.item->cas.id == grant.item_cas && !asks_for_more(*wait_.item);
  if (until - now < lease / 2 || !wait_.item_lasts || !is_same_item || bid_.owner.is_named() ||
      !Holding::can_renew(*spec_)) {
    return judge(append_lease(*own, spec_->options.timeout), now);
  }
  // Stands for the others, of which it does not know more.
  if (!grant.alone) found->entries.push_back(entry_of(bid_, "others"));
  Snapshot snapshot;
  // The CAS id may be sent over a connection that is older than our entry: the server is the same
  // then. Not where it is that of a record with others in it.
  const auto asked = grant.alone ? wait_.entered : Clock::time_point::min();
  snapshot.lock = Item{{}, {grant.cas, 0, asked}};
  snapshot.server_item = wait_.item;
  snapshot.start = wait_.start;
  const auto length = std::chrono::floor<milliseconds>(until - wait_.looked);
  return settle(snapshot, *std::move(found), wait_.looked, length, false);
}

Candidate::Attempt Candidate::settle(const Snapshot& snapshot, Record found) {
  return settle(snapshot, std::move(found), written_.started, spec_->options.timeout, true);
}

Candidate::Attempt Candidate::settle(const Snapshot& snapshot, Record found,
                                     Clock::time_point started, milliseconds lease,
                                     bool confirmed) {
  queued_ = false;
  inbox_.reset();
  if (cohort_.passes == 0) cohort_.since = confirmed ? started : Clock::now();
  const LockOptions& options = spec_->options;
  const Admission now = spec_->admit(snapshot, options.restart_guard);
  if (is_copy()) {  // by an observer, just now
    become_another();
    return Contended{};
  }
  Agreement& agreement = spec_->cluster->agreement();
  Demand demand{.here = true};
  if (now.item->next || first_place_ || !spec_->is_plain()) {
    demand = agreement.demand(*now.item, spec_->server, spec_->key);
  }
  // The record has gone with the server that gave it its CAS id.
  const bool is_gone = now.start != snapshot.start;
  auto holding = std::make_shared<Holding>(
      spec_, std::move(found), std::move(token_), *snapshot.lock, token_epoch(now), started, lease,
      confirmed, cohort_, Place(spec_->server, now.item), take_place);
  may_have_landed_ = false;
  if (is_gone || !now.open || !holding->owns()) {  // or the answer came when the lease had run out
    holding->withdraw();
    renew_token();
    if (!now.open) return Guarded{now.retry_at};
    return Contended{};
  }
  if (first_place_) {
    const bool is_same = first_place_->item().id == now.item->id;
    if (is_same || is_refused({now.item, {}})) {
      holding->withdraw();
      if (is_same) return SamePlace{};
      return Elsewhere{};
    }
    if (demand.is_here_alone()) holding->note_that_it_suffices();
    succeeded_ = true;
    return holding;
  }
  // By the old list first, as all do: tokens are of the new list's server.
  const bool came_too_early =
      !demand.here && agreement.precedes(now.item->list, spec_->server, *spec_->view);
  if (demand.first != nullptr && (demand.here || demand.second != nullptr || came_too_early)) {
    holding->withdraw();
    return Elsewhere{demand.first};
  }
  if (!demand.is_here_alone()) {
    succeeded_ = true;
    if (demand.here) return Half{std::move(holding), demand.second, now.item->floor, false};
    return Half{std::move(holding), demand.first, 0, true};
  }
  if (options.renew || !confirmed) holding->renew_or_withdraw();
  succeeded_ = true;
  return holding;
}

}  // namespace memcachedlock::detail
