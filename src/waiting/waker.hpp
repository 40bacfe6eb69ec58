// Where the thread of a caller sleeps while it waits for a lock.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/clock.hpp"
#include "base/process.hpp"

namespace memcachedlock::detail {

/// A wake() before wait_until() is not lost: that wait then returns at once. In a child that is
/// forked meanwhile nobody wakes it, and it returns early.
class ThreadWaker {
 public:
  void wake() {
    if (generation_ != process_generation()) return;
    const std::lock_guard lock(mutex_);
    woken_ = true;
    changed_.notify_one();
  }

  /// Returns at `until`, or after wake().
  void wait_until(Clock::time_point until) {
    if (generation_ != process_generation()) {  // a thread of the parent may have locked the mutex
      constexpr std::chrono::milliseconds nap{50};
      std::this_thread::sleep_for(std::min<Clock::duration>(until - Clock::now(), nap));
      return;
    }
    std::unique_lock lock(mutex_);
    for (auto now = Clock::now(); !woken_ && now < until; now = Clock::now()) {
      // This condition's clock may stand still while the machine sleeps.
      changed_.wait_for(lock, std::min<Clock::duration>(until - now, max_nap));
    }
    woken_ = false;
  }

 private:
  const unsigned generation_ = process_generation();
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
};

}  // namespace memcachedlock::detail
