// How long to pause before asking again for a lock that another holds.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "memcachedlock/key.hpp"
#include "memcachedlock/options.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

/// What a candidate saw when another held the lock.
struct Sight {
  std::string holder;     ///< the same as long as it is held by the same
  bool confirmed = true;  ///< false: it was granted to the holder, who has not noticed yet
  HoldTime hold;
  std::chrono::nanoseconds round_trip{0};  ///< what it took to ask
  std::optional<std::size_t> place;        ///< in the queue of fair candidates: how many are before
  bool local = false;                      ///< held by this process, which wakes who waits in it
  std::chrono::milliseconds lease{0};      ///< of the holder
};

/// The pauses of one wait.
class Pauses {
 public:
  explicit Pauses(const LockOptions& options);
  Clock::duration after(const Sight& sight);

  /// Of a candidate that is next in the queue, and of fair ones behind it: they must see in time
  /// that the lock was granted to them, or that those before them are dead.
  static constexpr std::chrono::milliseconds longest_next{250};
  static constexpr std::chrono::milliseconds longest_queued{500};

 private:
  using Time = Clock::time_point;
  Clock::duration while_queued(const Sight& sight, Time now);
  void estimate(const Sight& sight, Time now, Clock::duration hold, Clock::duration deviation);
  Clock::duration while_polling(const Sight& sight, bool same_holder);

  const Clock::duration longest_;
  const Clock::duration longest_behind_;
  std::string last_holder_;
  Clock::duration step_{0};

  // Of one in the queue: when the holder began, at the earliest and at the latest.
  Time began_first_{};
  Time began_last_{};
  Time looked_at_{};
  std::optional<std::size_t> last_place_;
};

/// How long this process lately held a lock, and whether others wanted it. By a hash of the key, so
/// that it takes neither memory nor a mutex; keys that share one only spoil each other's pace.
class Recent {
 public:
  static Recent& of(const Key& key);

  void note_hold(std::chrono::microseconds hold);
  /// What others have found: the next value builds on it, so that all learn from each holder.
  void learn(const HoldTime& hold);
  [[nodiscard]] HoldTime hold() const;
  void note_contention();
  [[nodiscard]] bool contended() const;
  /// Whether others wrote to the record while this process last held the lock.
  void note_arrivals(bool any);
  [[nodiscard]] bool arrivals() const;

 private:
  std::atomic<std::int64_t> hold_us_{0};
  std::atomic<std::int64_t> deviation_us_{0};
  std::atomic<std::int64_t> contended_at_ns_{0};
  std::atomic<bool> arrivals_{false};
};

}  // namespace memcachedlock::detail
