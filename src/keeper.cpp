#include "keeper.hpp"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <iterator>

#include "process.hpp"

namespace memcachedlock::detail {

namespace {

struct Keepers {
  Keeper instance;
  Keeper punctual;
  Keeper waiting;
};

PerProcess<Keepers>& keepers() {
  // Never destroyed: locks of static storage may be released after every destructor of ours.
  static auto& all = *new PerProcess<Keepers>;
  static const bool registered = [] {
    return std::atexit([] {
             Keepers* mine = keepers().find();
             if (mine == nullptr) return;
             mine->waiting.stop();
             mine->instance.stop();  // its last request may have to be cut off
             mine->punctual.stop();
           }) == 0;
  }();
  (void)registered;
  return all;
}

constexpr std::chrono::milliseconds shortest_limit{5};
constexpr std::chrono::hours longest_limit{1};

}  // namespace

Keeper& Keeper::instance() { return keepers().get().instance; }
Keeper& Keeper::waiting() { return keepers().get().waiting; }
Keeper& Keeper::punctual() { return keepers().get().punctual; }

void Keeper::schedule(const std::shared_ptr<Task>& task, Times times) {
  bool first = false;
  {
    const MutexLock lock(mutex_);
    if (stopping_) return;
    if (task->times_) {
      times.due = std::min(times.due, task->times_->due);
      times.latest = std::min(times.latest, task->times_->latest);
      remove(task);
    }
    task->times_ = times;
    latest_.insert(times.latest);
    const auto place = tasks_.emplace(times.due, task).first;
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

void Keeper::remove(const std::shared_ptr<Task>& task) {
  tasks_.erase({task->times_->due, task});
  latest_.erase(latest_.find(task->times_->latest));
  task->times_.reset();
}

Keeper::Batch Keeper::take_due(Clock::time_point now) {
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

std::vector<std::optional<Keeper::Times>> Keeper::Task::on_time_together(
    const Batch& batch, std::chrono::milliseconds limit) {
  std::vector<std::optional<Times>> again;
  for (const auto& task : batch) again.push_back(task->on_time(limit));
  return again;
}

void Keeper::cancel(const std::shared_ptr<Task>& task) {
  const MutexLock lock(mutex_);
  if (task->times_) remove(task);
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
    const auto now = Clock::now();
    if (const auto due = tasks_.begin()->first; due > now) {
      changed_.wait_until(mutex_, due);  // holding no task: it may be cancelled meanwhile
      continue;
    }
    Batch batch = take_due(now);
    const auto next = latest_.empty() ? now + longest_limit : *latest_.begin();
    const auto limit = std::chrono::ceil<std::chrono::milliseconds>(next - now);
    mutex_.unlock();
    const auto again = batch.front()->on_time_together(
        batch, std::clamp<std::chrono::milliseconds>(limit, shortest_limit, longest_limit));
    for (std::size_t at = 0; at < batch.size(); ++at) {
      if (again[at]) schedule(batch[at], *again[at]);
    }
    batch.clear();  // what goes with it may wait for the network
    mutex_.lock();
  }
  tasks_.clear();
  mutex_.unlock();
}

}  // namespace memcachedlock::detail
