// The background threads of a process, started at first need, joined at exit, and ended when they
// were idle for 10 s. For each server, one thread
// renews leases and removes what failed acquires may have left, and another acquires and releases
// for event loops, so that no server's trouble delays what another needs. Two more serve all: one
// cuts off slow requests (connection_pool.cpp) and runs no user code; the other reports leases
// that can't be kept, to callbacks that may take their time.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
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

/// How long the background thread pauses for a server that did not answer.
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
    /// Called in the background thread when the task is due. Should not wait for the network
    /// longer than `limit`, when another task is due at latest. Returns when to call it again.
    virtual std::optional<Times> on_time(std::chrono::milliseconds limit) = 0;
    /// Due tasks of one group are called together; null: the task is called alone.
    [[nodiscard]] virtual const void* group() const noexcept { return nullptr; }
    /// on_time() for all tasks in `batch`: those of this task's group, this task first.
    virtual std::vector<std::optional<Times>> on_time_together(const Batch& batch,
                                                               std::chrono::milliseconds limit);
    /// The process ends; called in place of on_time().
    virtual void on_stop() {}

   private:
    friend class TimerThread;
    std::optional<Times> times_;  // guarded by the thread's mutex
  };

  /// What the thread does while it waits for the next task.
  class Pastime {
   public:
    virtual ~Pastime() = default;
    /// Returns at `until`, or after interrupt(), which may have come before; sometimes earlier.
    virtual void wait_until(Clock::time_point until) = 0;
    virtual void interrupt() = 0;
    /// Between two tasks, now and then; must not wait.
    virtual void look() = 0;

   protected:
    Pastime() = default;
    Pastime(const Pastime&) = default;
    Pastime& operator=(const Pastime&) = default;
  };

  /// For requests to this server that no caller waits for.
  static TimerThread& renewing(const std::string& server);
  /// For requests to this server by callers that must not block.
  static TimerThread& acquiring(const std::string& server);
  /// For tasks that never wait and run no user code, so each runs on time.
  static TimerThread& prompt();
  /// For tasks that make no request but run user callbacks.
  static TimerThread& notifying();
  /// Whether the calling thread is one of these.
  static bool is_background() noexcept;
  /// Whether the process ends, and nothing is called any more.
  static bool are_stopped() noexcept;
  /// Whether the calling thread is one of these threads and is being stopped.
  static bool is_ending() noexcept;

  /// Starts the thread unless it runs, so that schedule() can't fail for want of one for the next
  /// seconds. Throws std::system_error.
  void prepare();
  /// Calls `task` once at `times.due`, or earlier if that was agreed before. False when the process
  /// ends, and nothing is called any more. Throws std::system_error where the thread can't be made.
  bool schedule(const std::shared_ptr<Task>& task, Times times);
  /// In place of only sleeping, as long as the thread runs; `make` is called if it has none.
  void pass_time_with(const std::function<std::shared_ptr<Pastime>()>& make);
  /// Not called again, except for a call under way.
  void cancel(const std::shared_ptr<Task>& task);
  /// Joins the thread. `for_good`: nothing is called any more.
  void stop(bool for_good);

 private:
  void run();
  void start() MCL_REQUIRES(mutex_);
  void sleep_until(Clock::time_point until) MCL_REQUIRES(mutex_);
  void wake() MCL_REQUIRES(mutex_);
  void remove(const std::shared_ptr<Task>& task) MCL_REQUIRES(mutex_);
  /// Unschedules and returns the first task and its group's due ones.
  Batch take_due(Clock::time_point now) MCL_REQUIRES(mutex_);

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::set<std::pair<Clock::time_point, std::shared_ptr<Task>>> tasks_ MCL_GUARDED_BY(mutex_);
  std::multiset<Clock::time_point> latest_ MCL_GUARDED_BY(mutex_);
  std::thread thread_ MCL_GUARDED_BY(mutex_);
  std::shared_ptr<Pastime> pastime_ MCL_GUARDED_BY(mutex_);
  std::optional<Clock::time_point> asleep_until_ MCL_GUARDED_BY(mutex_);
  Clock::time_point wanted_ MCL_GUARDED_BY(mutex_){};  // when it was last started or prepared
  std::atomic<bool> stopping_{false};                  // raised under the mutex
};

}  // namespace memcachedlock::detail
