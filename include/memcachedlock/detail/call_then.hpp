// Something to be done between a call and its return.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <exception>
#include <type_traits>

namespace memcachedlock::detail {

/// Calls `finish()`, which may throw, at the end of a scope that is not left by an exception.
template <class Finish>
class AtReturn {
 public:
  explicit AtReturn(Finish& finish) : finish_(finish) {}
  ~AtReturn() noexcept(false) {
    if (std::uncaught_exceptions() == before_) finish_();
  }
  AtReturn(const AtReturn&) = delete;
  AtReturn& operator=(const AtReturn&) = delete;

 private:
  Finish& finish_;
  const int before_ = std::uncaught_exceptions();
};

/// Returns what `call()` does, after `finish()`, which is not called when `call` throws.
template <class Call, class Finish>
auto call_then(Call&& call, Finish&& finish) -> std::invoke_result_t<Call&> {
  using Result = std::invoke_result_t<Call&>;
  if constexpr (std::is_void_v<Result>) {
    call();
    finish();
  } else if constexpr (!std::is_reference_v<Result> && !std::is_convertible_v<Result, Result>) {
    // Not moved, or only by name: it is made where the caller wants it, and can't be kept here.
    const AtReturn end(finish);
    return call();
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
