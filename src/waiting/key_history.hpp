// What this process knows of earlier holders of a key: hints, on which only speed depends.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "memcachedlock/key.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

/// How long holders lately kept a lock, and whether others wanted it. By a hash of the key, so
/// that no key adds memory or a mutex; keys that share one only spoil each other's pace.
class KeyHistory {
 public:
  static KeyHistory& of(const Key& key);

  void note_hold(std::chrono::microseconds hold);
  /// Takes over what others measured, so that all processes learn from each holder.
  void learn(const HoldTime& hold);
  /// Without the releases, which the record counts.
  [[nodiscard]] HoldTime hold() const;
  /// For a record that had `before`, when one more has released it.
  [[nodiscard]] HoldTime after_release(const HoldTime& before) const;
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
