// The threads of this process that wait for one lock: first come, first served, and only the first
// asks memcached. A holder hands the lock to the first without freeing it between (lock cohorting:
// Dice, Marathe, Shavit, "Lock Cohorting: A General Technique for Designing NUMA Locks", PPoPP
// 2012).
#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "base/clock.hpp"
#include "base/failure.hpp"
#include "base/mutex.hpp"
#include "waiting/bid.hpp"
#include "waiting/handoff.hpp"

namespace memcachedlock::detail {

/// Thread safe. If no thread of the process waits, a call reads only one counter.
class LocalQueue {
 public:
  /// How a sleep ended: it may ask or give up; it was handed the lock; or the first has failed.
  using Woken = std::variant<std::monostate, Handoff, SharedFailure>;
  class Waiter;
  class Claim;

  LocalQueue();
  ~LocalQueue();

  /// Whether a waiter of this process is in line. May miss one that joins just now.
  static bool has(const LockSpec& spec);
  /// The first, if it sleeps: only the claimer may serve it meanwhile.
  static std::optional<Claim> claim(const LockSpec& spec);
  /// The lock may be free: the first asks at once.
  static void wake(const LockSpec& spec);

 private:
  struct Entry;
  static std::shared_ptr<LocalQueue> find(const LockSpec& spec);

  Mutex mutex_;
  std::list<std::shared_ptr<Entry>> entries_ MCL_GUARDED_BY(mutex_);
  Clock::time_point ask_at_ MCL_GUARDED_BY(mutex_){};  // when the first is to ask
  unsigned wakes_ MCL_GUARDED_BY(mutex_) = 0;
  // In the record's queue, by its token, left by a waiter that gave up.
  std::optional<Seat> seat_ MCL_GUARDED_BY(mutex_);
};

/// One waiter in line. All but `wake` is for the thread that asks for it.
class LocalQueue::Waiter {
 public:
  /// What a waiter leaves behind.
  struct Left {
    std::optional<Seat> seat;           ///< in the record's queue, which nobody took over
    std::optional<std::string> unused;  ///< the token by which it was handed the lock
  };

  /// `wake` is called when a nap may be over, under the queue's mutex, in any thread.
  Waiter(Bid bid, std::function<void()> wake);
  ~Waiter();
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  /// Whether it is its turn to ask memcached.
  [[nodiscard]] bool may_ask();
  /// The seat in the record's queue that another has left, for the first in line.
  [[nodiscard]] std::optional<Seat> take_seat();
  /// After a failed attempt.
  void ask_after(Clock::duration pause);
  /// After an attempt failed with an error: all waiters of its client that were in line
  /// before it asked get that error instead of asking one by one.
  void fail(const SharedFailure& failure);
  /// When to ask again, unless `wake` is called before: its turn, or `limit`, or it was served.
  /// Call nothing else until it returns nullopt, with how the nap ended in `woken`. `queued`:
  /// whether it has a seat in the record's queue. `stop`: end it now, unless it was claimed.
  [[nodiscard]] std::optional<Clock::time_point> nap(std::optional<Clock::time_point> limit,
                                                     bool stop, bool queued, Woken& woken);
  /// Leaves the line, once. The next waiter gets the seat; if `acquired`, it awaits a hand-over.
  [[nodiscard]] Left leave(std::optional<Seat> seat, bool acquired);

 private:
  /// Until when to sleep on; nullopt if the sleep is over.
  [[nodiscard]] std::optional<Clock::time_point> sleep_on(std::optional<Clock::time_point> limit,
                                                          bool stop) const
      MCL_REQUIRES(queue_->mutex_);
  [[nodiscard]] Woken get_up() MCL_REQUIRES(queue_->mutex_);
  [[nodiscard]] bool is_first() const MCL_REQUIRES(queue_->mutex_);

  std::shared_ptr<LocalQueue> queue_;
  const unsigned generation_;           // of the process; a child has no part in its parent's queue
  const std::shared_ptr<Entry> entry_;  // shared with who has claimed it
  std::list<std::shared_ptr<Entry>>::iterator position_;  // guarded by the queue's mutex
  unsigned wakes_seen_ = 0;
  bool left_ = false;
};

/// Ends with serve(), or lets the claimed waiter sleep on.
class LocalQueue::Claim {
 public:
  Claim(std::shared_ptr<LocalQueue> queue, std::shared_ptr<Entry> entry) noexcept;
  Claim(Claim&& other) noexcept;
  Claim& operator=(Claim&&) = delete;
  ~Claim();
  [[nodiscard]] const Bid& bid() const noexcept;
  /// Whether it has a seat in the record's queue.
  [[nodiscard]] bool is_queued() const noexcept;
  /// False where it has left the line meanwhile: the lock is nobody's then.
  [[nodiscard]] bool serve(Handoff handoff);

 private:
  std::shared_ptr<LocalQueue> queue_;
  std::shared_ptr<Entry> entry_;
};

}  // namespace memcachedlock::detail
