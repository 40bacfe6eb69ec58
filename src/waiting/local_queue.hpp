// The threads of this process that wait for one lock: first come, first served, and only the first
// asks memcached. A holder hands the lock to the first without freeing it between (lock cohorting:
// Dice, Marathe, Shavit, "Lock Cohorting: A General Technique for Designing NUMA Locks", PPoPP
// 2012).
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <variant>

#include "base/annotations.hpp"
#include "base/clock.hpp"
#include "base/failure.hpp"
#include "memcachedlock/key.hpp"

namespace memcachedlock::detail {

class Candidate;
class Server;
struct Handed;

/// Thread safe. Costs a lock that nobody waits for no more than reading one counter.
class LocalQueue {
 public:
  /// How a sleep ended: it may ask or give up; it was handed the lock; or the first has failed.
  using Woken = std::variant<std::monostate, Handed, SharedFailure>;
  class Place;
  class Claim;

  LocalQueue();
  ~LocalQueue();

  /// Whether somebody waits for it here. False negatives only for who comes just now.
  static bool has(const Server& server, const Key& key);
  /// The first, if it sleeps: nobody else may serve or wake it meanwhile.
  static std::optional<Claim> claim(const Server& server, const Key& key);
  /// The lock may be free: the first asks at once, or after `pause`.
  static void wake(const Server& server, const Key& key, Clock::duration pause = {});

 private:
  struct Entry;
  static std::shared_ptr<LocalQueue> find(const Server& server, const Key& key);

  Mutex mutex_;
  std::list<Entry*> entries_ MCL_GUARDED_BY(mutex_);
  Clock::time_point ask_at_ MCL_GUARDED_BY(mutex_){};  // when the first is to ask
  unsigned wakes_ MCL_GUARDED_BY(mutex_) = 0;
  // A place in the record's queue, by its token, left by one who gave up.
  std::optional<std::string> place_ MCL_GUARDED_BY(mutex_);
};

/// One thread's place, while it lives; used by that thread.
class LocalQueue::Place {
 public:
  Place(const Server& server, Candidate& candidate);
  ~Place();
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  /// Whether it is this thread's turn to ask memcached. The place in the record's queue that
  /// another left is then its candidate's.
  [[nodiscard]] bool may_ask();
  /// After it asked in vain.
  void ask_after(Clock::duration pause);
  /// After it asked and was not answered: all of the same client who stand behind it, and did
  /// before it asked, are told so instead of asking one after the other.
  void fail(const SharedFailure& failure);
  /// Until it may ask, `limit`, or `stop` is requested; or until it was served.
  [[nodiscard]] Woken sleep(std::optional<Clock::time_point> limit, const std::stop_token& stop);

  /// For one that no thread sleeps for: when to ask again, unless on_change() wakes it earlier.
  /// Until nothing comes back, with how the sleep ended, nothing else may be asked of it.
  [[nodiscard]] std::optional<Clock::time_point> nap(std::optional<Clock::time_point> limit,
                                                     bool stop, Woken& woken);
  /// `wake` is called when a nap may be over, under the queue's mutex, in any thread.
  void on_change(std::function<void()> wake);

 private:
  /// Until when to sleep on; nothing where the sleep is over.
  [[nodiscard]] std::optional<Clock::time_point> sleep_on(std::optional<Clock::time_point> limit,
                                                          bool stop) const
      MCL_REQUIRES(queue_->mutex_);
  [[nodiscard]] Woken get_up() MCL_REQUIRES(queue_->mutex_);
  [[nodiscard]] bool is_first() const MCL_REQUIRES(queue_->mutex_);

  std::shared_ptr<LocalQueue> queue_;
  const unsigned generation_;  // of the process; a child has no part in its parent's queue
  const std::string name_;
  const std::unique_ptr<Entry> entry_;
  std::list<Entry*>::iterator position_;  // guarded by the queue's mutex
  unsigned wakes_seen_ = 0;
};

/// Ends with serve(), or lets the one who was claimed sleep on.
class LocalQueue::Claim {
 public:
  Claim(std::shared_ptr<LocalQueue> queue, Entry& entry) noexcept;
  Claim(Claim&& other) noexcept;
  Claim& operator=(Claim&&) = delete;
  ~Claim();
  [[nodiscard]] const Candidate& candidate() const noexcept;
  void serve(Handed handed);

 private:
  std::shared_ptr<LocalQueue> queue_;
  Entry* entry_;
};

}  // namespace memcachedlock::detail
