#include "memcachedlock/detail/async_acquire.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

#include "keeper.hpp"
#include "wait.hpp"

namespace memcachedlock::detail {

namespace {

class Once final : public Keeper::Task {
 public:
  explicit Once(std::function<void()> what) : what_(std::move(what)) {}
  std::optional<Keeper::Times> on_time(std::chrono::milliseconds /*limit*/) override {
    std::exchange(what_, nullptr)();
    return std::nullopt;
  }

 private:
  std::function<void()> what_;
};

void schedule_now(const std::shared_ptr<Keeper::Task>& task) {
  const auto now = Keeper::Clock::now();
  Keeper::waiting().schedule(task, {now, now});
}

}  // namespace

/// The loop of BasicLock::acquire(), one turn each time.
class AsyncAcquire::Task final : public Keeper::Task,
                                 public std::enable_shared_from_this<AsyncAcquire::Task> {
 public:
  Task(BasicLock& lock, std::optional<Time> deadline, Done done)
      : lock_(lock),
        deadline_(deadline),
        done_(std::move(done)),
        held_already_(lock.is_unprotected()) {
    if (!held_already_) wait_.emplace(lock, BasicLock::Wait::Way::background);
  }

  void start() {
    if (wait_) {
      wait_->wake = [weak = weak_from_this()] {
        if (const auto self = weak.lock()) schedule_now(self);
      };
    }
    schedule_now(shared_from_this());
  }

  void cancel() {
    cancelled_.store(true);
    schedule_now(shared_from_this());
  }

  std::optional<Keeper::Times> on_time(std::chrono::milliseconds /*limit*/) override {
    if (!done_) return std::nullopt;  // cancelled when it had ended
    std::optional<Time> again;
    std::exception_ptr trouble;
    bool held = held_already_;
    try {
      if (!held) again = turn(held);
    } catch (...) {
      trouble = std::current_exception();
    }
    if (again) return Keeper::Times{*again, *again};
    wait_.reset();  // out of the queue, before anybody is told
    std::exchange(done_, nullptr)(trouble, held);
    return std::nullopt;
  }

 private:
  /// When the next is due; nothing when it has ended.
  std::optional<Time> turn(bool& held) {
    BasicLock::Wait& wait = *wait_;
    if (napping_) {
      std::optional<Handed> served;
      if (const auto until = wait.place->nap(deadline_, cancelled_.load(), served)) return until;
      napping_ = false;
      if (served) held = lock_.attempt(wait, &*served);
    }
    if (!held && cancelled_.load()) lock_.cancel(wait);
    if (!held && (!wait.place || wait.place->may_ask())) held = lock_.attempt(wait);
    if (held) return std::nullopt;
    if (deadline_ && Keeper::Clock::now() >= *deadline_) {
      lock_.tell_end(wait, EventKind::given_up, "timed_out");
      return std::nullopt;
    }
    napping_ = wait.place.has_value();
    if (napping_) return Keeper::Clock::now();
    return deadline_ ? std::min(wait.again, *deadline_) : wait.again;
  }

  BasicLock& lock_;
  const std::optional<Time> deadline_;
  Done done_;  // empty once it was called
  const bool held_already_;
  std::optional<BasicLock::Wait> wait_;
  bool napping_ = false;
  std::atomic<bool> cancelled_{false};
};

AsyncAcquire::AsyncAcquire(BasicLock& lock, std::optional<Time> deadline, Done done)
    : task_(std::make_shared<Task>(lock, deadline, std::move(done))) {}

AsyncAcquire::~AsyncAcquire() = default;

void AsyncAcquire::start() { task_->start(); }
void AsyncAcquire::cancel() noexcept { task_->cancel(); }

void in_background(std::function<void()> what) {
  schedule_now(std::make_shared<Once>(std::move(what)));
}

}  // namespace memcachedlock::detail
