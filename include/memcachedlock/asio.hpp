// Locks for services on Boost.Asio, whose loop must not block. Boost 1.77 or later; a program that
// does not include this header does not need it.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <sys/types.h>
#include <unistd.h>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/execution/executor.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/query.hpp>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "memcachedlock/detail/async_acquire.hpp"
#include "memcachedlock/lease.hpp"
#include "memcachedlock/lock.hpp"

namespace memcachedlock {

namespace detail {

/// An operation that has not ended yet.
class AsioPending {
 public:
  virtual ~AsioPending() = default;
  /// Its execution context goes away, and with it all waits: each is marked first, then ended.
  virtual void forsake() noexcept = 0;
  virtual void abandon() noexcept = 0;
};

/// The operations of an execution context that have not ended. They end with it, and it does not go
/// away while a background thread is on its way out of it: a completion may destroy it at once.
class AsioOperations : public boost::asio::execution_context::service {
 public:
  using key_type = AsioOperations;
  static inline boost::asio::execution_context::id id;

  struct State {
    std::mutex mutex;
    std::condition_variable left;
    int inside = 0;
    bool closed = false;
    std::set<std::shared_ptr<AsioPending>> pending;
  };

  explicit AsioOperations(boost::asio::execution_context& context) : service(context) {}

  template <class Executor>
  static std::shared_ptr<State> of(const Executor& executor) {
    if constexpr (boost::asio::execution::is_executor<Executor>::value) {
      return of_context(boost::asio::query(executor, boost::asio::execution::context));
    } else {
      return of_context(executor.context());
    }
  }

 private:
  static std::shared_ptr<State> of_context(boost::asio::execution_context& context) {
    return boost::asio::use_service<AsioOperations>(context).state_;
  }

  void shutdown() override {
    std::unique_lock lock(state_->mutex);
    state_->closed = true;
    for (const auto& one : state_->pending) one->forsake();
    while (!state_->pending.empty()) {
      const auto next = state_->pending.extract(state_->pending.begin());
      lock.unlock();
      next.value()->abandon();
      lock.lock();
    }
    if (made_in_ != getpid()) return;  // who was inside is in the parent
    state_->left.wait(lock, [this] { return state_->inside == 0; });
  }

  // No thread is inside when the process is copied. What is pending never ends in the child.
  void notify_fork(boost::asio::execution_context::fork_event event) override {
    if (event == boost::asio::execution_context::fork_prepare) {
      state_->mutex.lock();
    } else {
      state_->mutex.unlock();
    }
  }

  const std::shared_ptr<State> state_ = std::make_shared<State>();
  const pid_t made_in_ = getpid();
};

/// Brings the end of an operation from the background thread to the caller's executor.
template <class Handler, class Executor>
class AsioOperation : public AsioPending,
                      public std::enable_shared_from_this<AsioOperation<Handler, Executor>> {
 public:
  AsioOperation(Handler handler, const Executor& executor)
      : handler_(std::move(handler)),
        work_(boost::asio::get_associated_executor(*handler_, executor)),
        state_(AsioOperations::of(work_->get_executor())) {}

  /// `make(self)` makes the operation, which calls complete() at its end; what it throws is given
  /// to `fail`.
  template <class Make, class Fail>
  void begin(const Make& make, const Fail& fail) {
    const auto self = this->shared_from_this();
    {
      const std::lock_guard lock(state_->mutex);
      if (state_->closed) return;
      state_->pending.insert(self);
    }
    try {
      auto slot = boost::asio::get_associated_cancellation_slot(*handler_);
      operation_ = make(self);
      if (slot.is_connected()) {
        slot.assign(
            [operation = operation_](boost::asio::cancellation_type) { operation->cancel(); });
      }
      operation_->start();
    } catch (...) {
      fail(*self, std::current_exception());
      if (operation_) operation_->abandon();  // it keeps this one, which keeps it
      operation_.reset();
    }
  }

  template <class... Results>
  void complete(Results... results) {
    {
      const std::lock_guard lock(state_->mutex);
      if (state_->pending.erase(this->shared_from_this()) == 0) return;  // abandoned
      ++state_->inside;
    }
    const auto executor = work_->get_executor();
    boost::asio::post(executor, [handler = *std::move(handler_),
                                 all = std::tuple(std::move(results)...)]() mutable {
      std::apply(std::move(handler), std::move(all));
    });
    handler_.reset();  // what was moved from may be a copy
    work_.reset();
    const std::lock_guard lock(state_->mutex);
    --state_->inside;
    state_->left.notify_all();
  }

  void forsake() noexcept override {
    if (operation_) operation_->forsake();
  }

  void abandon() noexcept override {
    if (operation_) operation_->abandon();
    handler_.reset();
    work_.reset();
  }

 private:
  std::optional<Handler> handler_;
  std::optional<
      boost::asio::executor_work_guard<boost::asio::associated_executor_t<Handler, Executor>>>
      work_;
  const std::shared_ptr<AsioOperations::State> state_;
  std::shared_ptr<AsyncOperation> operation_;
};

/// `finish` completes with what the handler takes.
template <class Handler, class Executor, class Finish>
void begin_acquire(Handler handler, const Executor& executor, BasicLock& lock,
                   std::optional<std::chrono::nanoseconds> limit, const Finish& finish) {
  using Operation = AsioOperation<Handler, Executor>;
  std::make_shared<Operation>(std::move(handler), executor)
      ->begin(
          [&](const std::shared_ptr<Operation>& self) {
            return std::make_shared<AsyncAcquire>(
                lock, limit, [self, finish](const std::exception_ptr& trouble, bool held) {
                  finish(*self, trouble, held);
                });
          },
          [&](Operation& self, const std::exception_ptr& trouble) {
            finish(self, trouble, false);
          });
}

}  // namespace detail

/// Waits for a Lock, RLock or ZLock without a thread: `co_await async_lock(executor, lock,
/// use_awaitable)`. The completion's signature is `void(std::exception_ptr)`, run by the token's
/// executor, or by `executor`. What lock() throws comes as the exception. Cancelling the operation
/// ends it with Cancelled, unless it has ended. Destroying the execution context ends it too: the
/// handler is destroyed without being called.
///
/// A coroutine is no thread. So with OwnerId::this_thread(), the default, the lock object itself is
/// the owner: two coroutines with an RLock or ZLock of one key each exclude each other, whatever
/// threads they run in. Coroutines that are to enter each other's locks, and retries that are to
/// find their reservation by another ZLock object, share an owner: OwnerId::unique(), or named().
///
/// A background thread for each server asks memcached for all these waiters, and they stand in the
/// queue of this process's threads (lock.hpp); a server that does not answer delays the acquires
/// that wait for its own locks together, by at most ClientOptions::operation_timeout for each
/// request. Commands as lock(). A lock that was acquired so is released in the background where its
/// destructor must do it, so that an exception between async_lock() and async_release() does not
/// block the loop.
///
/// `lock` must stay where it is, and must not be used, until the completion has run.
template <class Executor, class CompletionToken>
auto async_lock(const Executor& executor, BasicLock& lock, CompletionToken&& token) {
  return boost::asio::async_initiate<CompletionToken, void(std::exception_ptr)>(
      [executor, &lock](auto handler) {
        detail::begin_acquire(std::move(handler), executor, lock, std::nullopt,
                              [](auto& operation, const std::exception_ptr& trouble,
                                 bool /*held*/) { operation.complete(trouble); });
      },
      token);
}

/// async_lock() for at most `limit`; a request already in flight may end later. Zero, less, and NaN
/// ask once, more than a year is no limit. The completion's signature is
/// `void(std::exception_ptr, bool)`: whether it is held.
template <class Executor, class Rep, class Period, class CompletionToken>
auto async_try_lock_for(const Executor& executor, BasicLock& lock,
                        const std::chrono::duration<Rep, Period>& limit, CompletionToken&& token) {
  return boost::asio::async_initiate<CompletionToken, void(std::exception_ptr, bool)>(
      [executor, &lock, most = detail::wait_limit(limit)](auto handler) {
        detail::begin_acquire(std::move(handler), executor, lock, most,
                              [](auto& operation, const std::exception_ptr& trouble, bool held) {
                                operation.complete(trouble, held);
                              });
      },
      token);
}

/// release(), which waits for one answer of memcached, without blocking the caller's loop. The
/// completion's signature is `void(std::exception_ptr, Release)`. As for `lock` and the execution
/// context, see async_lock().
template <class Executor, class CompletionToken>
auto async_release(const Executor& executor, BasicLock& lock, CompletionToken&& token) {
  return boost::asio::async_initiate<CompletionToken, void(std::exception_ptr, Release)>(
      [executor, &lock](auto handler) {
        using Operation = detail::AsioOperation<decltype(handler), Executor>;
        std::make_shared<Operation>(std::move(handler), executor)
            ->begin(
                [&](const std::shared_ptr<Operation>& self) {
                  return std::make_shared<detail::AsyncRelease>(
                      lock, [self](const std::exception_ptr& trouble, Release outcome) {
                        self->complete(trouble, outcome);
                      });
                },
                [](Operation& self, const std::exception_ptr& trouble) {
                  self.complete(trouble, Release::unavailable);
                });
      },
      token);
}

}  // namespace memcachedlock
