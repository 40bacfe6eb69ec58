#include "waiting/waker.hpp"

#include <algorithm>

namespace memcachedlock::detail {

void ThreadWaker::wake() {
  if (generation_ != process_generation()) return;
  const std::lock_guard lock(mutex_);
  woken_ = true;
  // Not where the thread itself delivers what it has read.
  if (reading_ != nullptr && reader_ != std::this_thread::get_id()) reading_->interrupt();
  changed_.notify_one();
}

void ThreadWaker::take_over() noexcept {
  const std::lock_guard lock(mutex_);
  reads_ = true;
  changed_.notify_one();
}

void ThreadWaker::wait_until(Clock::time_point until, Mailbox* mailbox) {
  if (generation_ != process_generation()) {  // a thread of the parent may have locked the mutex
    constexpr std::chrono::milliseconds nap{50};
    std::this_thread::sleep_for(std::min<Clock::duration>(until - Clock::now(), nap));
    return;
  }
  if (mailbox != nullptr && !mailbox->is_open()) mailbox = nullptr;
  if (mailbox == nullptr) {
    sleep(until, nullptr);
    return;
  }
  /// Also where the thread is cancelled.
  class Joined {
   public:
    Joined(Mailbox& box, ThreadWaker& waker) : box_(box), waker_(waker) {
      {
        const std::lock_guard lock(waker.mutex_);
        waker.reads_ = false;
      }
      if (box.join(waker)) waker.take_over();
    }
    ~Joined() { box_.leave(waker_); }
    Joined(const Joined&) = delete;
    Joined& operator=(const Joined&) = delete;

   private:
    Mailbox& box_;
    ThreadWaker& waker_;
  };
  const Joined joined(*mailbox, *this);
  sleep(until, mailbox);
}

void ThreadWaker::sleep(Clock::time_point until, Mailbox* mailbox) {
  std::unique_lock lock(mutex_);
  for (auto now = Clock::now(); !woken_ && now < until; now = Clock::now()) {
    // The system's clocks may stand still while the machine sleeps.
    const auto nap = std::min<Clock::duration>(until - now, max_nap);
    if (mailbox == nullptr || !reads_ || !mailbox->is_open()) {
      changed_.wait_for(lock, nap);
      continue;
    }
    reading_ = mailbox;
    reader_ = std::this_thread::get_id();
    lock.unlock();
    mailbox->receive(now + nap);
    lock.lock();
    reading_ = nullptr;
  }
  woken_ = false;
}

}  // namespace memcachedlock::detail
