// with_lock, with_rlock, with_zlock: a write function, wrapped so that it runs under a lock.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "memcachedlock/client.hpp"
#include "memcachedlock/detail/wrapped_call.hpp"
#include "memcachedlock/dont_lock.hpp"
#include "memcachedlock/lock.hpp"
#include "memcachedlock/options.hpp"
#include "memcachedlock/rlock.hpp"
#include "memcachedlock/zlock.hpp"

namespace memcachedlock {

/// What with_lock() and its siblings return: called as the wrapped callable is. Copies hold copies
/// of callable and key function and share the client; a const one may be called from many threads
/// at once, if the callable may.
template <class Runner, class KeyFn, class F>
class Locked {
 public:
  /// By with_lock() and its siblings.
  Locked(Runner runner, KeyFn key_fn, F callable)
      : runner_(std::move(runner)), key_fn_(std::move(key_fn)), callable_(std::move(callable)) {}

  /// Calls the callable under the lock. Throws as with_lock() says.
  template <class... Args>
  requires detail::Wrappable<const F&, Args...>
  auto operator()(Args&&... args) const -> typename detail::ResultOf<const F&, Args...>::type {
    return run(callable_, std::forward<Args>(args)...);
  }

  /// For a callable that is not const.
  template <class... Args>
  requires detail::CallableOnlyWhenMutable<F, Args...>
  auto operator()(Args&&... args) -> typename detail::ResultOf<F&, Args...>::type {
    return run(callable_, std::forward<Args>(args)...);
  }

  template <class... Args>
  requires detail::NotCallable<F, Args...> the_wrapped_callable_does_not_take_these_arguments
  operator()(Args&&...) const = delete;

 private:
  template <class G, class... Args>
  auto run(G& callable, Args&&... args) const -> typename detail::ResultOf<G&, Args...>::type {
    static_assert(detail::KeyFunction<KeyFn, Args...>,
                  "memcachedlock: the key function must take the arguments of the call and return "
                  "text (std::string, std::string_view) or a std::optional of it");
    static_assert(
        !detail::NotDoneYet<typename detail::ResultOf<G&, Args...>::type>,
        "memcachedlock: the callable returns a coroutine, an awaitable or a future, whose "
        "work would be done when the lock is released; take the lock inside it, by "
        "co_await async_lock() of memcachedlock/asio.hpp");
    if constexpr (detail::KeyFunction<KeyFn, Args...> &&
                  !detail::NotDoneYet<typename detail::ResultOf<G&, Args...>::type>) {
      // Before anything is moved from the arguments.
      const std::optional<std::string> key = detail::key_of(key_fn_, args...);
      if (!key) return detail::call(callable, Lease(), std::forward<Args>(args)...);
      return runner_(*key, callable, std::forward<Args>(args)...);
    }
  }

  Runner runner_;
  KeyFn key_fn_;
  F callable_;
};

namespace detail {

template <class Runner, class KeyFn, class F>
auto locked(Runner runner, KeyFn&& key_fn, F&& callable) {
  static_assert(CallableThing<KeyFn>,
                "memcachedlock: the key function is not callable: give a function, a lambda or a "
                "member pointer that returns the key");
  static_assert(CallableThing<F>,
                "memcachedlock: what is to be wrapped is not callable: give a function, a function "
                "object or a member pointer");
  return Locked<Runner, std::decay_t<KeyFn>, std::decay_t<F>>(
      std::move(runner), std::forward<KeyFn>(key_fn), std::forward<F>(callable));
}

}  // namespace detail

/// A callable that takes the Lock of `key_fn(args...)`, calls `callable(args...)` and releases.
///
/// The key function is called through std::invoke with the arguments as lvalues, before they are
/// forwarded. It returns text, or a std::optional of it; std::nullopt, or throwing DontLock, runs
/// the callable unlocked. A callable whose first parameter is `const Lease&`, and which cannot be
/// called without, is given the lease. It must have done its work when it returns: a coroutine, an
/// awaitable and a future do not compile.
///
/// What the callable throws leaves unchanged, the lock released. Throws as Lock::lock() does, and
/// LeaseLost when the lease was lost while the callable ran, though it has run to its end.
/// Without a client, it is MemcachedClient::from_environment(), looked up at the first call.
template <detail::NotAClient KeyFn, class F>
[[nodiscard]] auto with_lock(KeyFn&& key_fn, F&& callable,
                             std::chrono::milliseconds timeout = detail::default_timeout,
                             std::chrono::milliseconds interval = detail::default_interval) {
  return detail::locked(detail::RunHeld<Lock>{detail::ClientSource(std::nullopt),
                                              detail::with_times<LockOptions>(timeout, interval)},
                        std::forward<KeyFn>(key_fn), std::forward<F>(callable));
}
/// The same, with a client.
template <class KeyFn, class F>
[[nodiscard]] auto with_lock(const MemcachedClient& client, KeyFn&& key_fn, F&& callable,
                             std::chrono::milliseconds timeout = detail::default_timeout,
                             std::chrono::milliseconds interval = detail::default_interval) {
  return detail::locked(detail::RunHeld<Lock>{detail::ClientSource(client),
                                              detail::with_times<LockOptions>(timeout, interval)},
                        std::forward<KeyFn>(key_fn), std::forward<F>(callable));
}
/// The same, with all options.
template <class KeyFn, class F>
[[nodiscard]] auto with_lock(const MemcachedClient& client, KeyFn&& key_fn, F&& callable,
                             LockOptions options) {
  return detail::locked(detail::RunHeld<Lock>{detail::ClientSource(client), std::move(options)},
                        std::forward<KeyFn>(key_fn), std::forward<F>(callable));
}

/// with_lock() with an RLock: the callable may call itself, or another function on its key.
template <detail::NotAClient KeyFn, class F>
[[nodiscard]] auto with_rlock(KeyFn&& key_fn, F&& callable,
                              std::chrono::milliseconds timeout = detail::default_timeout,
                              std::chrono::milliseconds interval = detail::default_interval) {
  return detail::locked(detail::RunHeld<RLock>{detail::ClientSource(std::nullopt),
                                               detail::with_times<LockOptions>(timeout, interval)},
                        std::forward<KeyFn>(key_fn), std::forward<F>(callable));
}
/// The same, with a client.
template <class KeyFn, class F>
[[nodiscard]] auto with_rlock(const MemcachedClient& client, KeyFn&& key_fn, F&& callable,
                              std::chrono::milliseconds timeout = detail::default_timeout,
                              std::chrono::milliseconds interval = detail::default_interval) {
  return detail::locked(detail::RunHeld<RLock>{detail::ClientSource(client),
                                               detail::with_times<LockOptions>(timeout, interval)},
                        std::forward<KeyFn>(key_fn), std::forward<F>(callable));
}
/// The same, with all options.
template <class KeyFn, class F>
[[nodiscard]] auto with_rlock(const MemcachedClient& client, KeyFn&& key_fn, F&& callable,
                              LockOptions options) {
  return detail::locked(detail::RunHeld<RLock>{detail::ClientSource(client), std::move(options)},
                        std::forward<KeyFn>(key_fn), std::forward<F>(callable));
}

/// The same with a ZLock<ConflictErrors...>; see ZLock::run(). A callable that may run again gets
/// copies of the arguments that it could move from, and the originals in the last run; it runs
/// once only where an argument given as an rvalue cannot be copied. Does not throw LeaseLost: the
/// store protects its data.
template <class... ConflictErrors, detail::NotAClient KeyFn, class F>
[[nodiscard]] auto with_zlock(KeyFn&& key_fn, F&& callable,
                              std::chrono::milliseconds timeout = detail::default_timeout,
                              std::chrono::milliseconds interval = detail::default_interval) {
  return detail::locked(
      detail::RunZLocked<ConflictErrors...>{detail::ClientSource(std::nullopt),
                                            detail::with_times<ZLockOptions>(timeout, interval)},
      std::forward<KeyFn>(key_fn), std::forward<F>(callable));
}
/// The same, with a client.
template <class... ConflictErrors, class KeyFn, class F>
[[nodiscard]] auto with_zlock(const MemcachedClient& client, KeyFn&& key_fn, F&& callable,
                              std::chrono::milliseconds timeout = detail::default_timeout,
                              std::chrono::milliseconds interval = detail::default_interval) {
  return detail::locked(
      detail::RunZLocked<ConflictErrors...>{detail::ClientSource(client),
                                            detail::with_times<ZLockOptions>(timeout, interval)},
      std::forward<KeyFn>(key_fn), std::forward<F>(callable));
}
/// The same, with all options.
template <class... ConflictErrors, class KeyFn, class F>
[[nodiscard]] auto with_zlock(const MemcachedClient& client, KeyFn&& key_fn, F&& callable,
                              ZLockOptions options) {
  return detail::locked(
      detail::RunZLocked<ConflictErrors...>{detail::ClientSource(client), std::move(options)},
      std::forward<KeyFn>(key_fn), std::forward<F>(callable));
}

}  // namespace memcachedlock
