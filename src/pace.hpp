// How long to pause before asking again for a lock that another holds.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "memcachedlock/key.hpp"

namespace memcachedlock::detail {

/// What a candidate saw when another held the lock.
struct Sight {
  std::string stamp;                   ///< of the holder's last writing
  std::chrono::microseconds hold{0};   ///< how long holders have lately kept it; 0: not known
  std::optional<std::size_t> place;    ///< in the queue of fair candidates: how many are before
  bool local = false;                  ///< held by this process, which wakes who waits in it
  std::chrono::milliseconds lease{0};  ///< of the holder
};

/// The pauses of one wait.
class Pauses {
 public:
  using Clock = std::chrono::steady_clock;

  /// `longest`: LockOptions::interval.
  explicit Pauses(Clock::duration longest);
  Clock::duration after(const Sight& sight);

  /// Of a candidate that is next in the queue, and of those behind it, whatever `longest` is: they
  /// must see in time that the lock was granted to them, or that those before them are dead.
  static constexpr std::chrono::milliseconds longest_next{250};
  static constexpr std::chrono::milliseconds longest_queued{500};

 private:
  Clock::duration longest_;
  Clock::duration step_{0};
  std::string last_stamp_;
  Clock::time_point holder_since_{};  // when we first saw it
};

/// How long this process lately held the locks it uses, and which of them others wanted. By a hash
/// of the key, so that it takes neither memory nor a mutex; keys that share a place only spoil each
/// other's pace.
class Recent {
 public:
  static Recent& instance();

  void note_hold(const Key& key, std::chrono::microseconds hold);
  [[nodiscard]] std::chrono::microseconds hold(const Key& key);
  void note_contention(const Key& key);
  [[nodiscard]] bool contended(const Key& key);

 private:
  struct Cell {
    std::atomic<std::int64_t> hold_us{0};
    std::atomic<std::int64_t> contended_at_ns{0};
  };
  Cell& cell(const Key& key);
  std::array<Cell, 1024> cells_;
};

}  // namespace memcachedlock::detail
