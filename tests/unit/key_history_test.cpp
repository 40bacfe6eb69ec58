// What a process knows of earlier holders of a key.
#include "waiting/key_history.hpp"

#include <gtest/gtest.h>

namespace memcachedlock::detail {
namespace {

using namespace std::chrono_literals;

KeyHistory& fresh() {
  static int number = 0;
  return KeyHistory::of(Key("history:", "", std::to_string(++number)));
}

TEST(KeyHistories, AreOneAKey) {
  EXPECT_EQ(&KeyHistory::of(Key("p", "", "k")), &KeyHistory::of(Key("p", "", "k")));
}

TEST(KeyHistories, AverageHowLongItWasHeld) {
  KeyHistory& history = fresh();
  EXPECT_EQ(history.hold(), HoldTime{});
  history.note_hold(100us);
  EXPECT_EQ(history.hold(), (HoldTime{100us, 0us}));
  history.note_hold(200us);
  EXPECT_EQ(history.hold(), (HoldTime{125us, 100us}));  // (3 * 100 + 200 + 3) / 4
  history.note_hold(126us);
  EXPECT_EQ(history.hold().usual, 126us);  // rounded up, or it would never rise by little
  EXPECT_LT(history.hold().deviation, 100us);
  history.note_hold(0us);
  EXPECT_GT(history.hold().usual, 0us);
  for (int i = 0; i < 100; ++i) history.note_hold(std::chrono::hours(100));
  EXPECT_LE(history.hold().usual, HoldTime::longest);
}

TEST(KeyHistories, LearnFromRecords) {
  KeyHistory& history = fresh();
  history.learn({30us, 3us});
  EXPECT_EQ(history.hold(), (HoldTime{30us, 3us}));
  history.learn({});  // not known there
  EXPECT_EQ(history.hold(), (HoldTime{30us, 3us}));
}

TEST(KeyHistories, RememberContention) {
  KeyHistory& history = fresh();
  EXPECT_FALSE(history.contended());
  history.note_contention();
  EXPECT_TRUE(history.contended());
  EXPECT_FALSE(history.arrivals());
  history.note_arrivals(true);
  EXPECT_TRUE(history.arrivals());
  history.note_arrivals(false);
  EXPECT_FALSE(history.arrivals());
}

}  // namespace
}  // namespace memcachedlock::detail
