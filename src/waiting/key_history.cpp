#include "waiting/key_history.hpp"

#include <algorithm>
#include <array>
#include <functional>

#include "base/clock.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;

// Contention that was seen so lately is expected again.
constexpr nanoseconds remembered = std::chrono::seconds(1);

std::int64_t now_ns() { return nanoseconds(Clock::now().time_since_epoch()).count(); }

}  // namespace

KeyHistory& KeyHistory::of(const Key& key) {
  static std::array<KeyHistory, 1024> all;
  return all[std::hash<std::string>{}(key.item()) % all.size()];
}

void KeyHistory::note_hold(microseconds hold) {
  const HoldTime before = this->hold();
  const microseconds now = std::clamp(hold, microseconds(1), HoldTime::longest);
  if (before.usual.count() == 0) {
    learn({now, {}, 0});
    return;
  }
  const microseconds off = std::max(std::chrono::abs(now - before.usual), microseconds(1));
  const auto mean = [](microseconds old, microseconds added) {
    return old.count() == 0 ? added : (3 * old + added + microseconds(3)) / 4;
  };
  learn({mean(before.usual, now), mean(before.deviation, off), 0});
}

void KeyHistory::learn(const HoldTime& hold) {
  if (hold.usual.count() == 0) return;
  hold_us_.store(hold.usual.count(), std::memory_order_relaxed);
  deviation_us_.store(hold.deviation.count(), std::memory_order_relaxed);
}

HoldTime KeyHistory::hold() const {
  return {microseconds(hold_us_.load(std::memory_order_relaxed)),
          microseconds(deviation_us_.load(std::memory_order_relaxed)), 0};
}

HoldTime KeyHistory::after_release(const HoldTime& before) const {
  HoldTime now = hold();
  now.releases = before.releases + 1;
  return now;
}

void KeyHistory::note_contention() { contended_at_ns_.store(now_ns(), std::memory_order_relaxed); }

bool KeyHistory::contended() const {
  const auto at = contended_at_ns_.load(std::memory_order_relaxed);
  return at != 0 && now_ns() - at < remembered.count();
}

void KeyHistory::note_arrivals(bool any) { arrivals_.store(any, std::memory_order_relaxed); }
bool KeyHistory::arrivals() const { return arrivals_.load(std::memory_order_relaxed); }

}  // namespace memcachedlock::detail
