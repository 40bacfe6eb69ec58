#include "memcachedlock/detail/async_acquire.hpp"

#include <fmt/format.h>

#include <atomic>
#include <thread>
#include <utility>

#include "base/process.hpp"
#include "base/timer_thread.hpp"
#include "lock/acquisition.hpp"
#include "memcachedlock/error.hpp"
#include "waiting/lock_spec.hpp"

namespace memcachedlock::detail {

/// Its mutex is locked while it is at work, so that abandon() returns when it is not.
class AsyncOperation::Task : public std::enable_shared_from_this<Task> {
 public:
  explicit Task(TimerThread& thread) : thread_(&thread) {}
  virtual ~Task() = default;
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;

  /// Throws std::system_error where the thread can't be made.
  void start() {
    if (!schedule()) on_stop();
  }

  void cancel() noexcept {
    cancelled_.store(true);
    try {
      (void)schedule();
    } catch (const std::exception&) {  // no thread, so nothing was begun
    }
  }

  void forsake() noexcept { forsaken_.store(true); }

  void abandon() noexcept {
    forsake();
    // Not in a forked child, which has neither the thread nor the mutex's owner; nor where this is
    // the step itself, which has called code that ends the process.
    if (generation_ != process_generation() || at_work_.load() == std::this_thread::get_id())
      return;
    const MutexLock lock(mutex_);
    if (std::exchange(ended_, true)) return;
    give_up();
  }

  /// A step, in the thread of `relay`.
  std::optional<TimerThread::Times> on_time(const TimerThread::Task& relay) {
    const MutexLock lock(mutex_);
    if (ended_ || forsaken_.load()) return std::nullopt;
    if (!is_current(relay)) {  // woken as it went
      (void)schedule();
      return std::nullopt;
    }
    at_work_.store(std::this_thread::get_id());
    const auto again = step();
    at_work_.store({});
    if (again) {
      if (go_on_in(next_thread(), *again)) return std::nullopt;
      return TimerThread::Times{*again, *again};
    }
    ended_ = true;
    finish();
    return std::nullopt;
  }

  void on_stop() {
    const MutexLock lock(mutex_);
    if (ended_ || forsaken_.load()) return;
    end_with_process();
    ended_ = true;
    finish();
  }

 protected:
  /// The next steps are another thread's, from `time` on; false where they are this one's.
  bool go_on_in(TimerThread& other, Clock::time_point time) {
    TimerThread* before = nullptr;
    {
      const MutexLock lock(relay_mutex_);
      if (thread_ == &other) return false;
      before = std::exchange(thread_, &other);
      relay_.reset();
    }
    try {
      (void)schedule({time, time});
      return true;
    } catch (const std::exception&) {  // it can't be made
      const MutexLock lock(relay_mutex_);
      thread_ = before;
      relay_.reset();
      return false;
    }
  }
  [[nodiscard]] bool is_cancelled() const { return cancelled_.load(); }
  /// Before those that are due: they may be many, and only look.
  void schedule_first() { (void)schedule({{}, Clock::now()}); }
  /// False when the process ends.
  bool schedule() {
    const auto now = Clock::now();
    return schedule({now, now});
  }

 private:
  /// When the next is due; nothing when it has ended.
  virtual std::optional<Clock::time_point> step() = 0;
  /// That of the server which the next step asks.
  [[nodiscard]] virtual TimerThread& next_thread() const = 0;
  /// In place of a step: the threads of the library are stopped.
  virtual void end_with_process() = 0;
  /// Reports the end.
  virtual void finish() = 0;
  /// Forgets the lock object and its completion.
  virtual void give_up() noexcept = 0;

  /// What one thread has of it.
  class Relay final : public TimerThread::Task {
   public:
    explicit Relay(std::shared_ptr<AsyncOperation::Task> task) : task_(std::move(task)) {}
    std::optional<TimerThread::Times> on_time(std::chrono::milliseconds /*limit*/) override {
      return task_->on_time(*this);
    }
    void on_stop() override { task_->on_stop(); }

   private:
    const std::shared_ptr<AsyncOperation::Task> task_;
  };
  bool schedule(TimerThread::Times times) {
    std::shared_ptr<Relay> relay;
    TimerThread* thread = nullptr;
    {
      const MutexLock lock(relay_mutex_);
      thread = thread_;
      relay = relay_.lock();
      if (!relay) relay_ = relay = std::make_shared<Relay>(shared_from_this());
    }
    return thread->schedule(relay, times);
  }
  bool is_current(const TimerThread::Task& relay) {
    const MutexLock lock(relay_mutex_);
    return relay_.lock().get() == &relay;
  }

  Mutex relay_mutex_;
  TimerThread* thread_ MCL_GUARDED_BY(relay_mutex_);
  std::weak_ptr<Relay> relay_ MCL_GUARDED_BY(relay_mutex_);  // in that thread
  const unsigned generation_ = process_generation();
  Mutex mutex_;
  bool ended_ MCL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> forsaken_{false};
  std::atomic<std::thread::id> at_work_{};
};

AsyncOperation::AsyncOperation(std::shared_ptr<Task> task) : task_(std::move(task)) {}
AsyncOperation::~AsyncOperation() = default;
void AsyncOperation::start() { task_->start(); }
void AsyncOperation::cancel() noexcept { task_->cancel(); }
void AsyncOperation::forsake() noexcept { task_->forsake(); }
void AsyncOperation::abandon() noexcept { task_->abandon(); }

/// Drives an Acquisition, as BasicLock::acquire() does in a thread.
class AsyncAcquire::AcquireTask final : public AsyncOperation::Task {
 public:
  AcquireTask(BasicLock& lock, Done done)
      : Task((lock.refresh(), lock.spec_->server.acquiring())),
        spec_(lock.spec_),
        done_(std::move(done)) {}

  /// Before it is started, where weak_from_this() is there.
  void begin(BasicLock& lock, std::optional<std::chrono::nanoseconds> limit) {
    held_ = lock.hold_.enter_unprotected(*spec_);
    if (held_) return;
    acquisition_.emplace(spec_, lock.hold_, Waiting::event_loop, limit, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) static_cast<AcquireTask&>(*self).schedule_first();
    });
  }

 private:
  std::optional<Clock::time_point> step() override {
    if (held_) return std::nullopt;
    try {
      if (const auto again = acquisition_->step(is_cancelled())) return again;
      held_ = acquisition_->acquired();
    } catch (...) {
      trouble_ = std::current_exception();
    }
    // Out of the queue, before anybody is told. Not by a request: all others wait for this thread.
    if (!held_) acquisition_->abandon();
    acquisition_.reset();
    return std::nullopt;
  }

  [[nodiscard]] TimerThread& next_thread() const override {
    return acquisition_ ? acquisition_->server().acquiring() : spec_->server.acquiring();
  }

  void end_with_process() override {
    if (held_) return;
    acquisition_->abandon();
    acquisition_.reset();
    const std::string& key = spec_->key.text();
    trouble_ = std::make_exception_ptr(
        Cancelled(fmt::format("waiting for \"{}\" was cancelled: the process ends", key), key,
                  spec_->server.name()));
  }

  void finish() override { std::exchange(done_, nullptr)(trouble_, held_); }

  void give_up() noexcept override {
    if (acquisition_) acquisition_->abandon();
    acquisition_.reset();
    done_ = nullptr;
  }

  const SharedSpec spec_;
  Done done_;
  bool held_ = false;
  std::exception_ptr trouble_;
  std::optional<Acquisition> acquisition_;
};

AsyncAcquire::AsyncAcquire(BasicLock& lock, std::optional<std::chrono::nanoseconds> limit,
                           Done done)
    : AsyncOperation([&] {
        auto task = std::make_shared<AcquireTask>(lock, std::move(done));
        task->begin(lock, limit);
        return task;
      }()) {}
AsyncAcquire::~AsyncAcquire() = default;

class AsyncRelease::ReleaseTask final : public AsyncOperation::Task {
 public:
  ReleaseTask(BasicLock& lock, Done done)
      : Task(lock.spec_->server.acquiring()),
        lock_(lock),
        spec_(lock.spec_),
        done_(std::move(done)) {}

 private:
  /// Those due meanwhile share a failure that took long.
  std::optional<Clock::time_point> step() override {
    Server& server = spec_->server;
    const auto began = Clock::now();
    const auto failure = server.failure_since(due_);
    try {
      outcome_ = lock_.leave(std::nullopt, failure ? &*failure : nullptr);
    } catch (...) {
      trouble_ = std::current_exception();
    }
    const auto limit = spec_->cluster->options().operation_timeout;
    if (outcome_ == Release::unavailable && Clock::now() - began >= limit / 2) {
      server.note_failure({.what = "a release was not answered", .server = server.name()});
    }
    return std::nullopt;
  }
  [[nodiscard]] TimerThread& next_thread() const override { return spec_->server.acquiring(); }
  void end_with_process() override { (void)step(); }
  void finish() override { std::exchange(done_, nullptr)(trouble_, outcome_); }
  void give_up() noexcept override { done_ = nullptr; }

  BasicLock& lock_;
  const SharedSpec spec_;
  const Clock::time_point due_ = Clock::now();
  Done done_;
  std::exception_ptr trouble_;
  Release outcome_ = Release::lost;
};

AsyncRelease::AsyncRelease(BasicLock& lock, Done done)
    : AsyncOperation(std::make_shared<ReleaseTask>(lock, std::move(done))) {}
AsyncRelease::~AsyncRelease() = default;

}  // namespace memcachedlock::detail
