// Where the thread of a caller sleeps while it waits for a lock.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/clock.hpp"
#include "base/process.hpp"
#include "base/timer_thread.hpp"
#include "server/mailbox.hpp"

namespace memcachedlock::detail {

/// A wake() before wait_until() is not lost: that wait then returns at once. In a child that is
/// forked meanwhile nobody wakes it, and it returns early.
class ThreadWaker : private Mailbox::Reader {
 public:
  void wake();
  /// Returns at `until`, or after wake(). Reads the mailbox meanwhile, if there is one and no other
  /// thread does.
  void wait_until(Clock::time_point until, Mailbox* mailbox = nullptr);

 private:
  void take_over() noexcept override;
  void sleep(Clock::time_point until, Mailbox* mailbox);

  const unsigned generation_ = process_generation();
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
  bool reads_ = false;
  Mailbox* reading_ = nullptr;  // while it reads, in this thread:
  std::thread::id reader_;
};

/// What the thread of the event loops does while no step is due: it reads what those that it serves
/// are told.
class LoopPastime final : public TimerThread::Pastime {
 public:
  explicit LoopPastime(Mailbox& mailbox) : mailbox_(mailbox) {}
  void wait_until(Clock::time_point until) override {
    waker_.wait_until(until, mailbox_.has_loop_waits() ? &mailbox_ : nullptr);
  }
  void interrupt() override { waker_.wake(); }
  void look() override {
    if (mailbox_.has_loop_waits()) mailbox_.receive_now();
  }

 private:
  Mailbox& mailbox_;
  ThreadWaker waker_;
};

}  // namespace memcachedlock::detail
