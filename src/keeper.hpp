// The background threads of a process, started at first need, joined at exit: one renews leases and
// clears away what an unanswered acquire may have left; another never waits for the network,
// tells of leases that can't be kept, and cuts off requests that take too long (pool.hpp); a third
// acquires for event loops (async_acquire.cpp).
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "annotations.hpp"

namespace memcachedlock::detail {

/// How long the background thread leaves a server alone that did not answer it.
constexpr std::chrono::milliseconds rest_time{100};

class Keeper {
 public:
  using Clock = std::chrono::steady_clock;

  /// When a task wants to be called, and when it must have been.
  struct Times {
    Clock::time_point due;
    Clock::time_point latest;
  };

  class Task;
  using Batch = std::vector<std::shared_ptr<Task>>;
  static constexpr std::size_t largest_batch = 32;

  class Task {
   public:
    virtual ~Task() = default;
    /// Called in the background thread when the time has come. Must not wait for the network
    /// longer than `limit`: then another task is at its latest. Returns when to be called again.
    virtual std::optional<Times> on_time(std::chrono::milliseconds limit) = 0;
    /// Those of one group that are due are called together; null for a group of its own.
    [[nodiscard]] virtual const void* group() const noexcept { return nullptr; }
    /// on_time() for all of `batch`, which are of this one's group, this one being the first.
    virtual std::vector<std::optional<Times>> on_time_together(const Batch& batch,
                                                               std::chrono::milliseconds limit);

   private:
    friend class Keeper;
    std::optional<Times> times_;  // guarded by the keeper's mutex
  };

  /// The one of this process whose tasks may ask memcached.
  static Keeper& instance();
  /// The one whose tasks never wait, so that they are called in time.
  static Keeper& punctual();
  /// The one whose tasks wait for locks, for callers that must not.
  static Keeper& waiting();

  /// Calls `task` once at `times.due`, or earlier if that was agreed before.
  void schedule(const std::shared_ptr<Task>& task, Times times);
  /// Not called again, unless it is being called just now.
  void cancel(const std::shared_ptr<Task>& task);
  void stop();

 private:
  void run();
  void remove(const std::shared_ptr<Task>& task) MCL_REQUIRES(mutex_);
  /// The first, and what else of its group is due; not scheduled any more.
  Batch take_due(Clock::time_point now) MCL_REQUIRES(mutex_);

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::set<std::pair<Clock::time_point, std::shared_ptr<Task>>> tasks_ MCL_GUARDED_BY(mutex_);
  std::multiset<Clock::time_point> latest_ MCL_GUARDED_BY(mutex_);
  std::thread thread_ MCL_GUARDED_BY(mutex_);
  bool stopping_ MCL_GUARDED_BY(mutex_) = false;
};

}  // namespace memcachedlock::detail
