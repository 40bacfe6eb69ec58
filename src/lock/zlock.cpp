#include "memcachedlock/zlock.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "memcachedlock/error.hpp"

namespace memcachedlock::detail {

void check_zlock_options(const ZLockOptions& options) {
  if (options.max_attempts < 1) {
    throw InvalidOption(fmt::format("ZLockOptions::max_attempts is {}; it must be at least 1",
                                    options.max_attempts));
  }
  if (options.reservation.count() <= 0 || options.reservation > options.timeout) {
    throw InvalidOption(
        fmt::format("ZLockOptions::reservation is {} ms; it must be more than 0 and "
                    "no longer than the timeout",
                    options.reservation.count()));
  }
}

std::chrono::milliseconds retry_pause(int attempt) {
  thread_local std::minstd_rand random(std::random_device{}());
  const int longest = std::min(1 << std::min(attempt, 6), 50);
  return std::chrono::milliseconds(std::uniform_int_distribution<int>(0, longest)(random));
}

}  // namespace memcachedlock::detail
