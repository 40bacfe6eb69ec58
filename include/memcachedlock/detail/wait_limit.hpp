// How long a wait may take, from whatever duration or deadline the caller gave.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <optional>

namespace memcachedlock::detail {

/// At least 0; nothing where it is beyond a year, which is no limit. NaN counts as 0.
template <class Rep, class Period>
std::optional<std::chrono::nanoseconds> wait_limit(
    const std::chrono::duration<Rep, Period>& limit) {
  // Other durations overflow where they are compared or converted at the ends of their range.
  using Seconds = std::chrono::duration<long double>;
  const Seconds seconds(limit);
  if (!(seconds > Seconds(0))) return std::chrono::nanoseconds(0);
  if (seconds > Seconds(std::chrono::hours(24 * 365))) return std::nullopt;
  return std::chrono::ceil<std::chrono::nanoseconds>(seconds);
}

/// Until `deadline`, as far as it is from now.
template <class Clock, class Duration>
std::optional<std::chrono::nanoseconds> wait_limit(
    const std::chrono::time_point<Clock, Duration>& deadline) {
  using Seconds = std::chrono::duration<long double>;
  return wait_limit(Seconds(deadline.time_since_epoch()) -
                    Seconds(Clock::now().time_since_epoch()));
}

}  // namespace memcachedlock::detail
