#include "memcachedlock/detail/async_acquire.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "base/keeper.hpp"
#include "base/process.hpp"
#include "lock/lock_spec.hpp"
#include "lock/wait.hpp"
#include "memcachedlock/error.hpp"

namespace memcachedlock::detail {

/// Its mutex is locked while it is at work, so that abandon() returns when it is not.
class AsyncOperation::Task : public Keeper::Task, public std::enable_shared_from_this<Task> {
 public:
  explicit Task(Keeper& keeper) : keeper_(keeper) {}

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
    // the step itself, which has called somebody who ends the process.
    if (generation_ != process_generation() || at_work_.load() == std::this_thread::get_id())
      return;
    const MutexLock lock(mutex_);
    if (std::exchange(ended_, true)) return;
    give_up();
  }

  std::optional<Keeper::Times> on_time(std::chrono::milliseconds /*limit*/) override {
    const MutexLock lock(mutex_);
    if (ended_ || forsaken_.load()) return std::nullopt;
    at_work_.store(std::this_thread::get_id());
    const auto again = step();
    at_work_.store({});
    if (again) return Keeper::Times{*again, *again};
    ended_ = true;
    finish();
    return std::nullopt;
  }

  void on_stop() override {
    const MutexLock lock(mutex_);
    if (ended_ || forsaken_.load()) return;
    end_with_process();
    ended_ = true;
    finish();
  }

 protected:
  [[nodiscard]] bool is_cancelled() const { return cancelled_.load(); }
  /// False when the process ends.
  bool schedule() {
    const auto now = Clock::now();
    return keeper_.schedule(shared_from_this(), {now, now});
  }

 private:
  /// When the next is due; nothing when it has ended.
  virtual std::optional<Clock::time_point> step() = 0;
  /// In place of a step: the threads of the library are stopped.
  virtual void end_with_process() = 0;
  /// Tells of the end.
  virtual void finish() = 0;
  /// Forgets the lock object, and whom to tell; asks nothing.
  virtual void give_up() noexcept = 0;

  Keeper& keeper_;
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

/// The loop of BasicLock::acquire(), one turn each time.
class AsyncAcquire::AcquireTask final : public AsyncOperation::Task {
 public:
  AcquireTask(BasicLock& lock, std::optional<std::chrono::nanoseconds> limit, Done done)
      : Task(lock.spec_->server.acquiring()),
        lock_(lock),
        deadline_(limit ? std::optional(Clock::now() + *limit) : std::nullopt),
        done_(std::move(done)),
        held_(lock.is_unprotected()) {
    if (!held_) wait_.emplace(lock, BasicLock::Wait::Way::background);
  }

  /// Before it is started, where shared_from_this() is there.
  void arrange_wakes() {
    if (!wait_) return;
    wait_->wake = [weak = weak_from_this()] {
      if (const auto self = weak.lock()) static_cast<AcquireTask&>(*self).schedule();
    };
  }

 private:
  std::optional<Clock::time_point> step() override {
    if (held_) return std::nullopt;
    std::optional<Clock::time_point> again;
    try {
      again = turn();
    } catch (...) {
      trouble_ = std::current_exception();
    }
    if (again) {
      due_ = *again;
    } else {
      wait_.reset();  // out of the queue, before anybody is told
    }
    return again;
  }

  void end_with_process() override {
    if (held_) return;
    wait_->candidate.leave_later();
    wait_.reset();
    const std::string& key = lock_.spec_->key.text();
    trouble_ = std::make_exception_ptr(
        Cancelled(fmt::format("waiting for \"{}\" was cancelled: the process ends", key), key,
                  lock_.spec_->server.name()));
  }

  void finish() override { std::exchange(done_, nullptr)(trouble_, held_); }

  void give_up() noexcept override {
    if (wait_) wait_->candidate.leave_later();
    wait_.reset();
    done_ = nullptr;
  }

  std::optional<Clock::time_point> turn() {
    BasicLock::Wait& wait = *wait_;
    if (napping_) {
      BasicLock::Attempt how;
      if (const auto until = wait.place->nap(deadline_, is_cancelled(), how.woken)) return until;
      napping_ = false;
      if (how.woken.index() != 0) held_ = lock_.attempt(wait, std::move(how));
    }
    if (!held_ && is_cancelled()) lock_.cancel(wait);
    if (!held_ && !(asked_ && is_late()) && (!wait.place || wait.place->may_ask())) held_ = ask();
    if (held_) return std::nullopt;
    if (is_late()) {
      lock_.tell_end(wait, EventKind::given_up, "timed_out");
      return std::nullopt;
    }
    napping_ = wait.place.has_value();
    if (napping_) return Clock::now();
    return deadline_ ? std::min(wait.again, *deadline_) : wait.again;
  }

  [[nodiscard]] bool is_late() const { return deadline_ && Clock::now() >= *deadline_; }

  /// The thread asks for one after the other. Where it had to wait for an answer that did not come,
  /// all whose turn had come meanwhile share that.
  bool ask() {
    asked_ = true;
    BasicLock::Attempt how;
    if (auto failure = lock_.spec_->server.failure_since(due_)) how.woken = *std::move(failure);
    return lock_.attempt(*wait_, std::move(how));
  }

  BasicLock& lock_;
  const std::optional<Clock::time_point> deadline_;
  Done done_;
  bool held_;
  std::exception_ptr trouble_;
  std::optional<BasicLock::Wait> wait_;
  Clock::time_point due_ = Clock::now();  // since when it wants to ask
  bool asked_ = false;
  bool napping_ = false;
};

AsyncAcquire::AsyncAcquire(BasicLock& lock, std::optional<std::chrono::nanoseconds> limit,
                           Done done)
    : AsyncOperation([&] {
        auto task = std::make_shared<AcquireTask>(lock, limit, std::move(done));
        task->arrange_wakes();
        return task;
      }()) {}
AsyncAcquire::~AsyncAcquire() = default;

class AsyncRelease::ReleaseTask final : public AsyncOperation::Task {
 public:
  ReleaseTask(BasicLock& lock, Done done)
      : Task(lock.spec_->server.acquiring()), lock_(lock), done_(std::move(done)) {}

 private:
  std::optional<Clock::time_point> step() override {
    try {
      outcome_ = lock_.release();
    } catch (...) {
      trouble_ = std::current_exception();
    }
    return std::nullopt;
  }
  void end_with_process() override { (void)step(); }
  void finish() override { std::exchange(done_, nullptr)(trouble_, outcome_); }
  void give_up() noexcept override { done_ = nullptr; }

  BasicLock& lock_;
  Done done_;
  std::exception_ptr trouble_;
  Release outcome_ = Release::unavailable;
};

AsyncRelease::AsyncRelease(BasicLock& lock, Done done)
    : AsyncOperation(std::make_shared<ReleaseTask>(lock, std::move(done))) {}
AsyncRelease::~AsyncRelease() = default;

}  // namespace memcachedlock::detail
