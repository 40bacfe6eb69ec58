#include "memcachedlock/detail/async_acquire.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

#include "keeper.hpp"
#include "lock_spec.hpp"
#include "wait.hpp"

namespace memcachedlock::detail {

/// Locked while it is at work, so that abandon() returns when it is not.
class AsyncOperation::Task : public Keeper::Task, public std::enable_shared_from_this<Task> {
 public:
  explicit Task(Keeper& keeper) : keeper_(keeper) {}

  void schedule() {
    const auto now = Clock::now();
    keeper_.schedule(shared_from_this(), {now, now});
  }

  void cancel() noexcept {
    cancelled_.store(true);
    try {
      schedule();
    } catch (const std::exception&) {  // no thread, so nothing was begun
    }
  }

  void abandon() noexcept {
    const MutexLock lock(mutex_);
    if (ended_) return;
    ended_ = true;
    give_up();
  }

  std::optional<Keeper::Times> on_time(std::chrono::milliseconds /*limit*/) override {
    const MutexLock lock(mutex_);
    if (ended_) return std::nullopt;
    const auto again = step();
    if (again) return Keeper::Times{*again, *again};
    ended_ = true;
    finish();
    return std::nullopt;
  }

 protected:
  [[nodiscard]] bool is_cancelled() const { return cancelled_.load(); }

 private:
  /// When the next is due; nothing when it has ended.
  virtual std::optional<Clock::time_point> step() = 0;
  /// Tells of the end.
  virtual void finish() = 0;
  /// Forgets the lock object, and whom to tell.
  virtual void give_up() noexcept = 0;

  Keeper& keeper_;
  Mutex mutex_;
  bool ended_ MCL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> cancelled_{false};
};

AsyncOperation::AsyncOperation(std::shared_ptr<Task> task) : task_(std::move(task)) {}
AsyncOperation::~AsyncOperation() = default;
void AsyncOperation::start() { task_->schedule(); }
void AsyncOperation::cancel() noexcept { task_->cancel(); }
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
      if (const auto self = weak.lock()) self->schedule();
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
    if (!again) wait_.reset();  // out of the queue, before anybody is told
    return again;
  }

  void finish() override { std::exchange(done_, nullptr)(trouble_, held_); }

  void give_up() noexcept override {
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
    if (!held_ && (!wait.place || wait.place->may_ask())) held_ = lock_.attempt(wait, {});
    if (held_) return std::nullopt;
    if (deadline_ && Clock::now() >= *deadline_) {
      lock_.tell_end(wait, EventKind::given_up, "timed_out");
      return std::nullopt;
    }
    napping_ = wait.place.has_value();
    if (napping_) return Clock::now();
    return deadline_ ? std::min(wait.again, *deadline_) : wait.again;
  }

  BasicLock& lock_;
  const std::optional<Clock::time_point> deadline_;
  Done done_;
  bool held_;
  std::exception_ptr trouble_;
  std::optional<BasicLock::Wait> wait_;
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
