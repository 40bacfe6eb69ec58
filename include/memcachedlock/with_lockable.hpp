// with_lockable: a write function, wrapped so that it runs under a lock of any kind.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <concepts>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "memcachedlock/error.hpp"
#include "memcachedlock/with_lock.hpp"

namespace memcachedlock {

/// The standard's requirements, as far as with_lockable() needs them.
template <class T>
concept TimedLockable = requires(T& lock, std::chrono::milliseconds time) {
  lock.lock();
  lock.unlock();
  { lock.try_lock_for(time) } -> std::convertible_to<bool>;
};

namespace detail {

/// How with_lockable runs one call.
template <class MakeLock>
struct RunLockable {
  MakeLock make_lock;
  std::optional<std::chrono::milliseconds> max_wait;

  template <class F, class... Args>
  auto operator()(const std::string& key, F& callable, Args&&... args) const ->
      typename ResultOf<F&, Args...>::type {
    auto&& lock = std::invoke(make_lock, key);
    if (!max_wait) {
      lock.lock();
    } else if (!lock.try_lock_for(*max_wait)) {
      throw TimedOut("\"" + key + "\" was not free within " + std::to_string(max_wait->count()) +
                         " ms; wait longer, or look who holds it so long",
                     key);
    }
    return run_held(lock, key, callable, std::forward<Args>(args)...);
  }
};

template <class MakeLock>
concept MakesTimedLockable =
    TimedLockable < std::remove_reference_t < std::invoke_result_t < const std::decay_t<MakeLock>
&, const std::string& >>> ;

}  // namespace detail

/// with_lock(), with the lock that `make_lock(key)` returns: any TimedLockable, by value or by
/// reference. So one line decides between the locks of memcached and those of the database:
///
///   [&](const std::string& key) { return Lock(client, key); }
///   [&](const std::string& key) { return PostgresLock(connection, key); }
///
/// `make_lock` is called as a const object, by as many threads at once as the wrapped callable.
/// Waits at most `max_wait`, without limit where none is given, then throws TimedOut. Else it
/// throws what the lock throws, and LeaseLost as with_lock() does where the lock has a lease; the
/// `const Lease&` that a callable asks for is an empty one where it has none.
template <class MakeLock, class KeyFn, class F>
requires detail::MakesTimedLockable<MakeLock>
[[nodiscard]] auto with_lockable(MakeLock&& make_lock, KeyFn&& key_fn, F&& callable,
                                 std::optional<std::chrono::milliseconds> max_wait = std::nullopt) {
  return detail::locked(
      detail::RunLockable<std::decay_t<MakeLock>>{std::forward<MakeLock>(make_lock), max_wait},
      std::forward<KeyFn>(key_fn), std::forward<F>(callable));
}

}  // namespace memcachedlock
