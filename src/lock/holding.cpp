#include "lock/holding.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <system_error>
#include <utility>

#include "base/process.hpp"
#include "lock/own_entry.hpp"
#include "lock/remove_token.hpp"
#include "memcachedlock/error.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

/// Between "cannot be kept" and "somebody else may hold it".
milliseconds margin_of(milliseconds lease) { return std::min(lease / 8, milliseconds(500)); }

// While other processes wait, a cohort gives way to them after so many passes, or after so long.
constexpr unsigned max_passes = 8;
constexpr milliseconds max_cohort{50};

// One that was told that it holds the lock begins its whole lease then; one that is done earlier
// never does.
constexpr milliseconds confirm_after{50};

/// What its members agreed on, or its own.
FencingToken fence_of(const Record& record, const std::string& token, FencingToken own) {
  const Entry* const entry = record.find(token);
  return entry != nullptr && entry->fence ? entry->fence : own;
}

}  // namespace

Holding::Holding(SharedSpec spec, Record record, std::string token, const Item& item,
                 std::uint64_t epoch, Clock::time_point started, milliseconds lease, bool confirmed,
                 Cohort cohort, Place place, TakePlace taker)
    : spec_(std::move(spec)),
      token_(std::move(token)),
      fence_(fence_of(record, token_, FencingToken{epoch, item.cas.id})),
      since_(Clock::now()),
      began_(confirmed ? started : since_),
      cohort_(cohort),
      generation_(process_generation()),
      place_(std::move(place)),
      take_place_(taker),
      record_(std::move(record)),
      cas_(item.cas),
      confirmed_(confirmed),
      lease_(lease),
      deadline_(started + lease) {}

/// False where it has a second place already.
bool Holding::join(const std::shared_ptr<Holding>& second) {
  second->is_second_.store(true);
  {
    const MutexLock lock(second->places_mutex_);
    second->first_ = weak_from_this();
  }
  {
    const MutexLock lock(places_mutex_);
    if (second_ && !dropped_second_.load()) return false;
    if (second_) former_.push_back(std::move(second_));  // others may look at it just now
    second_ = second;
    second_seen_.store(second_.get());
    dropped_second_.store(false);
  }
  if (second->suffices_.load()) supersede();
  return true;
}

void Holding::join_first(const std::shared_ptr<Holding>& second) {
  fence_ = second->fence_;
  (void)join(second);
}

bool Holding::is_live() const {
  const State state = state_.load();
  return state == State::held || state == State::reserved;
}

std::shared_ptr<Holding> Holding::second() const {
  if (second_seen_.load() == nullptr) return nullptr;
  const MutexLock lock(places_mutex_);
  return second_;
}

std::shared_ptr<Holding> Holding::first() const {
  if (!is_second_.load()) return nullptr;
  const MutexLock lock(places_mutex_);
  return first_.lock();
}

FencingToken Holding::agreed_fence() const {
  const MutexLock lock(mutex_);
  const Entry* const entry = record_.find(token_);
  return entry != nullptr ? entry->fence : FencingToken{};
}

bool Holding::is_held_at(const Server& server) const {
  const auto is_there = [&](const Holding& one) {
    return one.place_.is(server) && !one.superseded_.load() && one.is_live();
  };
  if (is_there(*this)) return true;
  for (auto before = first(); before; before = before->first()) {
    if (is_there(*before)) return true;
  }
  if (dropped_second_.load()) return false;
  for (auto after = second(); after; after = after->second()) {
    if (is_there(*after)) return true;
  }
  return false;
}

Clock::time_point Holding::deadline() const {
  const auto own = deadline_.load();
  const Holding* const next = second_seen_.load();
  if (next == nullptr || dropped_second_.load()) return own;
  return superseded_.load() ? next->deadline() : std::min(own, next->deadline());
}

bool Holding::owns() const {
  return state_.load() == State::held && generation_ == process_generation() &&
         Clock::now() < deadline();
}

milliseconds Holding::remaining() const {
  if (!owns()) return milliseconds(0);
  const auto left = deadline() - Clock::now();
  return std::max(std::chrono::floor<milliseconds>(left), milliseconds(0));
}

/// Alone, or if the item ends before the lease, by a record of our own; else by a word, with which
/// nobody conflicts. Where the log is long or the item ends soon, a record is tried first.
Server::Rewrite Holding::prepare(Rewriting& one) {
  const Entry& own = *record_.find(token_);
  one.count = own.count + 1;
  one.end = 0;
  const bool alone = record_.entries.size() == 1;
  const auto soon = max_lifetime(one.lease) / 2;
  const bool is_due = record_.is_long() || record_.expiry < spec_->server.end_of(soon);
  one.by_cas = one.must_cas || alone || record_.expiry == 0 ||
               (is_due && one.may_cas && cas_.asked != Clock::time_point::min());
  one.may_cas = false;
  Server::Rewrite request{.key = &spec_->key,
                          .record = nullptr,
                          .term = {token_, one.lease, max_lifetime(one.lease)},
                          .cas = cas_,
                          .words = {}};
  if (!one.by_cas) {
    request.words = [this, &one](std::string& text, const Server::Stamps& now) {
      one.end = now.end;
      if (one.reserved) {
        append_reserve_word(text, token_, one.count - 1, now.end);
      } else {
        append_lease_word(text, token_, now.end);
      }
    };
    return request;
  }
  if (alone) request.term.item = one.lease;
  request.term.item = std::max(request.term.item, same_term(record_).item);
  one.count += unanswered_++;  // so that it is not taken for an earlier one
  one.next = record_;
  Entry& entry = *one.next.find(token_);
  entry.lease = std::max(entry.lease, one.lease);
  entry.count = one.count;
  entry.confirmed = true;
  entry.reserved = one.reserved;
  entry.fence = fence_;
  request.record = &one.next;
  return request;
}

/// No outcome if it must be tried again: others wrote too, or the item ends too early.
void Holding::accept(Rewriting& one, Clock::time_point started, const std::optional<Item>& item,
                     const std::optional<SeenItem>& seen) {
  auto found = record_in(item);
  if (!found || !found->holds(token_)) {
    one.outcome = Write::lost;
    return;
  }
  if (one.by_cas) one.end = one.next.find(token_)->end;
  cas_ = item->cas;
  record_ = *std::move(found);
  unanswered_ = 0;
  const Entry& own = *record_.find(token_);
  const bool landed = own.count >= one.count && own.reserved == one.reserved && own.end >= one.end;
  const bool item_lasts = record_.expiry != 0 ? record_.expiry >= own.end : one.by_cas;
  if (!landed || !item_lasts) {
    one.must_cas = one.must_cas || !one.by_cas;
    if (landed && record_.expiry != 0) {
      const auto now = Clock::now();
      const milliseconds left = spec_->server.time_left(record_.expiry);
      one.lasts = std::min<Clock::time_point>(started + one.lease,
                                              now + left - left / 100 - std::chrono::seconds(1));
      if (!counts(one, seen)) one.lasts = {};
    }
    return;
  }
  if (!counts(one, seen)) {
    one.outcome = Write::uncounted;
    return;
  }
  const auto end = started + one.lease;
  one.outcome = Clock::now() < end ? Write::done : Write::lost;
  if (one.outcome == Write::done) {
    deadline_.store(end);
    confirmed_ = true;
    if (!one.reserved) lease_.store(one.lease);
  }
}

bool Holding::counts(Rewriting& one, const std::optional<SeenItem>& seen) {
  Agreement& agreement = spec_->cluster->agreement();
  one.missing = nullptr;
  one.trouble.clear();
  try {
    if (!agreement.serves(spec_->server, seen, one.lease, spec_->key)) return false;
    const Demand demand = agreement.demand(*seen->item, spec_->server, spec_->key);
    for (Server* other : {demand.first, demand.second}) {
      if (other == nullptr || is_held_at(*other)) continue;
      if (demand.here) {
        one.missing = other;
      } else {
        one.trouble = fmt::format(
            "the lease of \"{}\" ends as it is: the list of servers has "
            "changed, and it was not held at {} in time",
            spec_->key.text(), other->name());
      }
      return false;
    }
    if (demand.is_here_alone()) {
      if (const auto before = first()) before->supersede();
      drop_second();
    }
    return true;
  } catch (const Error& error) {
    one.trouble = error.what();
    one.differs = dynamic_cast<const ServersDiffer*>(&error) != nullptr;
    return false;
  }
}

void Holding::supersede() {
  if (superseded_.exchange(true)) return;
  remove_token_later(spec_, token_, WasStored::yes);
  if (const auto before = first()) before->supersede();
}

/// After a move back: this place does for itself again.
void Holding::drop_second() {
  const auto next = second();
  if (!next || superseded_.load() || dropped_second_.exchange(true)) return;
  next->withdraw_later();
}

void Holding::complete_places(Server* missing) {
  if (missing != nullptr) {
    take_place(*missing);
  } else {
    (void)spec_->cluster->agreement().admit(spec_->server, spec_->key,
                                            spec_->server.read(spec_->key), lease_.load(),
                                            RestartGuard::off);
  }
}

/// At the end of the chain. It keeps the token that it has.
void Holding::take_place(Server& other) {
  if (is_held_at(other)) return;
  {
    const MutexLock lock(places_mutex_);
    if (second_ && !dropped_second_.load()) return;
  }
  const FencingToken fence = spec_->options.owner.is_named() ? fence_ : FencingToken{};
  const auto taken = take_place_(spec_->at(other), thread_label(), place_, fence);
  if (!taken) {
    throw Unavailable(
        fmt::format("the list of servers changes, and \"{}\" can't be held at {} too: "
                    "another holds it there",
                    spec_->key.text(), other.name()),
        spec_->key.text(), other.name());
  }
  if (!is_live() || !join(taken)) {
    taken->withdraw_later();
    return;
  }
  if (spec_->options.renew) {
    try {
      taken->start_renewal();
    } catch (const std::system_error&) {  // then it ends with its lease, and is reported
    }
  }
  if (!is_live()) taken->withdraw_later();  // released meanwhile
}

class Holding::PlaceTask final : public TimerThread::Task {
 public:
  PlaceTask(std::shared_ptr<Holding> holding, Server* missing)
      : holding_(std::move(holding)), missing_(missing) {}
  std::optional<TimerThread::Times> on_time(milliseconds /*limit*/) override {
    Holding& holding = *holding_;
    std::string trouble;
    try {
      holding.complete_places(missing_);
    } catch (const std::exception& error) {
      trouble = error.what();
    }
    {
      const MutexLock lock(holding.places_mutex_);
      holding.place_trouble_ = std::move(trouble);
    }
    holding.completing_.store(false);
    return std::nullopt;
  }

 private:
  const std::shared_ptr<Holding> holding_;
  Server* const missing_;
};

void Holding::complete_places_later(Server* missing) noexcept {
  if (completing_.exchange(true)) return;
  try {
    const auto now = Clock::now();
    TimerThread& thread = (missing != nullptr ? *missing : spec_->server).acquiring();
    if (thread.schedule(std::make_shared<PlaceTask>(shared_from_this(), missing), {now, now}))
      return;
  } catch (const std::exception&) {  // no thread, no memory: at the next renewal
  }
  completing_.store(false);
}

void Holding::rewrite(std::vector<Rewriting*> open, milliseconds limit, int rounds) {
  for (int tries = 0; tries < rounds && !open.empty(); ++tries) {
    const auto started = Clock::now();
    std::vector<Server::Rewrite> requests;
    requests.reserve(open.size());
    for (Rewriting* one : open) requests.push_back(one->holding->prepare(*one));
    const Rewritten found =
        open.front()->holding->spec_->server.write_and_read_all(requests, limit);
    for (std::size_t at = 0; at < open.size(); ++at) {
      open[at]->holding->accept(*open[at], started, found.locks[at], found.server_item);
    }
    std::erase_if(open, [](const Rewriting* one) { return one->outcome.has_value(); });
  }
}

std::string Holding::why_not_rewritten() const {
  constexpr const char* text =
      "the lease of \"{}\" was not renewed: others change the lock at {} all the time, or it has "
      "no room for more; fewer should wait for it";
  return fmt::format(text, spec_->key.text(), spec_->server.name());
}

Holding::Write Holding::rewrite_here(bool reserved, milliseconds lease) {
  constexpr int max_changes = 4;  // of the list of servers, meanwhile
  std::string trouble;
  for (int tries = 0; tries < max_changes; ++tries) {
    Rewriting one{.holding = this, .reserved = reserved, .lease = lease};
    rewrite(std::vector{&one}, Server::longest, max_tries);
    if (!one.outcome) {
      throw ServerError(why_not_rewritten(), spec_->key.text(), spec_->server.name());
    }
    if (superseded_.load()) return Write::done;  // it is not needed any more
    if (*one.outcome != Write::uncounted) return *one.outcome;
    if (!one.trouble.empty()) {
      trouble = one.trouble;
      break;
    }
    complete_places(one.missing);
  }
  if (trouble.empty()) trouble = "the list of servers changes all the time";
  throw Unavailable(trouble, spec_->key.text(), spec_->server.name());
}

Holding::Write Holding::rewrite(bool reserved, milliseconds lease) {
  // The second first: where it suffices, this one may be off.
  const auto rewrite_second = [&](const std::shared_ptr<Holding>& next) {
    if (reserved) next->renewing_.store(false);
    const MutexLock lock(next->mutex_);
    return next->rewrite(reserved, std::max(lease, next->lease_.load()));
  };
  const auto known = dropped_second_.load() ? nullptr : second();
  std::exception_ptr trouble;
  if (known) {
    Write there = Write::uncounted;
    try {
      there = rewrite_second(known);
    } catch (const Error&) {  // this place may do for itself by now
      trouble = std::current_exception();
    }
    if (there == Write::lost || superseded_.load()) return there;
  }
  const Write here = rewrite_here(reserved, lease);
  if (trouble && !dropped_second_.load()) std::rethrow_exception(trouble);
  const auto next = dropped_second_.load() ? nullptr : second();
  if (here != Write::done || next == known || !next) return here;
  return rewrite_second(next);
}

/// From held to lost. False when it was not held any more.
bool Holding::lose() {
  State held = State::held;
  return state_.compare_exchange_strong(held, State::lost);
}

bool Holding::extend(milliseconds lease) {
  bool extended = false;
  {
    const MutexLock lock(mutex_);
    lease = std::max(lease, lease_.load());
    // A restart guard must know a longer lease before it counts, as it does for an acquire.
    if (owns() && lease > lease_.load()) {
      for (auto place = shared_from_this(); place;
           place = place->dropped_second_.load() ? nullptr : place->second()) {
        Server& server = place->spec_->server;
        if (place->superseded_.load()) continue;
        (void)spec_->cluster->agreement().admit(server, spec_->key, server.read(spec_->key), lease,
                                                RestartGuard::off);
      }
    }
    extended = owns() && rewrite(false, lease) == Write::done;
    if (!extended) lose();
    extended = extended && state_.load() == State::held;  // the watch may have given it up
  }
  if (state_.load() == State::lost) announce_loss();
  if (extended && spec_->options.renew) {
    try {
      start_renewal();                    // where it had given up
    } catch (const std::system_error&) {  // then it ends when this lease does, and is reported
    }
  }
  if (extended) notify(EventKind::extended);
  return extended;
}

bool Holding::pass_on() {
  const auto now = Clock::now();
  // With a request before and one after, as waiters see it.
  spec_->history.note_hold(
      std::chrono::duration_cast<std::chrono::microseconds>((now - began_) + (since_ - began_)));
  if (TimerThread::are_stopped()) return false;  // the others end with the process
  auto next = LocalQueue::claim(*spec_);
  if (!next || !may_hand_over(*next)) return false;
  const bool others_wait = record_.waiters() != 0;
  if (others_wait && (cohort_.passes >= max_passes || now - cohort_.since >= max_cohort))
    return false;
  return hand_over(*next);
}

/// Under a token of its own: if the request is not answered, that is removed, and not what the
/// waiter may get by itself meanwhile. Alone, by a record; while others wait, by a word.
Handoff Holding::write_handoff(const LocalQueue::Claim& next) {
  const Bid& bid = next.bid();
  bool stored = false;
  Handoff handoff;
  handoff.server = &bid.spec->server;
  handoff.token = next_token();
  handoff.started = Clock::now();
  handoff.cohort = {cohort_.passes + 1, cohort_.since};
  try {
    if (record_.entries.size() == 1) {
      Record record = record_of(bid, handoff.token);
      record.hold = spec_->history.after_release(record_.hold);
      handoff.with_expiry = true;
      handoff.snapshot = spec_->server.cas_and_read(
          spec_->key, record, lease_term(handoff.token, bid.spec->options), cas_, stored);
      handoff.end = record.entries.front().end;
    } else {
      Entry entry = entry_of(bid, handoff.token);
      const HoldTime hold = spec_->history.after_release(record_.hold);
      handoff.snapshot = spec_->server.append_and_read(
          spec_->key, entry.lease,
          [&](std::string& text, const Server::Stamps& now) {
            entry.end = handoff.end = now.end;
            append_handoff_word(text, token_, entry);
            if (hold.usual.count() != 0) append_hold_word(text, hold);
          },
          stored);
    }
  } catch (const Error&) {
    if (stored) remove_token_later(bid.spec, handoff.token);
    throw;
  }
  return handoff;
}

/// False when the lock is not ours any more, or can't be handed over.
bool Holding::hand_over(LocalQueue::Claim& next) {
  const Bid& bid = next.bid();
  for (int tries = 0; tries < max_tries && may_hand_over(next); ++tries) {
    const bool alone = record_.entries.size() == 1;
    Handoff handoff = write_handoff(next);
    const auto found = record_in(handoff.snapshot.lock);
    if (found && found->holds(handoff.token)) {
      const std::string given = handoff.token;
      // It has left the line meanwhile: the removal wakes the next one.
      if (!next.serve(std::move(handoff))) remove_token_later(bid.spec, given, WasStored::yes);
      return true;
    }
    if (!found || !found->holds(token_)) return false;
    record_ = *found;  // somebody has entered the queue, or joined
    cas_ = handoff.snapshot.lock->cas;
    if (!alone) return false;  // the item is too large for another word
  }
  return false;
}

/// While others wait, members of a named owner hold by each other's places. A waiter that has one
/// of its own waits for that.
bool Holding::may_hand_over(const LocalQueue::Claim& next) const {
  // Not while the list of servers changes.
  if (second_seen_.load() != nullptr || next.bid().spec->server.name() != spec_->server.name()) {
    return false;
  }
  if (next.is_queued() || record_.holders() != 1) return false;
  if (record_.entries.size() == 1) return true;
  return record_.find(token_)->owner() == "-" && !next.bid().owner.is_named();
}

Release Holding::release(const SharedFailure* failure) {
  if (generation_ != process_generation()) return Release::lost;  // the parent's
  Release outcome = Release::lost;
  bool passed = false;
  std::string trouble;
  {
    const MutexLock lock(mutex_);
    const bool in_time = owns();
    const bool was_held = state_.exchange(State::over) == State::held;
    try {
      if (failure != nullptr) throw Unavailable(failure->what, spec_->key.text(), failure->server);
      if (in_time && was_held) passed = pass_on();
      // Also when the lease is over: waiters need not wait longer.
      outcome = passed ? Release::released : depart_everywhere();
    } catch (const Error& error) {
      outcome = Release::unavailable;
      trouble = error.what();
    }
    // Rather than at the end of its lease.
    if (outcome == Release::unavailable) remove_everywhere_later();
    if (!in_time || !was_held) outcome = Release::lost;
    spec_->keep_spare(std::move(record_));
  }
  if (!passed) LocalQueue::wake(*spec_);
  end_tasks();
  if (outcome == Release::lost) announce_loss();
  if (outcome == Release::unavailable) notify(EventKind::unavailable, {}, trouble);
  if (outcome != Release::lost) notify(EventKind::released, Clock::now() - since_, {}, outcome);
  return outcome;
}

bool Holding::release_in_background() {
  class ReleaseTask final : public TimerThread::Task {
   public:
    explicit ReleaseTask(std::shared_ptr<Holding> holding) : holding_(std::move(holding)) {}
    std::optional<TimerThread::Times> on_time(milliseconds /*limit*/) override {
      (void)std::exchange(holding_, nullptr)->release();
      return std::nullopt;
    }
    void on_stop() override { (void)on_time({}); }

   private:
    std::shared_ptr<Holding> holding_;
  };
  const auto now = Clock::now();
  try {
    return spec_->server.acquiring().schedule(std::make_shared<ReleaseTask>(shared_from_this()),
                                              {now, now});
  } catch (const std::exception&) {
    return false;
  }
}

/// Where somebody came into the queue during the last hold, as is likely to happen again, it reads
/// first: to be refused would cost a round trip more.
void Holding::remove_everywhere_later() noexcept {
  if (const auto next = second()) next->withdraw_later();
  if (!superseded_.load()) remove_token_later(spec_, token_, WasStored::yes);
}

/// A background thread is one server's, and does not wait for another.
Release Holding::depart_everywhere() {
  const auto next = second();
  Release there = Release::released;
  if (next && TimerThread::is_background()) {
    next->withdraw_later();
  } else if (next && !dropped_second_.load()) {
    there = next->leave_second();
  }
  const Release here = superseded_.load() ? Release::released : depart();
  if (there == Release::lost || here == Release::lost) return Release::lost;
  return there == Release::unavailable ? there : here;
}

Release Holding::leave_second() {
  Release outcome = Release::unavailable;
  {
    const MutexLock lock(mutex_);
    state_.store(State::over);
    try {
      outcome = depart_everywhere();
    } catch (const Error&) {
    }
    if (outcome == Release::unavailable) remove_token_later(spec_, token_, WasStored::yes);
  }
  end_tasks();
  return outcome;
}

Release Holding::depart() {
  const Removal taken = remove_token(spec_->server, spec_->key, token_, record_, cas_,
                                     spec_->history.arrivals() ? CasHint::stale : CasHint::fresh,
                                     since_);  // by when the epoch was known
  spec_->history.note_arrivals(taken.others_wrote);
  return taken.outcome;
}

void Holding::withdraw() {
  if (generation_ != process_generation()) return;  // the parent's
  if (const auto next = second()) next->withdraw_later();
  end_tasks();
  const MutexLock lock(mutex_);
  state_.store(State::over);
  if (superseded_.load()) return;
  try {
    remove_token(spec_->server, spec_->key, token_, record_, cas_);
  } catch (const Error&) {
    remove_token_later(spec_, token_);
  }
  LocalQueue::wake(*spec_);
}

void Holding::withdraw_later() noexcept {
  if (generation_ != process_generation()) return;  // the parent's
  if (const auto next = second()) next->withdraw_later();
  state_.store(State::over);
  if (!superseded_.load()) remove_token_later(spec_, token_, WasStored::yes);
  end_tasks();
  LocalQueue::wake(*spec_);
}

bool Holding::reserve(milliseconds time, std::function<void()> on_lapse) {
  bool kept = false;
  {
    const MutexLock lock(mutex_);
    try {
      kept = owns() && rewrite(true, time) == Write::done;
    } catch (const Error&) {  // unknown: not to be counted on
    }
    State held = State::held;
    if (!state_.compare_exchange_strong(held, kept ? State::reserved : State::lost)) {
      remove_everywhere_later();  // nobody would take it up
      return false;
    }
    renewing_.store(false);
    if (kept) {
      // Before it is unlocked: its owner may resume it at once, by another thread.
      on_lapse_ = std::move(on_lapse);
      const auto end = deadline();
      end_tasks();
      try {
        scheduled_.store(true);
        spec_->server.renewing().schedule(shared_from_this(), {end, end});
      } catch (const std::exception&) {  // no thread: then memcached ends it
      }
    }
  }
  if (!kept) {
    remove_everywhere_later();  // rather than at the end of its lease
    announce_loss();
    return false;
  }
  notify(EventKind::reserved, time);
  return true;
}

bool Holding::resume() {
  {
    const MutexLock lock(mutex_);
    if (!is_reserved() || generation_ != process_generation()) return false;
    const bool mine =
        Clock::now() < deadline() &&
        rewrite(false, std::max(lease_.load(), spec_->options.timeout)) == Write::done;
    state_.store(mine ? State::held : State::over);
    if (!mine) {
      remove_everywhere_later();  // lapse() leaves it alone from now on
      return false;
    }
  }
  const bool is_asked = [&] {
    const MutexLock lock(stop_mutex_);
    return stop_.has_value();
  }();
  if (is_asked) (void)lost();  // earlier lost() tokens report a loss from now on
  return true;
}

/// The end of a reservation that was not used: the next need not wait for memcached to expire it.
std::optional<TimerThread::Times> Holding::lapse() {
  const auto end = deadline();
  if (Clock::now() < end) return TimerThread::Times{end, end};
  std::function<void()> on_lapse;
  {
    const MutexLock lock(mutex_);
    State reserved = State::reserved;
    if (!state_.compare_exchange_strong(reserved, State::over)) return std::nullopt;
    on_lapse = std::move(on_lapse_);
    if (const auto next = second()) next->withdraw_later();
    try {
      remove_token(spec_->server, spec_->key, token_, record_, cas_);
    } catch (const Error&) {
      remove_token_later(spec_, token_, WasStored::yes);
    }
  }
  LocalQueue::wake(*spec_);
  if (on_lapse) on_lapse();
  return std::nullopt;
}

/// The process ends: nobody will take up what is reserved. What exit() was called in may hold the
/// mutex.
void Holding::on_stop() {
  constexpr milliseconds most{300};
  static const auto until = Clock::now() + most;  // for all of them
  if (!is_reserved() || generation_ != process_generation() || Clock::now() >= until) return;
  if (!mutex_.try_lock()) return;
  State reserved = State::reserved;
  const bool lapses = state_.compare_exchange_strong(reserved, State::over);
  mutex_.unlock();
  if (!lapses) return;
  for (auto place = shared_from_this(); place; place = place->second()) {
    remove_token_at_exit(place->spec_, place->token_);
  }
}

void Holding::raise_no_thread(const LockSpec& spec, const std::system_error& error) {
  throw Unavailable(
      fmt::format("\"{}\" was not acquired: the thread that would renew its lease can't be made "
                  "({}); raise the limit of threads",
                  spec.key.text(), error.what()),
      spec.key.text(), spec.server.name());
}

void Holding::prepare_renewal(const LockSpec& spec) {
  try {
    spec.server.renewing().prepare();
    TimerThread::notifying().prepare();
  } catch (const std::system_error& error) {
    raise_no_thread(spec, error);
  }
}

void Holding::renew_or_withdraw() {
  try {
    start_renewal();
  } catch (const std::system_error& error) {
    withdraw();
    raise_no_thread(*spec_, error);
  }
}

bool Holding::can_renew(const LockSpec& spec) {
  try {
    prepare_renewal(spec);
    return true;
  } catch (const Error&) {
    return false;
  }
}

void Holding::start_renewal() {
  if (const auto next = second()) next->start_renewal();
  TimerThread::Times times{};
  {
    const MutexLock lock(mutex_);
    if (renewing_.exchange(true)) return;
    const auto now = Clock::now();
    if (superseded_.load()) return;
    auto pause = (deadline_.load() - now) / 3;
    if (!confirmed_) pause = std::min<Clock::duration>(pause, confirm_after);
    next_renewal_ = now + pause;
    times = next_times();
  }
  scheduled_.store(true);
  spec_->server.renewing().schedule(shared_from_this(), times);
  if (spec_->options.renew) start_watch();
}

void Holding::start_watch() {
  if (state_.load() != State::held || generation_ != process_generation()) return;
  if (watched_.exchange(true)) return;
  TimerThread::notifying().schedule(loss_watch(), {watch_until(), watch_until()});
}

void Holding::end_tasks() {
  if (scheduled_.load()) spec_->server.renewing().cancel(shared_from_this());
  if (watched_.exchange(false)) TimerThread::notifying().cancel(loss_watch());
}

std::shared_ptr<TimerThread::Task> Holding::loss_watch() {
  return {shared_from_this(), &loss_watch_};  // lives as long as the holding
}

std::optional<TimerThread::Times> Holding::LossWatch::on_time(milliseconds) {
  if (holding_.state_.load() != State::held) return std::nullopt;
  const auto until = holding_.watch_until();
  if (Clock::now() < until) return TimerThread::Times{until, until};
  if (holding_.lose()) holding_.announce_loss();
  return std::nullopt;
}

Clock::time_point Holding::watch_until() const { return deadline() - margin_of(lease_.load()); }

TimerThread::Times Holding::next_times() const {
  const auto latest = watch_until();
  return {std::min(next_renewal_, latest), latest};
}

std::stop_token Holding::lost() {
  if (generation_ != process_generation()) {  // whose mutexes the parent may have locked
    std::stop_source gone;
    gone.request_stop();
    return gone.get_token();
  }
  const bool over = state_.load() == State::held && Clock::now() >= watch_until();
  if (over && lose()) announce_loss();
  try {
    start_watch();
  } catch (const std::system_error&) {  // no thread: reported on the next query
  }
  const MutexLock lock(stop_mutex_);
  if (!stop_) {
    stop_.emplace();
    if (announced_ || state_.load() == State::lost) stop_->request_stop();
  }
  return stop_->get_token();
}

void Holding::announce_loss() {
  if (is_second_.load()) {
    const auto before = first();
    if (before && !before->dropped_second_.load() && before->lose()) before->announce_loss();
    return;
  }
  LocalQueue::wake(*spec_);
  if (const auto next = second()) next->withdraw_later();
  std::optional<std::stop_source> stop;
  {
    const MutexLock lock(stop_mutex_);
    if (std::exchange(announced_, true)) return;
    stop = stop_;
  }
  if (stop) stop->request_stop();
  notify(EventKind::lost, Clock::now() - since_);
}

std::optional<TimerThread::Times> Holding::on_time(milliseconds limit) {
  return on_time_together({shared_from_this()}, limit).front();
}

/// Renewals, and ends of reservations.
std::vector<std::optional<TimerThread::Times>> Holding::on_time_together(
    const TimerThread::Batch& batch, milliseconds limit) {
  std::vector<std::optional<TimerThread::Times>> again(batch.size());
  std::vector<Renewal> renewals;
  const auto started = Clock::now();
  for (std::size_t index = 0; index < batch.size(); ++index) {
    again[index] = static_cast<Holding&>(*batch[index]).begin_renewal(started, index, renewals);
  }
  std::vector<Rewriting*> open;
  for (Renewal& renewal : renewals) {
    const auto left = renewal.rewriting.holding->watch_until() - started;
    limit = std::min(limit, std::chrono::ceil<milliseconds>(left));
    open.push_back(&renewal.rewriting);
  }
  std::string trouble;
  try {
    constexpr int rounds = 4;  // the others wait meanwhile, and those that are not due yet
    rewrite(std::move(open), limit, rounds);
  } catch (const std::exception& error) {  // also for want of memory: all are locked
    trouble = error.what();
  }
  for (Renewal& renewal : renewals) {
    if (!renewal.rewriting.outcome) {
      renewal.answered = trouble.empty();
      renewal.trouble = trouble.empty() ? renewal.rewriting.holding->why_not_rewritten() : trouble;
    }
    renewal.rewriting.holding->end_renewal(renewal, started);
  }
  // When all are unlocked: an observer may release one of them.
  for (const Renewal& renewal : renewals) {
    again[renewal.index] = renewal.rewriting.holding->report(renewal);
  }
  return again;
}

std::optional<TimerThread::Times> Holding::begin_renewal(Clock::time_point now, std::size_t index,
                                                         std::vector<Renewal>& renewals) {
  if (generation_ != process_generation()) return std::nullopt;
  if (is_reserved()) return lapse();
  if (superseded_.load()) return std::nullopt;
  if (is_second_.load()) {
    const auto before = first();
    if (!before || !before->is_live()) {  // whose owner has lost it, or is gone
      withdraw_later();
      return std::nullopt;
    }
  }
  if (now >= watch_until()) {  // the watch gives it up, unless it is extended before
    renewing_.store(false);
    return std::nullopt;
  }
  if (!mutex_.try_lock()) return TimerThread::Times{now + milliseconds(5), watch_until()};
  std::optional<TimerThread::Times> again;
  if (confirmed_ && !spec_->options.renew) renewing_.store(false);  // an extension has done it
  if (state_.load() == State::held && renewing_.load()) {
    const auto rest = spec_->server.resting_until();
    if (now >= next_renewal_ && now >= rest) {
      renewals.push_back(
          {.index = index,
           .rewriting = {.holding = this, .lease = std::max(lease_.load(), spec_->options.timeout)},
           .confirms = !confirmed_,
           .answered = false,
           .is_news = true,
           .trouble = {},
           .again = {}});
      return std::nullopt;
    }
    if (now >= next_renewal_) next_renewal_ = rest;
    again = next_times();
  }
  mutex_.unlock();
  if (state_.load() == State::lost) announce_loss();
  return again;
}

void Holding::end_renewal(Renewal& renewal, Clock::time_point started) {
  if (renewal.rewriting.outcome == Write::lost && !superseded_.load()) lose();
  const milliseconds lease = lease_.load();
  if (renewal.rewriting.outcome == Write::uncounted) {
    renewal.trouble = uncounted(renewal.rewriting);
    renewal.is_news = std::exchange(last_trouble_, renewal.trouble) != renewal.trouble;
    constexpr milliseconds shortest{20};
    next_renewal_ = Clock::now() + std::clamp(lease / 50, shortest, milliseconds(500));
    renewal.again = next_times();
    renewal.confirms = true;  // not extended
    mutex_.unlock();
    return;
  }
  if (renewal.trouble.empty()) {
    next_renewal_ = started + lease / 3;
    crowded_pause_ = {};
  } else {
    // Lease time is left: again, more often than the first time.
    constexpr milliseconds shortest_pause{5};
    const auto longest_pause = std::clamp(lease / 20, shortest_pause, milliseconds(1'000));
    if (renewal.answered) {
      // The word counts as far as the item lasts.
      if (renewal.rewriting.lasts > deadline_.load()) deadline_.store(renewal.rewriting.lasts);
      renewal.is_news = crowded_pause_.count() == 0;
      // Soon, where somebody came between; else nothing lands, as where the server's memory is
      // full.
      const bool others_came = std::exchange(crowded_at_, cas_.id) != cas_.id;
      crowded_pause_ = others_came ? shortest_pause : std::min(2 * crowded_pause_, longest_pause);
      next_renewal_ = Clock::now() + crowded_pause_;
    } else {
      spec_->server.rest(Clock::now() + std::min(rest_time, lease / 20));
      next_renewal_ = started + longest_pause;
    }
  }
  renewal.again = next_times();
  if (renewal.trouble.empty() && !spec_->options.renew) {  // confirmed: that was all
    renewing_.store(false);
    renewal.again.reset();
  }
  mutex_.unlock();
}

/// Why, where that is news for the observer; the places are completed meanwhile.
std::string Holding::uncounted(const Rewriting& one) {
  if (!one.trouble.empty()) return one.trouble;
  complete_places_later(one.missing);
  const MutexLock lock(places_mutex_);
  return place_trouble_;
}

std::optional<TimerThread::Times> Holding::report(const Renewal& renewal) {
  spec_->cluster->agreement().announce(spec_->server);
  if (!renewal.trouble.empty() && renewal.is_news) {
    notify(renewal.rewriting.differs ? EventKind::servers_differ : EventKind::unavailable, {},
           renewal.trouble);
  }
  if (state_.load() == State::lost) {
    announce_loss();
    return std::nullopt;
  }
  if (state_.load() != State::held) return std::nullopt;  // released since
  if (renewal.trouble.empty() && !renewal.confirms) notify(EventKind::extended);
  return renewal.again;
}

void Holding::notify(EventKind kind, std::chrono::nanoseconds duration, std::string_view detail,
                     Release outcome) const {
  if (is_second_.load()) {
    const bool is_trouble = kind == EventKind::unavailable || kind == EventKind::servers_differ;
    const auto before = first();
    const bool stands_for_it = kind == EventKind::extended && before && before->superseded_.load();
    if (stands_for_it) return before->notify(kind, duration, detail, outcome);
    if (!is_trouble) return;
  }
  Event event;
  event.kind = kind;
  event.duration = duration;
  event.token = fence_;
  event.detail = detail;
  event.release = outcome;
  spec_->notify(event);
}

}  // namespace memcachedlock::detail
