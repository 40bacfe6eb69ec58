// What this process knows of earlier holders of a key: hints, on which only speed depends.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "memcachedlock/key.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

/// How long this process lately held a lock, and whether others wanted it. By a hash of the key, so
/// that it takes neither memory nor a mutex; keys that share one only spoil each other's pace.
class KeyHistory {
 public:
  static KeyHistory& of(const Key& key);

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
