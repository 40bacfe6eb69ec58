#include "server/server_clock.hpp"

#include <algorithm>
#include <limits>

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

// A reading is of a whole second, and up to a second old; the tenth is for a late timer.
constexpr nanoseconds reading_age = milliseconds(2'100);

// How far the wall clocks of two hosts may differ, and still one tells whether the other stopped.
constexpr nanoseconds near_clocks = milliseconds(500);
constexpr nanoseconds max_help = seconds(10);

// Those after a stop may all be of a clock that stood still: the last minute's count, and those of
// the minute before.
constexpr seconds until_second_reading{1};
constexpr seconds between_readings{20};
constexpr seconds kept_for{60};

// Its text protocol takes 31 bits.
constexpr std::int64_t last_time = std::numeric_limits<std::int32_t>::max();

}  // namespace

std::uint64_t ClockReading::start_number() const noexcept {
  constexpr std::uint64_t nanoseconds_a_second = 1'000'000'000;
  return static_cast<std::uint64_t>(std::max<std::int64_t>(time - uptime, 0)) *
             nanoseconds_a_second +
         static_cast<std::uint64_t>(pid) % nanoseconds_a_second;
}

std::uint64_t ClockReading::time_number() const noexcept {
  return ClockReading{.time = time, .pid = pid}.start_number();
}

void ServerClock::add(const ClockReading& reading) {
  const Offset offset = seconds(reading.time) - reading.asked.time_since_epoch();
  const std::int64_t started = reading.time - reading.uptime;
  const MutexLock lock(mutex_);
  if (reading.asked <= asked_) return;
  last_ = reading;
  const bool first =
      asked_ == Clock::time_point::min() || started != started_ || reading.pid != pid_;
  started_ = started;
  pid_ = reading.pid;
  asked_ = reading.asked;
  if (first) {
    // The reading may be of a clock that stood still. The server began with the time of its wall
    // clock, so where ours is near, it tells.
    const Offset by_wall = std::chrono::system_clock::now().time_since_epoch() -
                           Clock::now().time_since_epoch() + seconds(1) + near_clocks - reading_age;
    const bool helps = by_wall > offset && by_wall < offset + max_help;
    before_ = helps ? by_wall : offset;
    latest_ = offset;
    latest_since_ = reading.asked;
  } else if (reading.asked < latest_since_ + kept_for) {
    latest_ = std::max(latest_, offset);
  } else {
    before_ = latest_;
    latest_ = offset;
    latest_since_ = reading.asked;
  }
  offset_.store(std::max(before_, latest_), std::memory_order_relaxed);
  next_reading_.store(reading.asked + (first ? until_second_reading : between_readings),
                      std::memory_order_release);
}

std::time_t ServerClock::expiry(milliseconds lease) const {
  const nanoseconds now =
      Clock::now().time_since_epoch() + offset_.load(std::memory_order_relaxed) + reading_age;
  const auto time = std::chrono::ceil<seconds>(now + lease).count();
  if (time <= last_time) return static_cast<std::time_t>(time);
  // From 2038 on, a TTL: as good as memcached can.
  return static_cast<std::time_t>(std::chrono::ceil<seconds>(lease).count() + 1);
}

bool ServerClock::seems_past(std::int64_t expiry) const {
  const MutexLock lock(mutex_);
  if (asked_ == Clock::time_point::min()) return false;
  const auto since = std::chrono::floor<seconds>(Clock::now() - last_.answered);
  return last_.time + since.count() >= expiry;  // in seconds: anybody may have written it
}

std::int64_t ServerClock::latest_time() const {
  const nanoseconds now =
      Clock::now().time_since_epoch() + offset_.load(std::memory_order_relaxed) + reading_age;
  return std::chrono::ceil<seconds>(now).count();
}

}  // namespace memcachedlock::detail
