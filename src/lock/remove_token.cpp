#include "lock/remove_token.hpp"

#include <algorithm>
#include <list>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/process.hpp"
#include "base/timer_thread.hpp"
#include "memcachedlock/error.hpp"
#include "waiting/key_history.hpp"
#include "waiting/local_queue.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

/// What is to be removed from one server. Kept by the background thread while there is any.
class Removals final : public TimerThread::Task {
 public:
  static constexpr milliseconds first_pause{25};
  static constexpr milliseconds max_turn{20};

  /// False when this one has ended: the caller makes another.
  bool add(const SharedSpec& spec, const std::string& token, WasStored arrival) {
    const auto now = Clock::now();
    const MutexLock lock(mutex_);
    if (ended_) return false;
    constexpr std::size_t most = 10'000;
    if (entries_.size() >= most) entries_.pop_front();
    entries_.push_back({spec, token, arrival,
                        now + 2 * spec->options.timeout + grace + ServerClock::max_rounding +
                            spec->cluster->options().operation_timeout});
    pause_ = first_pause;
    return true;
  }

  /// What others would wait for, as far as the time allows.
  void on_stop() override {
    constexpr milliseconds max_end{300};
    (void)remove_for(max_end, max_end);
  }

  /// Renewals of the same server come between.
  std::optional<TimerThread::Times> on_time(milliseconds limit) override {
    return remove_for(limit, std::min(limit, max_turn));
  }

 private:
  std::optional<TimerThread::Times> remove_for(milliseconds limit, milliseconds turn) {
    const auto end = Clock::now() + turn;
    std::list<Entry> open;
    {
      const MutexLock lock(mutex_);
      open.swap(entries_);
    }
    if (open.empty()) return std::nullopt;
    Server& server = open.front().spec->server;  // all are of one
    const SharedSpec alive = open.front().spec;
    bool unfinished = false;
    try {
      if (Clock::now() >= server.resting_until()) {
        auto at = open.begin();
        do {
          at = remove_some(server, open, at, limit, end);
        } while (at != open.end() && !is_over(end));
        unfinished = at != open.end();
        open.splice(open.end(), open, open.begin(), at);  // the others first, the next time
      }
    } catch (const Error&) {
      for (Entry& entry : open) entry.unanswered = true;
      server.rest(Clock::now() + rest_time);
    }
    const MutexLock lock(mutex_);
    const auto now = Clock::now();
    open.remove_if([&](const Entry& entry) { return entry.done || now >= entry.until; });
    entries_.splice(entries_.begin(), open);
    ended_ = entries_.empty();
    if (ended_) return std::nullopt;
    const auto next = unfinished ? now : now + pause_;
    if (!unfinished) pause_ = std::min(pause_ * 2, milliseconds(1'000));
    return TimerThread::Times{next, next + spec_timeout()};
  }

  struct Entry {
    SharedSpec spec;
    std::string token;
    WasStored arrival;
    Clock::time_point until;
    bool done = false;
    bool unanswered = false;
  };
  using EntryIterator = std::list<Entry>::iterator;

  [[nodiscard]] milliseconds spec_timeout() const MCL_REQUIRES(mutex_) {
    return entries_.front().spec->options.timeout;
  }

  /// Those from `first` on whose keys fit into one request. The first that is left.
  static EntryIterator remove_some(Server& server, std::list<Entry>& all, EntryIterator first,
                                   milliseconds limit, Clock::time_point end) {
    std::vector<Key> keys;
    std::unordered_map<std::string_view, std::size_t> slots;
    auto last = first;
    for (; last != all.end(); ++last) {
      const Key& key = last->spec->key;
      if (slots.contains(key.item())) continue;
      if (keys.size() + 1 == Connection::max_keys) break;
      slots.emplace(key.item(), keys.size());
      keys.push_back(key);
    }
    const std::vector<Snapshot> snapshots = server.read_all(keys, limit);
    for (auto at = first; at != last; ++at) {
      if (at != first && is_over(end)) return at;
      remove(server, *at, snapshots[slots.at(at->spec->key.item())]);
    }
    return last;
  }

  static bool is_over(Clock::time_point end) { return Clock::now() >= end; }

  static void remove(Server& server, Entry& entry, const Snapshot& snapshot) {
    const Key& key = entry.spec->key;
    const auto outcome = remove_token(server, key, entry.token, snapshot);
    entry.done = outcome == Release::released || (!outcome && entry.arrival == WasStored::yes);
    if (!outcome && entry.done) {  // done before, by what was not answered
      if (const auto record = record_in(snapshot.lock)) server.tell_holders(*record, snapshot);
    }
    // Waiters took it for a holder of this process that would wake them. An earlier try that was
    // not answered may have done it.
    if (entry.done || std::exchange(entry.unanswered, false)) LocalQueue::wake(*entry.spec);
  }

  Mutex mutex_;
  std::list<Entry> entries_ MCL_GUARDED_BY(mutex_);
  milliseconds pause_ MCL_GUARDED_BY(mutex_) = first_pause;
  bool ended_ MCL_GUARDED_BY(mutex_) = false;
};

/// The removals that are under way, by server. Those of one client's server are kept apart from
/// another's, as its connections are.
struct AllRemovals {
  Mutex mutex;
  std::unordered_map<const Server*, std::weak_ptr<Removals>> by_server MCL_GUARDED_BY(mutex);

  static AllRemovals& instance() {
    static constinit PerProcessForever<AllRemovals> all;
    return all.get();
  }
  std::shared_ptr<Removals> add(const SharedSpec& spec, const std::string& token,
                                WasStored arrival) {
    const MutexLock lock(mutex);
    std::erase_if(by_server, [](const auto& entry) { return entry.second.expired(); });
    std::weak_ptr<Removals>& known = by_server[&spec->server];
    auto removals = known.lock();
    if (removals && removals->add(spec, token, arrival)) return removals;
    removals = std::make_shared<Removals>();
    known = removals;
    removals->add(spec, token, arrival);
    return removals;
  }
};

}  // namespace

milliseconds max_lifetime(milliseconds lease) {
  // Only by a rewrite it is put off, which fails where others write all the time.
  constexpr milliseconds ahead = std::chrono::minutes(10);
  return lease + std::max(lease + grace, ahead);
}

Term same_term(const Record& record) {
  Term term;
  if (record.expiry != 0) return term;
  for (const Entry& entry : record.entries) {  // it is not known
    term.item = std::max(term.item, max_lifetime(entry.lease));
  }
  return term;
}

Term lease_term(std::string_view token, const LockOptions& options) {
  const milliseconds lease = options.timeout;
  return {token, lease, lease};
}

namespace {

/// After somebody has left: an item without entries goes, a log that has grown is written anew.
/// Others may do so too, and come between.
void tidy(Server& server, const Key& key, const Record& found, const Cas& cas) {
  if (found.entries.empty()) {
    (void)server.compare_and_delete(key, cas);
  } else if (found.is_long()) {
    Record shorter = found;
    (void)server.compare_and_swap(key, shorter, same_term(shorter), cas);
  }
}

}  // namespace

Removal remove_token(Server& server, const Key& key, const std::string& token, Record& record,
                     Cas cas, CasHint hint, std::optional<Clock::time_point> since) {
  const Clock::time_point before = since.value_or(cas.asked);
  bool maybe_done = false;
  bool others_wrote = record.entries.size() > 1;
  const auto gone = [&](const Snapshot& snapshot) {
    // No waiter takes out a holder within its lease, so if the server has kept its memory, a
    // request of ours has done it.
    const bool done = maybe_done && server.is_since(snapshot, before);
    return Removal{done ? Release::released : Release::lost, others_wrote};
  };
  for (int tries = 0; tries < max_patient_tries; ++tries) {
    if (hint == CasHint::fresh && record.entries.size() == 1 && record.includes(token)) {
      const CasResult result = server.compare_and_delete(key, cas);
      if (result == CasResult::done) return {Release::released, others_wrote};
      if (result == CasResult::absent && !maybe_done) return {Release::lost, others_wrote};
      maybe_done = maybe_done || result == CasResult::unknown;
      // Nothing is appended to what may be another's.
      const Snapshot snapshot = maybe_done ? server.read(key) : server.read_lock(key);
      auto found = record_in(snapshot.lock);
      if (!found || !found->includes(token)) return gone(snapshot);
      record = *std::move(found);
      cas = snapshot.lock->cas;
      if (record.entries.size() == 1) continue;
      others_wrote = true;
    }
    hint = CasHint::fresh;
    const HoldTime hold = KeyHistory::of(key).after_release(record.hold);
    const bool released = record.holds(token) && hold.usual.count() != 0;
    bool sent = false;
    const Snapshot snapshot = server.append_and_read(
        key, {},
        [&](std::string& text, const Server::Stamps&) {
          append_leave_word(text, token);
          if (released) append_hold_word(text, hold);
        },
        sent);
    auto found = record_in(snapshot.lock);
    if (!found) {
      // Others may have come between our two commands, and gone again, with the item.
      maybe_done = true;
      others_wrote = true;
      return gone(snapshot);
    }
    const std::size_t known = std::max(record.words, record.entries.size());
    constexpr std::size_t ours = 3;  // that we leave, and how long holds are, now and before
    others_wrote = others_wrote || !found->entries.empty() || found->words > known + ours;
    cas = snapshot.lock->cas;
    if (!found->includes(token)) {
      server.tell_holders(*found, snapshot);
      const auto was_there = Record::left(snapshot.lock->value, token);
      tidy(server, key, *found, cas);
      if (was_there.value_or(true)) return {Release::released, others_wrote};
      maybe_done = maybe_done || snapshot.sent_again;
      return gone(snapshot);
    }
    // The item is too large for another word.
    record = *std::move(found);
    Record next = record;
    next.remove(token);
    const CasResult swap = server.compare_and_swap(key, next, same_term(next), cas);
    if (swap != CasResult::done) continue;
    const Snapshot after = server.read(key);
    if (const auto left = record_in(after.lock)) server.tell_holders(*left, after);
    return {Release::released, others_wrote};
  }
  return {Release::unavailable, others_wrote};
}

bool take_out(Server& server, const Key& key, const std::string& token, std::uint64_t count) {
  bool sent = false;
  const Snapshot snapshot = server.append_and_read(
      key, {},
      [&](std::string& text, const Server::Stamps&) { append_removal_word(text, token, count); },
      sent);
  const auto found = record_in(snapshot.lock);
  if (!found || found->includes(token)) return false;
  server.tell_holders(*found, snapshot);
  tidy(server, key, *found, snapshot.lock->cas);
  return true;
}

std::optional<Release> remove_token(Server& server, const Key& key, const std::string& token,
                                    const Snapshot& snapshot) {
  auto record = record_in(snapshot.lock);
  if (!record || !record->includes(token)) return std::nullopt;
  return remove_token(server, key, token, *record, snapshot.lock->cas).outcome;
}

void remove_token_later(const SharedSpec& spec, const std::string& token,
                        WasStored arrival) noexcept {
  try {
    const auto now = Clock::now();
    // What was not answered may come late.
    const auto pause = arrival == WasStored::yes ? milliseconds(0) : Removals::first_pause;
    spec->server.renewing().schedule(AllRemovals::instance().add(spec, token, arrival),
                                     {now + pause, now + spec->options.timeout});
  } catch (const std::exception&) {  // no thread, no memory: it expires by itself
  }
}

void remove_token_at_exit(const SharedSpec& spec, const std::string& token) noexcept {
  try {
    AllRemovals::instance().add(spec, token, WasStored::yes)->on_stop();
  } catch (const std::exception&) {  // no memory: it expires by itself
  }
}

}  // namespace memcachedlock::detail
