#include "pace.hpp"

#include <algorithm>
#include <functional>
#include <random>

namespace memcachedlock::detail {

namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;

// As long as a round trip on a fast network.
constexpr microseconds shortest{50};

// Contention that was seen so lately is expected again.
constexpr nanoseconds remembered = std::chrono::seconds(1);

std::int64_t now_ns() { return nanoseconds(Pauses::Clock::now().time_since_epoch()).count(); }

}  // namespace

Pauses::Pauses(Clock::duration longest) : longest_(longest) {}

Pauses::Clock::duration Pauses::after(const Sight& sight) {
  const auto now = Clock::now();
  const bool same_holder = sight.stamp == last_stamp_;
  if (!same_holder) {
    last_stamp_ = sight.stamp;
    holder_since_ = now;
  }
  if (sight.local) return std::min<Clock::duration>(longest_, sight.lease);
  const Clock::duration hold = std::max(sight.hold, shortest);
  if (sight.place) {
    const Clock::duration left = holder_since_ + hold - now;
    if (*sight.place == 0) {
      // Half of what is left, and near the end, or past it, small parts.
      const Clock::duration pause = left > hold / 4 ? left / 2 : std::max(hold / 12, -left / 4);
      return std::clamp<Clock::duration>(pause, shortest,
                                         std::min<Clock::duration>(longest_, longest_next));
    }
    // The last look before it is the next is to be just after that, to know when that holder began.
    const auto before = static_cast<std::int64_t>(*sight.place) - 1;
    const Clock::duration until_next = left + hold * before;
    return std::clamp<Clock::duration>(before > 0 ? until_next * 9 / 10 : until_next + hold / 16,
                                       std::max<Clock::duration>(hold / 8, shortest),
                                       longest_queued);
  }
  // Nobody's turn: a little longer than a hold; longer still while the same holder keeps it.
  thread_local std::minstd_rand random(std::random_device{}());
  std::uniform_real_distribution<double> jitter(0.5, 1.5);
  const Clock::duration base = hold * 3 / 2;
  step_ = same_holder ? std::max(step_ * 3 / 2, base) : base;
  step_ = std::min(step_, longest_);
  return std::min(std::chrono::duration_cast<Clock::duration>(step_ * jitter(random)), longest_);
}

Recent& Recent::instance() {
  static Recent all;
  return all;
}

Recent::Cell& Recent::cell(const Key& key) {
  return cells_[std::hash<std::string>{}(key.item()) % cells_.size()];
}

void Recent::note_hold(const Key& key, microseconds hold) {
  auto& place = cell(key).hold_us;
  const std::int64_t before = place.load(std::memory_order_relaxed);
  const std::int64_t now = std::clamp<std::int64_t>(hold.count(), 1, 3'600'000'000);
  place.store(before == 0 ? now : (3 * before + now + 3) / 4, std::memory_order_relaxed);
}

microseconds Recent::hold(const Key& key) {
  return microseconds(cell(key).hold_us.load(std::memory_order_relaxed));
}

void Recent::note_contention(const Key& key) {
  cell(key).contended_at_ns.store(now_ns(), std::memory_order_relaxed);
}

bool Recent::contended(const Key& key) {
  const auto at = cell(key).contended_at_ns.load(std::memory_order_relaxed);
  return at != 0 && now_ns() - at < remembered.count();
}

}  // namespace memcachedlock::detail
