// How long a waiter pauses.
#include "waiting/backoff.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace memcachedlock::detail {
namespace {

using namespace std::chrono_literals;

Contention polled(const char* holder = "holder", std::chrono::microseconds hold = 1ms) {
  Contention contention;
  contention.holder = holder;
  contention.hold = {hold, {}};
  contention.round_trip = 100us;
  contention.lease = 30s;
  return contention;
}
Contention queued(std::size_t position, const char* holder = "holder") {
  Contention contention = polled(holder, 10ms);
  contention.queue_position = position;
  return contention;
}

TEST(Backoffs, GrowToTheInterval) {
  Backoff backoff({.interval = 40ms});
  const auto begin = Clock::now();
  Clock::duration longest{0};
  Clock::duration first{0};
  for (int i = 0; i < 40; ++i) {
    const auto pause = backoff.after(polled(), begin);
    if (i == 0) first = pause;
    EXPECT_GT(pause, 0ms);
    EXPECT_LE(pause, 40ms);
    longest = std::max(longest, pause);
  }
  EXPECT_LE(first, 2ms);  // half as long again as a hold at most
  EXPECT_GE(longest, 20ms);
}

TEST(Backoffs, WithoutAHoldTimeBeginAsShortAsARoundTrip) {
  Backoff backoff({.interval = 1s});
  EXPECT_LE(backoff.after(polled("holder", 0us), Clock::now()), 75us);
}

TEST(Backoffs, BehindAHolderOfThisProcessAreTheInterval) {
  Contention local = polled();
  local.local = true;
  EXPECT_EQ(Backoff({.interval = 1s}).after(local, Clock::now()), 1s);
  local.lease = 200ms;  // it may be dead then
  EXPECT_EQ(Backoff({.interval = 1s}).after(local, Clock::now()), 200ms);
}

TEST(Backoffs, InTheQueueKeepToTheirBounds) {
  const LockOptions options{.interval = 10s};
  for (const std::size_t position : {0U, 1U, 2U, 5U, 50U}) {
    Backoff backoff(options);
    auto now = Clock::now();
    for (int i = 0; i < 200; ++i) {
      const auto pause = backoff.after(queued(position), now);
      EXPECT_GT(pause, 0ms);
      EXPECT_LE(pause, position == 0 ? Clock::duration(Backoff::max_pause_of_next)
                                     : Clock::duration(Backoff::max_pause_in_queue));
      now += pause;
    }
  }
}

TEST(Backoffs, OfWhoIsToldComeWhenItsTurnIsLongOverdue) {
  const auto now = Clock::now();
  for (const std::size_t position : {0U, 1U, 5U, 50U}) {
    Backoff backoff({.interval = 1ms});
    Contention told = queued(position);
    told.told = true;
    const auto turns = static_cast<int>(position + 1) * 10ms;
    const Clock::duration most = position == 0   ? Backoff::max_pause_of_next
                                 : position < 50 ? Backoff::max_pause_in_queue
                                                 : 2 * Backoff::max_pause_in_queue;
    const auto first = backoff.after(told, now);
    EXPECT_GE(first, std::min<Clock::duration>(2 * turns, most));
    EXPECT_LE(first, most);
    EXPECT_EQ(backoff.after(told, now), std::min<Clock::duration>(2 * first, most));
    told.holder = "another";
    EXPECT_EQ(backoff.after(told, now), first);
    for (int i = 0; i < 20; ++i) (void)backoff.after(told, now);
    EXPECT_EQ(backoff.after(told, now), most);
  }
}

TEST(Backoffs, FurtherBackLookLessOften) {
  const LockOptions options{.interval = 10s};
  const auto now = Clock::now();
  const auto pause_at = [&](std::size_t position) {
    Backoff backoff(options);
    (void)backoff.after(queued(position + 1, "before"), now);
    return backoff.after(queued(position), now);
  };
  EXPECT_LT(pause_at(0), pause_at(2));
  EXPECT_LT(pause_at(2), pause_at(8));
}

}  // namespace
}  // namespace memcachedlock::detail
