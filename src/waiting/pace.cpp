#include "waiting/pace.hpp"

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

std::int64_t now_ns() { return nanoseconds(Clock::now().time_since_epoch()).count(); }

}  // namespace

Pauses::Pauses(const LockOptions& options)
    : longest_(options.interval),
      longest_behind_(options.fair ? longest_queued
                                   : std::min<Clock::duration>(options.interval, longest_queued)) {}

Clock::duration Pauses::after(const Sight& sight) {
  if (sight.place && !sight.local) return while_queued(sight, Clock::now());
  last_place_.reset();
  const bool same_holder = sight.holder == last_holder_;
  last_holder_ = sight.holder;
  if (sight.local) return std::min<Clock::duration>(longest_, sight.lease);
  return while_polling(sight, same_holder);
}

/// Looks as seldom as it can, and often only when its turn may come.
Clock::duration Pauses::while_queued(const Sight& sight, Time now) {
  const Clock::duration hold = std::max(sight.hold.usual, shortest);
  const Clock::duration deviation =
      sight.hold.deviation.count() > 0
          ? std::clamp<Clock::duration>(sight.hold.deviation, hold / 64, hold / 4)
          : hold / 8;
  estimate(sight, now, hold, deviation);
  const Time first_end = began_first_ + hold - 2 * deviation;
  const Time last_end = began_last_ + hold + 2 * deviation;
  // Who holds it longer than usual is waited for ever more patiently.
  const Clock::duration overdue =
      std::clamp<Clock::duration>((now - last_end) / 4, Clock::duration(0), longest_);
  if (*sight.place == 0) {
    const Clock::duration step = (last_end - first_end) / 6;
    const Clock::duration pause = now < first_end ? first_end - now : std::max(step, overdue);
    return std::min(pause, std::min<Clock::duration>(longest_, longest_next));
  }
  Time until;
  if (*sight.place == 1) {
    // Just after it is the next, so as to know when that holder began.
    until = last_end + sight.round_trip;
    if (until - first_end > hold / 2) until = first_end + (until - first_end) / 2;
  } else {
    // Until it is the second, at the earliest.
    until = began_first_ + static_cast<std::int64_t>(*sight.place) * hold - hold / 2;
  }
  return std::min<Clock::duration>(
      std::max<Clock::duration>({until - now, overdue, hold / 8, shortest}), longest_behind_);
}

/// When the holder began.
void Pauses::estimate(const Sight& sight, Time now, Clock::duration hold,
                      Clock::duration deviation) {
  const Clock::duration hand_over = 2 * sight.round_trip;
  if (!sight.confirmed) {  // it begins just now
    began_first_ = now;
    began_last_ = now + hand_over;
  } else if (!last_place_ || sight.holder != last_holder_) {
    Time first = now - hold;
    Time last = now;
    if (last_place_) {
      first = std::max(first, looked_at_);
      if (*last_place_ > *sight.place) {  // so many have had their turn since
        const auto turns = static_cast<std::int64_t>(*last_place_ - *sight.place);
        first = std::max(first, began_first_ + turns * hold);
        last = std::min(last, began_last_ + turns * (hold + 2 * deviation + hand_over));
      }
    }
    began_first_ = std::min(first, now);
    began_last_ = std::max(last, began_first_);
  }
  last_holder_ = sight.holder;
  last_place_ = sight.place;
  looked_at_ = now;
}

/// It is nobody's turn. Short pauses first. While the holders change, up to a few turns: the more
/// who wait the longer each does, and the less often it need ask. While the same keeps it, up to
/// the longest.
Clock::duration Pauses::while_polling(const Sight& sight, bool same_holder) {
  thread_local std::minstd_rand random(std::random_device{}());
  std::uniform_real_distribution<double> jitter(0.5, 1.5);
  const Clock::duration hold = std::max(sight.hold.usual, shortest);
  step_ = step_.count() == 0 ? hold : step_ * 3 / 2;
  if (!same_holder) step_ = std::min(step_, 4 * (hold + 2 * sight.round_trip));
  step_ = std::min(step_, longest_);
  return std::min(std::chrono::duration_cast<Clock::duration>(step_ * jitter(random)), longest_);
}

Recent& Recent::of(const Key& key) {
  static std::array<Recent, 1024> all;
  return all[std::hash<std::string>{}(key.item()) % all.size()];
}

void Recent::note_hold(microseconds hold) {
  const HoldTime before = this->hold();
  const microseconds now = std::clamp(hold, microseconds(1), HoldTime::longest);
  if (before.usual.count() == 0) {
    learn({now, {}});
    return;
  }
  const microseconds off = std::max(std::chrono::abs(now - before.usual), microseconds(1));
  const auto mean = [](microseconds old, microseconds added) {
    return old.count() == 0 ? added : (3 * old + added + microseconds(3)) / 4;
  };
  learn({mean(before.usual, now), mean(before.deviation, off)});
}

void Recent::learn(const HoldTime& hold) {
  if (hold.usual.count() == 0) return;
  hold_us_.store(hold.usual.count(), std::memory_order_relaxed);
  deviation_us_.store(hold.deviation.count(), std::memory_order_relaxed);
}

HoldTime Recent::hold() const {
  return {microseconds(hold_us_.load(std::memory_order_relaxed)),
          microseconds(deviation_us_.load(std::memory_order_relaxed))};
}

void Recent::note_contention() { contended_at_ns_.store(now_ns(), std::memory_order_relaxed); }

bool Recent::contended() const {
  const auto at = contended_at_ns_.load(std::memory_order_relaxed);
  return at != 0 && now_ns() - at < remembered.count();
}

void Recent::note_arrivals(bool any) { arrivals_.store(any, std::memory_order_relaxed); }
bool Recent::arrivals() const { return arrivals_.load(std::memory_order_relaxed); }

}  // namespace memcachedlock::detail
