// Results whose work has not happened yet when they are returned.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <type_traits>
#include <utility>

namespace memcachedlock::detail {

/// std::future and its like.
template <class T>
concept FutureLike = requires(T& result) {
  result.wait();
  std::move(result).get();
  result.valid();
};

template <class T>
concept HasPromise = requires {
  typename T::promise_type;
};

/// What co_await takes, and what may make that.
template <class T>
concept AwaitableLike = requires(T& result) {
  result.await_ready();
}
|| requires(T&& result) { std::move(result).await_ready(); }
#if defined(__cpp_impl_coroutine)
|| requires(T& result) { result.operator co_await(); }
|| requires(T&& result) { std::move(result).operator co_await(); }
|| requires(T& result) { operator co_await(result); }
|| requires(T&& result) {
  operator co_await(std::move(result));
}
#endif
;

template <class T>
concept NotDone = FutureLike<T> || HasPromise<T> || AwaitableLike<T>;

/// Whether a callable that returns it has only begun, or not even that. Not by
/// std::coroutine_traits: types that are done when they are returned may have one too.
template <class T>
concept NotDoneYet = NotDone<std::remove_cvref_t<T>>;

}  // namespace memcachedlock::detail
