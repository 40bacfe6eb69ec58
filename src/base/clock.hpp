// The clock of leases and waits: it goes on while the machine sleeps, and nobody sets it.
#pragma once

#include <chrono>
#include <ctime>

namespace memcachedlock::detail {

/// std::chrono::steady_clock stands still on Linux while the machine is suspended, and a lease that
/// is counted on it would outlive the server's. CLOCK_BOOTTIME does not.
struct BootClock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootClock>;
  static constexpr bool is_steady = true;

  static time_point now() noexcept {
    timespec time{};
#ifdef CLOCK_BOOTTIME
    clock_gettime(CLOCK_BOOTTIME, &time);
#else
    clock_gettime(CLOCK_MONOTONIC, &time);
#endif
    return time_point(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
  }
};

using Clock = BootClock;

/// The system times a wait on a clock that stops while the machine sleeps. So a wait that must not
/// end late after a sleep lasts no longer than this at a time.
constexpr std::chrono::seconds max_nap{1};

}  // namespace memcachedlock::detail
