// Something to be done between a call and its return.
#pragma once

#include <type_traits>

namespace memcachedlock::detail {

/// Returns what `call()` does, after `finish()`, which is not called when `call` throws.
template <class Call, class Finish>
auto call_then(Call&& call, Finish&& finish) -> std::invoke_result_t<Call&> {
  using Result = std::invoke_result_t<Call&>;
  if constexpr (std::is_void_v<Result>) {
    call();
    finish();
  } else {
    decltype(auto) result = call();
    finish();
    if constexpr (std::is_reference_v<Result>) {
      return static_cast<Result>(result);
    } else {
      return result;
    }
  }
}

}  // namespace memcachedlock::detail
