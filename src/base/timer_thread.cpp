#include "base/timer_thread.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <map>

#include "base/process.hpp"
#include "base/signal_mask.hpp"

namespace memcachedlock::detail {

namespace {

thread_local const TimerThread* current = nullptr;

struct Threads {
  struct OfServer {
    TimerThread renewing;
    TimerThread acquiring;
  };
  OfServer& of(const std::string& server) {
    const MutexLock lock(mutex);
    return by_server[server];
  }
  void stop_all() {
    stopped.store(true);
    std::vector<OfServer*> all;
    {
      const MutexLock lock(mutex);
      for (auto& entry : by_server) all.push_back(&entry.second);
    }
    for (OfServer* one : all) one->acquiring.stop(true);
    for (OfServer* one : all) one->renewing.stop(true);
    notifying.stop(true);
    // The last, as it may have to cut off requests of the others; and of static objects that are
    // destroyed after this, for which it is started again.
    prompt.stop(false);
  }

  Mutex mutex;
  std::map<std::string, OfServer> by_server MCL_GUARDED_BY(mutex);  // its nodes stay where they are
  TimerThread notifying;
  TimerThread prompt;
  std::atomic<bool> stopped = false;
};

Threads& threads() {
  // Never destroyed: locks of static storage may be released after every destructor of ours.
  static constinit PerProcessForever<Threads> all;
  static std::atomic<bool> registered{false};
  if (!registered.exchange(true)) {
    std::atexit([] {
      if (Threads* mine = all.find()) mine->stop_all();
    });
  }
  return all.get();
}

constexpr std::chrono::milliseconds min_limit{5};
constexpr std::chrono::hours max_limit{1};

constexpr std::chrono::milliseconds look_interval{1};

// Longer than most requests take; limits may be up to an hour.
constexpr std::chrono::seconds max_idle{10};

}  // namespace

TimerThread& TimerThread::renewing(const std::string& server) {
  return threads().of(server).renewing;
}
TimerThread& TimerThread::acquiring(const std::string& server) {
  return threads().of(server).acquiring;
}
TimerThread& TimerThread::prompt() { return threads().prompt; }
TimerThread& TimerThread::notifying() { return threads().notifying; }
bool TimerThread::is_background() noexcept { return current != nullptr; }
bool TimerThread::are_stopped() noexcept { return threads().stopped.load(); }
bool TimerThread::is_ending() noexcept { return current != nullptr && current->stopping_.load(); }

void TimerThread::prepare() {
  const MutexLock lock(mutex_);
  start();
}

void TimerThread::start() {
  wanted_ = Clock::now();
  if (thread_.joinable() || stopping_) return;
  const SignalMask none;  // inherited: signals are for the program's own threads
  thread_ = std::thread([this] { run(); });
}

bool TimerThread::schedule(const std::shared_ptr<Task>& task, Times times) {
  const MutexLock lock(mutex_);
  if (stopping_) return false;
  start();
  if (task->times_) {
    times.due = std::min(times.due, task->times_->due);
    times.latest = std::min(times.latest, task->times_->latest);
    remove(task);
  }
  const auto entry = tasks_.emplace(times.due, task).first;
  try {
    latest_.insert(times.latest);
  } catch (...) {  // no memory
    tasks_.erase(entry);
    throw;
  }
  task->times_ = times;
  // It may be about to wake up for one that was cancelled.
  if (asleep_until_ && times.due < *asleep_until_) wake();
  return true;
}

void TimerThread::pass_time_with(const std::function<std::shared_ptr<Pastime>()>& make) {
  const MutexLock lock(mutex_);
  if (pastime_) return;
  wake();
  pastime_ = make();
}

void TimerThread::wake() {
  if (pastime_) pastime_->interrupt();
  changed_.notify_one();
}

void TimerThread::sleep_until(Clock::time_point until) {
  asleep_until_ = until;
  if (const auto pastime = pastime_) {
    mutex_.unlock();
    pastime->wait_until(until);
    mutex_.lock();
  } else {
    changed_.wait_until(mutex_, until);
  }
  asleep_until_.reset();
}

void TimerThread::remove(const std::shared_ptr<Task>& task) {
  tasks_.erase({task->times_->due, task});
  latest_.erase(latest_.find(task->times_->latest));
  task->times_.reset();
}

TimerThread::Batch TimerThread::take_due(Clock::time_point now) {
  Batch batch{tasks_.begin()->second};
  const void* const group = batch.front()->group();
  for (auto at = std::next(tasks_.begin());
       group != nullptr && at != tasks_.end() && at->first <= now && batch.size() < largest_batch;
       ++at) {
    if (at->second->group() == group) batch.push_back(at->second);
  }
  for (const auto& task : batch) remove(task);
  return batch;
}

std::vector<std::optional<TimerThread::Times>> TimerThread::Task::on_time_together(
    const Batch& batch, std::chrono::milliseconds limit) {
  std::vector<std::optional<Times>> again;
  for (const auto& task : batch) again.push_back(task->on_time(limit));
  return again;
}

void TimerThread::cancel(const std::shared_ptr<Task>& task) {
  const MutexLock lock(mutex_);
  if (task->times_) remove(task);
}

void TimerThread::stop(bool for_good) {
  std::thread thread;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    thread.swap(thread_);
    wake();
  }
  if (thread.joinable()) {
    if (thread.get_id() == std::this_thread::get_id()) {
      thread.detach();  // a task of it has called exit()
    } else {
      thread.join();
    }
  }
  if (!for_good) stopping_ = false;
}

void TimerThread::run() {
  current = this;
  Clock::time_point look_at{};
  mutex_.lock();
  while (!stopping_) {
    if (tasks_.empty()) {
      const auto until = wanted_ + max_idle;
      if (Clock::now() < until) {
        sleep_until(until);
        continue;
      }
      pastime_.reset();
      thread_.detach();
      break;
    }
    const auto now = Clock::now();
    if (const auto due = tasks_.begin()->first; due > now) {
      // Holding no task: it may be cancelled meanwhile.
      sleep_until(std::min<Clock::time_point>(due, now + max_nap));
      continue;
    }
    if (pastime_ && now >= look_at) {
      look_at = now + look_interval;
      const auto pastime = pastime_;
      mutex_.unlock();
      pastime->look();  // which may bring a task forward
      mutex_.lock();
      if (stopping_ || tasks_.empty()) continue;
    }
    Batch batch = take_due(now);
    const auto next = latest_.empty() ? now + max_limit : *latest_.begin();
    const auto limit = std::chrono::ceil<std::chrono::milliseconds>(next - now);
    mutex_.unlock();
    const auto again = batch.front()->on_time_together(
        batch, std::clamp<std::chrono::milliseconds>(limit, min_limit, max_limit));
    for (std::size_t at = 0; at < batch.size(); ++at) {
      if (again[at]) schedule(batch[at], *again[at]);
    }
    batch.clear();  // a task's destructor may make a request
    mutex_.lock();
  }
  // Task destructors may use this.
  const auto left = std::exchange(tasks_, {});
  for (const auto& entry : left) entry.second->times_.reset();
  latest_.clear();
  const bool ending = stopping_;
  mutex_.unlock();
  if (!ending) return;
  for (const auto& entry : left) entry.second->on_stop();
}

}  // namespace memcachedlock::detail
