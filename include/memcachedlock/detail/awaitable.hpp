// Results whose work has not happened yet when they are returned.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <version>
#if defined(__cpp_impl_coroutine)
#include <coroutine>
#endif

namespace memcachedlock::detail {

/// std::future and its like.
template <class T>
concept FutureLike = requires(T& result) {
  result.wait();
  result.get();
  result.valid();
};

template <class T>
concept CoroutineLike = requires {
  typename T::promise_type;
}
|| requires(T& result) { result.await_ready(); }
#if defined(__cpp_impl_coroutine)
|| requires { typename std::coroutine_traits<T>::promise_type; }
|| requires(T& result) { result.operator co_await(); }
|| requires(T& result) {
  operator co_await(result);
}
#endif
;

/// Whether a callable that returns it has only begun, or not even that.
template <class T>
concept NotDoneYet = FutureLike<T> || CoroutineLike<T>;

}  // namespace memcachedlock::detail
