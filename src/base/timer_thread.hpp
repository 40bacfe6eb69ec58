// The background threads of a process, started at first need, joined at exit, and ended when they
// have had nothing to do for a while. For each server one
// renews leases and removes what failed acquires may have left, and another acquires and releases
// for event loops, so that no server's trouble delays what another needs. Two more serve all: one
// cuts off requests that take too long (pool.hpp), and runs nobody's code; the other reports leases
// that can't be kept, to callbacks that may take their time.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/mutex.hpp"

namespace memcachedlock::detail {

/// How long the background thread leaves a server alone that did not answer it.
constexpr std::chrono::milliseconds rest_time{100};

class TimerThread {
 public:
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
    /// The process ends; called in place of on_time().
    virtual void on_stop() {}

   private:
    friend class TimerThread;
    std::optional<Times> times_;  // guarded by the thread's mutex
  };

  /// For what asks this server on behalf of nobody who waits.
  static TimerThread& renewing(const std::string& server);
  /// For what asks this server on behalf of callers that must not wait themselves.
  static TimerThread& acquiring(const std::string& server);
  /// For tasks that never wait and call nobody, so that they are called in time.
  static TimerThread& prompt();
  /// For tasks that never wait, but call those who are to be told.
  static TimerThread& notifying();
  /// Whether the calling thread is one of these.
  static bool is_background() noexcept;
  /// Whether the calling thread is one of these, and is waited for by the end of the process.
  static bool is_ending() noexcept;

  /// Starts the thread unless it runs, so that schedule() can't fail for want of one for the next
  /// seconds. Throws std::system_error.
  void prepare();
  /// Calls `task` once at `times.due`, or earlier if that was agreed before. False when the process
  /// ends, and nothing is called any more. Throws std::system_error where the thread can't be made.
  bool schedule(const std::shared_ptr<Task>& task, Times times);
  /// Not called again, unless it is being called just now.
  void cancel(const std::shared_ptr<Task>& task);
  /// Joins the thread. `for_good`: nothing is called any more.
  void stop(bool for_good);

 private:
  void run();
  void start() MCL_REQUIRES(mutex_);
  void remove(const std::shared_ptr<Task>& task) MCL_REQUIRES(mutex_);
  /// The first, and what else of its group is due; not scheduled any more.
  Batch take_due(Clock::time_point now) MCL_REQUIRES(mutex_);

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::set<std::pair<Clock::time_point, std::shared_ptr<Task>>> tasks_ MCL_GUARDED_BY(mutex_);
  std::multiset<Clock::time_point> latest_ MCL_GUARDED_BY(mutex_);
  std::thread thread_ MCL_GUARDED_BY(mutex_);
  Clock::time_point wanted_ MCL_GUARDED_BY(mutex_){};  // when it was last started or prepared
  std::atomic<bool> stopping_{false};                  // written under the mutex
};

}  // namespace memcachedlock::detail
