// with_lock, with_rlock, with_zlock: a write function, wrapped so that it runs under a lock.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <atomic>
#include <chrono>
#include <concepts>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "memcachedlock/client.hpp"
#include "memcachedlock/detail/awaitable.hpp"
#include "memcachedlock/detail/call_then.hpp"
#include "memcachedlock/error.hpp"
#include "memcachedlock/lock.hpp"
#include "memcachedlock/options.hpp"
#include "memcachedlock/rlock.hpp"
#include "memcachedlock/zlock.hpp"

namespace memcachedlock {

/// Thrown by a key function: run this call unlocked. Returning std::nullopt says the same.
struct DontLock {};

/// Stands where a return type would, so that the compiler's error says what is wrong.
class the_wrapped_callable_does_not_take_these_arguments;

namespace detail {

template <class T>
concept Text = std::convertible_to<T, std::string_view> || std::convertible_to<T, std::string>;

template <class T>
struct IsOptionalText : std::false_type {};
template <Text T>
struct IsOptionalText<std::optional<T>> : std::true_type {};

template <class KeyFn, class... Args>
concept KeyFunction = std::invocable<const KeyFn&, Args&...> &&
    (Text<std::invoke_result_t<const KeyFn&, Args&...>> ||
     IsOptionalText<std::remove_cvref_t<std::invoke_result_t<const KeyFn&, Args&...>>>::value);

template <class F>
concept CallableThing =
    std::is_class_v<std::remove_cvref_t<F>> || std::is_function_v<std::remove_reference_t<F>> ||
    std::is_function_v<std::remove_pointer_t<std::remove_cvref_t<F>>> ||
    std::is_member_pointer_v<std::remove_cvref_t<F>>;

// A callable that takes these arguments without a lease, as a generic one does, is not given one.
template <class F, class... Args>
concept TakesArguments = std::invocable<F, Args...>;
template <class F, class... Args>
concept TakesLease = !TakesArguments<F, Args...> && std::invocable<F, const Lease&, Args...>;
template <class F, class... Args>
concept Wrappable = TakesArguments<F, Args...> || TakesLease<F, Args...>;

template <class F, class... Args>
struct ResultOf : std::invoke_result<F, Args...> {};
template <class F, class... Args>
requires TakesLease<F, Args...>
struct ResultOf<F, Args...> : std::invoke_result<F, const Lease&, Args...> {
};

template <class F, class... Args>
decltype(auto) call(F& callable, const Lease& lease, Args&&... args) {
  if constexpr (TakesArguments<F&, Args...>) {
    return std::invoke(callable, std::forward<Args>(args)...);
  } else {
    return std::invoke(callable, lease, std::forward<Args>(args)...);
  }
}

template <Text T>
std::string to_key(T&& text) {
  if constexpr (std::is_pointer_v<std::decay_t<T>>) {
    return text == nullptr ? std::string() : std::string(text);  // empty: InvalidKey
  } else if constexpr (std::convertible_to<T, std::string_view>) {
    return std::string(std::string_view(std::forward<T>(text)));
  } else {
    return std::forward<T>(text);
  }
}

/// The key of a call; nothing where it runs unlocked.
template <class KeyFn, class... Args>
std::optional<std::string> key_of(const KeyFn& key_fn, Args&... args) {
  using Result = std::invoke_result_t<const KeyFn&, Args&...>;
  try {
    if constexpr (Text<Result>) {
      return to_key(std::invoke(key_fn, args...));
    } else {
      auto&& text = std::invoke(key_fn, args...);
      if (!text) return std::nullopt;
      return to_key(*std::forward<decltype(text)>(text));
    }
  } catch (const DontLock&) {
    return std::nullopt;
  }
}

template <class AnyLock>
concept Leased = requires(AnyLock& lock) {
  { lock.release() } -> std::same_as<Release>;
  { lock.lease() } -> std::same_as<Lease>;
};

/// The work is done, but perhaps not alone: its caller must know.
template <class AnyLock>
void release(AnyLock& lock, const std::string& key) {
  if constexpr (Leased<AnyLock>) {
    const FencingToken token = lock.lease().fencing_token();
    if (lock.release() == Release::lost) {
      throw LeaseLost("the lease of \"" + key + "\" (token " + token.to_string() +
                          ") was lost before the callable had ended, so another may have run at "
                          "the same time; take a longer timeout, or renew",
                      key);
    }
  } else {
    lock.unlock();
  }
}

/// Runs one call under a lock that is already held.
template <class AnyLock, class F, class... Args>
auto run_held(AnyLock& lock, const std::string& key, F& callable, Args&&... args) ->
    typename ResultOf<F&, Args...>::type {
  std::unique_lock<AnyLock> held(lock, std::adopt_lock);
  const Lease lease = [&] {
    if constexpr (Leased<AnyLock>) {
      return lock.lease();
    } else {
      return Lease();
    }
  }();
  return call_then(
      [&]() -> decltype(auto) { return call(callable, lease, std::forward<Args>(args)...); },
      [&] { release(*held.release(), key); });
}

/// The client of a wrapped callable and its copies: that of the environment, looked up at the first
/// call, if none is given. Thread safe.
class ClientSource {
 public:
  explicit ClientSource(std::optional<MemcachedClient> client)
      : source_(std::make_shared<Source>()) {
    source_->given = std::move(client);
  }
  [[nodiscard]] const MemcachedClient& get() const {
    return source_->given ? *source_->given : source_->from_environment();
  }

 private:
  struct Source {
    Source() = default;
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;
    ~Source() { delete found.load(); }
    const MemcachedClient& from_environment() {
      const MemcachedClient* known = found.load();
      if (known != nullptr) return *known;
      auto fresh = std::make_unique<MemcachedClient>(MemcachedClient::from_environment());
      if (found.compare_exchange_strong(known, fresh.get())) known = fresh.release();
      return *known;
    }
    std::optional<MemcachedClient> given;
    std::atomic<const MemcachedClient*> found{nullptr};
  };
  std::shared_ptr<Source> source_;
};

/// How with_lock and with_rlock run one call.
template <class AnyLock>
struct RunHeld {
  ClientSource client;
  LockOptions options;

  template <class F, class... Args>
  decltype(auto) operator()(const std::string& key, F& callable, Args&&... args) const {
    AnyLock lock(client.get(), key, options);
    lock.lock();
    return run_held(lock, key, callable, std::forward<Args>(args)...);
  }
};

/// An argument for a run after which another may follow: what would be moved from is copied.
template <class Arg>
decltype(auto) reusable(std::remove_reference_t<Arg>& arg) {
  if constexpr (std::is_lvalue_reference_v<Arg>) {
    return (arg);
  } else {
    return std::remove_cvref_t<Arg>(arg);
  }
}

template <class... ConflictErrors>
struct RunZLocked {
  ClientSource client;
  ZLockOptions options;

  template <class F, class... Args>
  decltype(auto) operator()(const std::string& key, F& callable, Args&&... args) const {
    constexpr bool repeatable = ((std::is_lvalue_reference_v<Args> ||
                                  std::copy_constructible<std::remove_cvref_t<Args>>)&&...);
    ZLockOptions mine = options;
    if constexpr (!repeatable) mine.max_attempts = 1;
    ZLock<ConflictErrors...> lock(client.get(), key, std::move(mine));
    return lock.run([&](const Lease& lease, bool last) -> decltype(auto) {
      if constexpr (repeatable) {
        if (!last) return call(callable, lease, reusable<Args>(args)...);
      }
      return call(callable, lease, std::forward<Args>(args)...);
    });
  }
};

}  // namespace detail

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

  /// The same, for a callable that is not const.
  template <class... Args>
  requires(detail::Wrappable<F&, Args...> && !detail::Wrappable<const F&, Args...>) auto operator()(
      Args&&... args) -> typename detail::ResultOf<F&, Args...>::type {
    return run(callable_, std::forward<Args>(args)...);
  }

  template <class... Args>
  requires(!detail::Wrappable<F&, Args...> &&
           !detail::Wrappable<const F&, Args...>) the_wrapped_callable_does_not_take_these_arguments
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

template <class Options>
Options with_times(std::chrono::milliseconds timeout, std::chrono::milliseconds interval) {
  Options options;
  options.timeout = timeout;
  options.interval = interval;
  return options;
}

template <class T>
concept NotAClient = !std::same_as<std::remove_cvref_t<T>, MemcachedClient>;

inline constexpr std::chrono::milliseconds default_timeout{30'000};
inline constexpr std::chrono::milliseconds default_interval{50};

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

/// The same with an RLock: the callable may call itself, or another function of the same key.
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
