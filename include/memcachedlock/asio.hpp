// Locks for services on Boost.Asio, whose loop must not block. Boost 1.77 or later; who does not
// include this header does not need it.
#pragma once

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
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>
#include <utility>

#include "memcachedlock/detail/async_acquire.hpp"
#include "memcachedlock/lease.hpp"
#include "memcachedlock/lock.hpp"

namespace memcachedlock {

namespace detail {

/// Of an execution context, which it keeps from going away under a background thread that is still
/// on its way out of it: to whom a completion was brought may destroy the context at once.
class AsioPassage : public boost::asio::execution_context::service {
 public:
  using key_type = AsioPassage;
  static inline boost::asio::execution_context::id id;

  explicit AsioPassage(boost::asio::execution_context& context) : service(context) {}

  /// To be locked by who is inside.
  template <class Executor>
  static std::shared_ptr<std::mutex> of(const Executor& executor) {
    if constexpr (boost::asio::execution::is_executor<Executor>::value) {
      return of_context(boost::asio::query(executor, boost::asio::execution::context));
    } else {
      return of_context(executor.context());
    }
  }

 private:
  static std::shared_ptr<std::mutex> of_context(boost::asio::execution_context& context) {
    return boost::asio::use_service<AsioPassage>(context).inside_;
  }
  void shutdown() override { const std::lock_guard left(*inside_); }

  const std::shared_ptr<std::mutex> inside_ = std::make_shared<std::mutex>();
};

/// Brings the end of an operation from the background thread to the caller's executor.
template <class Handler, class Executor>
class AsioEnd {
 public:
  AsioEnd(Handler handler, const Executor& executor)
      : handler_(std::move(handler)),
        work_(boost::asio::get_associated_executor(handler_, executor)),
        passage_(AsioPassage::of(work_.get_executor())) {}

  template <class... Results>
  void operator()(Results... results) {
    const std::lock_guard inside(*passage_);
    const auto executor = work_.get_executor();
    boost::asio::post(executor, [handler = std::move(handler_),
                                 all = std::tuple(std::move(results)...)]() mutable {
      std::apply(std::move(handler), std::move(all));
    });
    work_.reset();
  }

 private:
  Handler handler_;
  boost::asio::executor_work_guard<boost::asio::associated_executor_t<Handler, Executor>> work_;
  const std::shared_ptr<std::mutex> passage_;
};

template <class Handler, class Executor>
auto make_asio_end(Handler handler, const Executor& executor) {
  return std::make_shared<AsioEnd<Handler, Executor>>(std::move(handler), executor);
}

/// `finish` calls the end with what the handler takes.
template <class Handler, class Executor, class Finish>
void begin_acquire(Handler handler, const Executor& executor, BasicLock& lock,
                   std::optional<AsyncAcquire::Time> deadline, Finish finish) {
  const auto slot = boost::asio::get_associated_cancellation_slot(handler);
  const auto end = make_asio_end(std::move(handler), executor);
  const auto done = [end, finish](const std::exception_ptr& trouble, bool held) {
    finish(*end, trouble, held);
  };
  try {
    const auto acquire = std::make_shared<AsyncAcquire>(lock, deadline, done);
    if (slot.is_connected()) {
      auto connected = slot;
      connected.assign([acquire](boost::asio::cancellation_type) { acquire->cancel(); });
    }
    acquire->start();
  } catch (...) {
    done(std::current_exception(), false);
  }
}

}  // namespace detail

/// Waits for a Lock, RLock or ZLock without a thread: `co_await async_lock(executor, lock,
/// use_awaitable)`. The completion's signature is `void(std::exception_ptr)`, run by the token's
/// executor, or by `executor`. What lock() throws comes as the exception. Cancelling the operation
/// ends it with Cancelled, unless it has ended.
///
/// One background thread of the library asks memcached for all who wait so, and they stand in the
/// queue of this process's threads (lock.hpp); a server that does not answer delays them together,
/// for no longer than ClientOptions::operation_timeout each. Commands as lock().
///
/// `lock` must stay where it is, and must not be used, until the completion has run; so must the
/// execution context. A coroutine that may go on in another thread gives an RLock or ZLock an owner
/// of its own: `LockOptions::owner = OwnerId::unique()`.
template <class Executor, class CompletionToken>
auto async_lock(const Executor& executor, BasicLock& lock, CompletionToken&& token) {
  return boost::asio::async_initiate<CompletionToken, void(std::exception_ptr)>(
      [executor, &lock](auto handler) {
        detail::begin_acquire(
            std::move(handler), executor, lock, std::nullopt,
            [](auto& end, const std::exception_ptr& trouble, bool /*held*/) { end(trouble); });
      },
      token);
}

/// The same, for no longer than `limit` but for one request under way. The completion's signature
/// is `void(std::exception_ptr, bool)`: whether it is held.
template <class Executor, class Rep, class Period, class CompletionToken>
auto async_try_lock_for(const Executor& executor, BasicLock& lock,
                        const std::chrono::duration<Rep, Period>& limit, CompletionToken&& token) {
  const auto deadline = std::chrono::steady_clock::now() +
                        std::chrono::ceil<std::chrono::steady_clock::duration>(limit);
  return boost::asio::async_initiate<CompletionToken, void(std::exception_ptr, bool)>(
      [executor, &lock, deadline](auto handler) {
        detail::begin_acquire(
            std::move(handler), executor, lock, deadline,
            [](auto& end, const std::exception_ptr& trouble, bool held) { end(trouble, held); });
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
        const auto end = detail::make_asio_end(std::move(handler), executor);
        detail::in_background([end, &lock] {
          std::exception_ptr trouble;
          Release outcome = Release::unavailable;
          try {
            outcome = lock.release();
          } catch (...) {
            trouble = std::current_exception();
          }
          (*end)(trouble, outcome);
        });
      },
      token);
}

}  // namespace memcachedlock
