// ZLock: a lock in front of a store that commits optimistically and throws on conflict.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>

#include "memcachedlock/any_of.hpp"
#include "memcachedlock/deferred_release.hpp"
#include "memcachedlock/detail/awaitable.hpp"
#include "memcachedlock/detail/call_then.hpp"
#include "memcachedlock/detail/conflict.hpp"
#include "memcachedlock/error.hpp"
#include "memcachedlock/lock.hpp"

namespace memcachedlock {

/// Which code begins the transaction in which the callable works.
enum class Transaction {
  inside,  ///< the callable itself: run again on conflict, with the lock still held
  outside  ///< a caller further out, who retries the whole on conflict
};

/// The options of ZLock: those of LockOptions, with softer defaults where the store protects its
/// data, and its own.
struct ZLockOptions {
  std::chrono::milliseconds timeout{30'000};              ///< LockOptions::timeout
  std::chrono::milliseconds interval{50};                 ///< LockOptions::interval
  bool renew = false;                                     ///< LockOptions::renew
  std::string scope = {};                                 ///< LockOptions::scope
  OwnerId owner = OwnerId::this_thread();                 ///< LockOptions::owner
  OnUnavailable on_unavailable = OnUnavailable::proceed;  ///< the store finds conflicts meanwhile
  RestartGuard restart_guard = RestartGuard::off;         ///< likewise

  /// How often the callable runs at most, with Transaction::inside; at least 1.
  int max_attempts = 3;
  /// Which code begins the store's transaction.
  Transaction transaction = Transaction::inside;
  /// How long the lock stays reserved for its owner, which retries, with Transaction::outside.
  std::chrono::milliseconds reservation{1'000};
  /// With Transaction::outside: given the lock after the callable has returned, instead of its
  /// release; keep it until the transaction has ended.
  std::function<void(DeferredRelease)> until_transaction_ends = {};

  /// Those that all locks have.
  [[nodiscard]] LockOptions lock_options() const {
    return {timeout, interval, renew, scope, owner, on_unavailable, restart_guard};
  }
};

namespace detail {

MEMCACHEDLOCK_EXPORT void check_zlock_options(const ZLockOptions& options);
MEMCACHEDLOCK_EXPORT std::chrono::milliseconds retry_pause(int attempt);

}  // namespace detail

/// A re-entrant lock (as RLock) for writers of one object in an optimistic store, whose commit
/// throws one of ConflictErrors. run() does what with_zlock() does, for code that needs the lock
/// as an object. Where an outer ZLock of the same owner has lost its lease, an inner one runs
/// unlocked: the store protects its data.
template <class... ConflictErrors>
class ZLock : public BasicLock {
  static_assert(sizeof...(ConflictErrors) > 0,
                "memcachedlock: name the exceptions that mean a conflict: ZLock<ConflictError>");

 public:
  /// Makes no request. Throws InvalidKey, InvalidOption.
  [[nodiscard]] ZLock(const MemcachedClient& client, std::string_view key,
                      ZLockOptions options = {})
      : BasicLock(client, key, options.lock_options(), LockType::zlock),
        options_(std::make_shared<const ZLockOptions>(std::move(options))) {
    detail::check_zlock_options(*options_);
  }
  /// nullptr is no key.
  ZLock(const MemcachedClient&, std::nullptr_t, ZLockOptions = {}) = delete;
  /// Takes over what is held; `other` is free afterwards, and can be used again.
  ZLock(ZLock&& other) noexcept : BasicLock(std::move(other)), options_(other.options_) {}
  /// Releases what is held before.
  ZLock& operator=(ZLock&& other) noexcept {
    BasicLock::operator=(std::move(other));
    options_ = other.options_;
    return *this;
  }
  ~ZLock() = default;

  /// Gives up the lock, but keeps it for its owner for `ZLockOptions::reservation`.
  void reserve() { BasicLock::reserve(options_->reservation); }

  /// Moves the lock into a callable that releases it, for a commit or abort hook.
  [[nodiscard]] DeferredRelease defer_release() { return DeferredRelease(std::move(*this)); }
  /// Its earlier name.
  [[nodiscard]] DeferredRelease hand_over() { return defer_release(); }

  /// Runs `body(lease, last)` under the lock, which must be free before and is free afterwards;
  /// `last` tells that it will not run again. With Transaction::inside it runs again on conflict,
  /// after a short pause, the lock still held; with Transaction::outside it does not run if the
  /// lock had to be waited for: its caller's transaction is old then, so a conflict is thrown.
  template <class Body>
  auto run(Body&& body) -> std::invoke_result_t<Body&, const Lease&, bool> {
    static_assert(
        !detail::NotDoneYet<std::invoke_result_t<Body&, const Lease&, bool>>,
        "memcachedlock: the body returns a coroutine, an awaitable or a future, whose work "
        "would be done when the lock is released; take the lock inside it, by co_await "
        "async_lock() of memcachedlock/asio.hpp");
    return options_->transaction == Transaction::inside ? run_inside(body) : run_outside(body);
  }

 private:
  template <class Body>
  auto run_inside(Body& body) -> std::invoke_result_t<Body&, const Lease&, bool> {
    std::unique_lock<ZLock> held(*this);
    for (int attempt = 1;; ++attempt) {
      const bool last = attempt == options_->max_attempts;
      try {
        return body(lease(), last);
      } catch (...) {
        if (!detail::handling_any_of<ConflictErrors...>()) throw;
        notify(EventKind::conflict, attempt);
        if (last) throw;
      }
      std::this_thread::sleep_for(detail::retry_pause(attempt));
      renew_or_lock_again();
      notify(EventKind::retried, attempt + 1);
    }
  }

  template <class Body>
  auto run_outside(Body& body) -> std::invoke_result_t<Body&, const Lease&, bool> {
    if (!try_lock()) {
      lock();
      reserve();
      notify(EventKind::conflict);
      using First = typename detail::Handling<AnyOf<ConflictErrors...>>::First;
      detail::throw_conflict<First>(
          "memcachedlock: had to wait for the lock, so this transaction is out of date; begin it "
          "anew, the lock is reserved");
    }
    std::unique_lock<ZLock> held(*this, std::adopt_lock);
    const auto release_or_defer = [&] {
      if (!options_->until_transaction_ends) return;
      const auto keep = options_->until_transaction_ends;
      held.release();
      keep(defer_release());
    };
    try {
      return detail::call_then([&]() -> decltype(auto) { return body(lease(), true); },
                               release_or_defer);
    } catch (...) {
      if (held.owns_lock() && detail::handling_any_of<ConflictErrors...>()) {
        held.release();
        reserve();
        notify(EventKind::conflict);
      }
      throw;
    }
  }

  void renew_or_lock_again() {
    try {
      if (extend()) return;
    } catch (const Error&) {
      return;  // the lease runs on; the store protects its data in any case
    }
    unlock();
    lock();
  }

  std::shared_ptr<const ZLockOptions> options_;
};

}  // namespace memcachedlock
