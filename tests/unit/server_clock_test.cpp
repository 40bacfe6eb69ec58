// What is known of a server's clock: an expiry that is never early, an end that has surely passed.
#include "server/server_clock.hpp"

#include <gtest/gtest.h>

namespace memcachedlock::detail {
namespace {

using namespace std::chrono_literals;

ClockReading reading(std::int64_t time, Clock::time_point asked, std::int64_t uptime = 1'000) {
  ClockReading result;
  result.time = time;
  result.uptime = uptime;
  result.pid = 42;
  result.asked = result.answered = asked;
  return result;
}

constexpr std::int64_t long_ago = 1'000'000;  // so that the own wall clock does not help

TEST(ServerClocks, AnExpiryIsNoEarlierThanTheLease) {
  ServerClock clock;
  const auto now = Clock::now();
  EXPECT_TRUE(clock.wants_reading(now));
  clock.add(reading(long_ago, now));
  EXPECT_FALSE(clock.wants_reading(now));
  EXPECT_TRUE(clock.wants_reading(now + 1s));
  EXPECT_GE(clock.expiry(10s), long_ago + 12);
  EXPECT_LE(clock.expiry(10s), long_ago + 14);
}

TEST(ServerClocks, TheHighestOfTheLastReadingsCounts) {
  ServerClock clock;
  const auto now = Clock::now();
  clock.add(reading(long_ago, now - 30s));
  const auto before = clock.expiry(10s);
  clock.add(reading(long_ago + 25, now - 1s, 1'025));  // it has stood still for 5 s
  EXPECT_EQ(clock.expiry(10s), before);
  clock.add(reading(long_ago + 40, now, 1'040));
  EXPECT_GT(clock.expiry(10s), before);
  clock.add(reading(long_ago, now - 10s));  // comes late
  EXPECT_GT(clock.expiry(10s), before);
}

TEST(ServerClocks, ARestartBeginsAnew) {
  ServerClock clock;
  const auto now = Clock::now();
  clock.add(reading(long_ago + 500, now - 1s));
  clock.add(reading(long_ago, now, 2));
  EXPECT_LE(clock.expiry(10s), long_ago + 14);
}

TEST(ServerClocks, AfterTheEndOfTheTextProtocolsTimesItIsATtl) {
  ServerClock clock;
  clock.add(reading(2'147'483'640, Clock::now()));
  EXPECT_EQ(clock.expiry(10s), 11);
}

TEST(ServerClocks, WhatHasPassedByTheLastReadingSeemsPast) {
  ServerClock clock;
  EXPECT_FALSE(clock.seems_past(0));
  clock.add(reading(long_ago, Clock::now() - 10s));
  EXPECT_TRUE(clock.seems_past(long_ago + 10));
  EXPECT_FALSE(clock.seems_past(long_ago + 15));
  EXPECT_FALSE(clock.seems_past(std::int64_t{1} << 40U));  // which a record may say
}

TEST(ServerClocks, TheTimeIsNoLaterThanItsBound) {
  ServerClock clock;
  const auto now = Clock::now();
  clock.add(reading(long_ago, now));
  EXPECT_GE(clock.latest_time(), long_ago + 2);
  EXPECT_LE(clock.latest_time(), long_ago + 4);
}

TEST(ServerClocks, LaterStartsHaveHigherNumbers) {
  const auto number = [](std::int64_t time, std::int64_t uptime, std::int64_t pid) {
    ClockReading result;
    result.time = time;
    result.uptime = uptime;
    result.pid = pid;
    return result.start_number();
  };
  EXPECT_EQ(number(1'000, 10, 5), number(1'500, 510, 5));
  EXPECT_LT(number(1'000, 10, 5), number(1'000, 9, 1));
  EXPECT_LT(number(1'000, 10, 5), number(1'000, 10, 6));
  EXPECT_GT(number(1'000, 10, 0), 0U);
  EXPECT_EQ(number(-5, 10, 0), 0U);
}

}  // namespace
}  // namespace memcachedlock::detail
