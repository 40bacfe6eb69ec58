#include "keeper.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>

#include "process.hpp"

namespace memcachedlock::detail {

namespace {

PerProcess<Keeper>& keepers() {
  // Never destroyed: locks of static storage may be released after every destructor of ours.
  static auto& instance = *new PerProcess<Keeper>;
  static const bool registered = [] {
    return std::atexit([] {
             if (Keeper* keeper = keepers().find()) keeper->stop();
           }) == 0;
  }();
  (void)registered;
  return instance;
}

constexpr std::chrono::milliseconds shortest_limit{5};
constexpr std::chrono::hours longest_limit{1};

}  // namespace

Keeper& Keeper::instance() { return keepers().get(); }

void Keeper::schedule(const std::shared_ptr<Task>& task, Clock::time_point when) {
  bool first = false;
  {
    const MutexLock lock(mutex_);
    if (stopping_ || (task->due_ && *task->due_ <= when)) return;
    if (task->due_) tasks_.erase({*task->due_, task});
    task->due_ = when;
    const auto place = tasks_.emplace(when, task).first;
    first = place == tasks_.begin();
    if (!thread_.joinable()) {
      // Signals are for the program's own threads.
      sigset_t all;
      sigset_t before;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, &before);
      try {
        thread_ = std::thread([this] { run(); });
      } catch (...) {
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
      }
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
  }
  if (first) changed_.notify_one();
}

void Keeper::cancel(const std::shared_ptr<Task>& task) {
  const MutexLock lock(mutex_);
  if (!task->due_) return;
  tasks_.erase({*task->due_, task});
  task->due_.reset();
}

void Keeper::stop() {
  std::thread thread;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    thread.swap(thread_);
  }
  changed_.notify_one();
  if (thread.joinable()) thread.join();
}

void Keeper::run() {
  mutex_.lock();
  while (!stopping_) {
    if (tasks_.empty()) {
      changed_.wait(mutex_);
      continue;
    }
    const auto [due, task] = *tasks_.begin();
    const auto now = Clock::now();
    if (due > now) {
      changed_.wait_until(mutex_, due);
      continue;
    }
    tasks_.erase(tasks_.begin());
    task->due_.reset();
    const auto next = tasks_.empty() ? now + longest_limit : tasks_.begin()->first;
    const auto limit = std::chrono::ceil<std::chrono::milliseconds>(next - now);
    mutex_.unlock();
    const auto again = task->on_time(std::max(limit, shortest_limit));
    if (again) schedule(task, *again);
    mutex_.lock();
  }
  tasks_.clear();
  mutex_.unlock();
}

}  // namespace memcachedlock::detail
