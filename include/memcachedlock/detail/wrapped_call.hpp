// How with_lock() and its siblings find the key, take the lock and call what they wrap.
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
#include "memcachedlock/dont_lock.hpp"
#include "memcachedlock/error.hpp"
#include "memcachedlock/lock.hpp"
#include "memcachedlock/options.hpp"
#include "memcachedlock/zlock.hpp"

namespace memcachedlock {

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
concept CallableOnlyWhenMutable = Wrappable<F&, Args...> && !Wrappable<const F&, Args...>;
template <class F, class... Args>
concept NotCallable = !Wrappable<F&, Args...> && !Wrappable<const F&, Args...>;

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
  // A moved-from callable can be called on.
  ClientSource(const ClientSource&) = default;
  ClientSource& operator=(const ClientSource&) = default;
  ~ClientSource() = default;
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

}  // namespace memcachedlock
