// When a server will expire what it is given: a TTL that a stopped server cannot shorten.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>

#include "base/clock.hpp"
#include "base/mutex.hpp"

namespace memcachedlock::detail {

/// What `stats` tells of a server's clock. memcached counts whole seconds of a steady clock from
/// its start, and looks at that clock once a second, so what it says is up to two seconds old.
/// After a stop (SIGSTOP, a pause of its machine) it may serve requests by a clock that is older by
/// the length of the stop.
struct ClockReading {
  std::int64_t time = 0;    ///< seconds; absolute expiry times are of this clock
  std::int64_t uptime = 0;  ///< seconds; with `time` and `pid` it tells a restart
  std::int64_t pid = 0;
  Clock::time_point asked{};     ///< before the question was sent
  Clock::time_point answered{};  ///< after the answer had come

  /// Rises from one start of the server to the next, for every client: by the second in which it
  /// was started and, within one, by its process. Nanoseconds, so that it looks like a time.
  [[nodiscard]] std::uint64_t start_number() const noexcept;
  /// The same of the moment of the reading: no later one of the server is lower, also after another
  /// start.
  [[nodiscard]] std::uint64_t time_number() const noexcept;
};

/// A TTL counts from the clock as it stands, so it would be too short by the length of a stop. The
/// absolute time of memcached's protocol counts from when the server started instead; here,
/// from the highest reading of the last two minutes, as a clock that stood still only reads too
/// low.
///
/// Thread safe.
class ServerClock {
 public:
  /// Whether it is time for another reading. Besides, each new connection needs one before it
  /// stores anything, since the server may have restarted.
  [[nodiscard]] bool wants_reading(Clock::time_point now) const {
    return now >= next_reading_.load(std::memory_order_acquire);
  }
  void add(const ClockReading& reading);

  /// The expiry of an item that is sent now, and must live no shorter than `lease`.
  [[nodiscard]] std::time_t expiry(std::chrono::milliseconds lease) const;

  /// Whether an expiry time has passed, as far as is known without asking.
  [[nodiscard]] bool seems_past(std::int64_t expiry) const;

  /// What the clock shows now, at the latest; seconds.
  [[nodiscard]] std::int64_t latest_time() const;

  /// By how much longer than its lease an item lives, at most.
  static constexpr std::chrono::seconds max_rounding{15};

 private:
  using Offset = std::chrono::nanoseconds;  // of the server's clock to ours

  mutable Mutex mutex_;
  ClockReading last_ MCL_GUARDED_BY(mutex_);
  std::int64_t started_ MCL_GUARDED_BY(mutex_) = 0;
  std::int64_t pid_ MCL_GUARDED_BY(mutex_) = 0;
  Clock::time_point asked_ MCL_GUARDED_BY(mutex_) = Clock::time_point::min();
  Offset before_ MCL_GUARDED_BY(mutex_){0};
  Offset latest_ MCL_GUARDED_BY(mutex_){0};
  Clock::time_point latest_since_ MCL_GUARDED_BY(mutex_){};
  // Written in this order, and an expiry is asked for only over a connection that has read the
  // clock, so that a thread that sees the one sees the other.
  std::atomic<Offset> offset_{};
  std::atomic<Clock::time_point> next_reading_{Clock::time_point::min()};
};

}  // namespace memcachedlock::detail
