// How long to pause before asking again for a lock that another holds.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "memcachedlock/options.hpp"
#include "waiting/contention.hpp"

namespace memcachedlock::detail {

/// The pauses of one wait.
class Backoff {
 public:
  explicit Backoff(const LockOptions& options);
  Clock::duration after(const Contention& contention, Clock::time_point now);

  /// Longest pauses of the next in the queue and of those behind: they must see in time
  /// that the lock was granted to them, or that those before them are dead.
  static constexpr std::chrono::milliseconds max_pause_of_next{250};
  static constexpr std::chrono::milliseconds max_pause_in_queue{500};

 private:
  using Time = Clock::time_point;
  Clock::duration while_told(const Contention& contention);
  Clock::duration while_queued(const Contention& contention, Time now);
  void estimate(const Contention& contention, Time now, Clock::duration hold,
                Clock::duration deviation);
  Clock::duration outside(const Contention& contention);

  const Clock::duration longest_;
  std::string last_holder_;
  Clock::duration step_{0};

  // For a queued waiter: when the holder began, at the earliest and latest.
  Time began_first_{};
  Time began_last_{};
  Time looked_at_{};
  std::optional<std::size_t> last_position_;
};

}  // namespace memcachedlock::detail
