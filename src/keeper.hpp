// The one background thread of a process: renews leases, notices those that run out, clears away
// what an unanswered acquire may have left. Started at first need, joined at exit.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "annotations.hpp"

namespace memcachedlock::detail {

class Keeper {
 public:
  using Clock = std::chrono::steady_clock;

  class Task {
   public:
    virtual ~Task() = default;
    /// Called in the background thread when the time has come. Should not wait for the network
    /// longer than `limit`, when another task is due. Returns when to be called again, if at all.
    virtual std::optional<Clock::time_point> on_time(std::chrono::milliseconds limit) = 0;

   private:
    friend class Keeper;
    std::optional<Clock::time_point> due_;  // guarded by the keeper's mutex
  };

  /// The keeper of this process.
  static Keeper& instance();

  /// Calls `task` at `when`, or earlier if that was agreed before.
  void schedule(const std::shared_ptr<Task>& task, Clock::time_point when);
  /// Not called again, unless it is being called just now.
  void cancel(const std::shared_ptr<Task>& task);
  void stop();

 private:
  void run();

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::set<std::pair<Clock::time_point, std::shared_ptr<Task>>> tasks_ MCL_GUARDED_BY(mutex_);
  std::thread thread_ MCL_GUARDED_BY(mutex_);
  bool stopping_ MCL_GUARDED_BY(mutex_) = false;
};

}  // namespace memcachedlock::detail
