// The checker of histories, with histories that can't be.
#include "torture/history.hpp"

#include <gtest/gtest.h>

#include <sstream>

namespace {

constexpr std::int64_t allowance = 1'000;

std::vector<std::string> violations(const std::string& lines,
                                    const std::vector<std::string>& killed = {}) {
  std::istringstream stream(lines);
  History history;
  history.read(stream);
  EXPECT_TRUE(history.unreadable.empty());
  return check(history, allowance, killed).violations;
}

void expect_one(const std::string& lines, const std::string& part) {
  const auto found = violations(lines);
  ASSERT_EQ(found.size(), 1U) << testing::PrintToString(found);
  EXPECT_NE(found[0].find(part), std::string::npos) << found[0];
}

const std::string first = "I a.1 key 100 50\nA a.1 110 t1 500\nR a.1 200\nO a.1 210 released\n";

TEST(History, OneAfterAnotherIsRight) {
  EXPECT_TRUE(violations(first +
                         "I b.1 key 100 200\nA b.1 215 t2 900\nR b.1 300\nO b.1 310 lost\n" +
                         "I c.1 key 300 100\nF c.1 400\n")
                  .empty());
}

TEST(History, TwoHoldersAtOnceAreFound) {
  expect_one(first + "I b.1 key 100 200\nA b.1 150 t2 900\nR b.1 300\nO b.1 310 released\n",
             "two holders of key: a.1");
}

TEST(History, AHolderThatNeverReleasesHoldsToTheEndOfItsLease) {
  const std::string killed = "I a.1 key 100 50\nA a.1 110 t1 500\n";
  const std::string next = "R b.1 700\nO b.1 710 released\n";
  expect_one(killed + "I b.1 key 100 900\nA b.1 499 t2 900\n" + next, "two holders");
  EXPECT_TRUE(violations(killed + "I b.1 key 100 900\nA b.1 500 t2 900\n" + next).empty());
}

TEST(History, AnExtensionMovesTheEndAndALossBringsItForward) {
  const std::string extended = "I a.1 key 100 50\nA a.1 110 t1 500\nE a.1 800\n";
  const std::string next = "I b.1 key 100 900\nA b.1 600 t2 900\nR b.1 700\nO b.1 710 released\n";
  expect_one(extended + next, "two holders");
  EXPECT_TRUE(violations(extended + "L a.1 590\n" + next).empty());
}

TEST(History, AnOverlapWithALongerOneBeforeIsFound) {
  expect_one(
      "I a.1 key 100 50\nA a.1 110 t1 900\nL a.1 901\n"
      "I b.1 other 100 50\nA b.1 120 t2 130\nI c.1 key 100 900\nA c.1 890 t3 1000\n",
      "two holders of key: a.1");
}

TEST(History, SharersOfATokenAreOneHolder) {
  EXPECT_TRUE(
      violations(first + "I b.1 key 100 50\nA b.1 150 t1 500\nR b.1 400\nO b.1 410 released\n")
          .empty());
  expect_one(first + "I b.1 key 100 50\nA b.1 150 t1 500\nR b.1 400\nO b.1 410 released\n" +
                 "I c.1 key 100 300\nA c.1 300 t2 900\nR c.1 310\nO c.1 320 released\n",
             "two holders");
}

TEST(History, ATokenThatDoesNotRiseIsFound) {
  for (const std::string token : {"t0", "t"}) {
    expect_one(
        first + "I b.1 key 100 200\nA b.1 215 " + token + " 900\nR b.1 300\nO b.1 310 lost\n",
        "did not rise");
  }
}

TEST(History, LostAfterReleasedIsFound) {
  expect_one(first + "X a key t1 250\n", "and then lost");
  EXPECT_TRUE(
      violations(first + "X a key t1 205\nX a other t1 250\nX a key t2 250\nX b key t1 250\n")
          .empty());
}

TEST(History, ASharerOfATokenMayLoseItLater) {
  const std::string sharer = "I a.2 key 100 50\nA a.2 150 t1 500\nL a.2 400\nR a.2 410\n";
  EXPECT_TRUE(violations(first + sharer + "O a.2 420 lost\nX a key t1 400\n").empty());
  expect_one(first + sharer + "O a.2 420 released\nX a key t1 430\n", "and then lost");
}

TEST(History, AWaitThatDoesNotEndIsFound) {
  const std::string waiting = "I a.1 key 100 50\n";
  expect_one(waiting, "for ever");
  EXPECT_TRUE(violations(waiting, {"a."}).empty());
  expect_one(waiting + "F a.1 1151\n", "longer than it may");
  EXPECT_TRUE(violations(waiting + "F a.1 1150\n").empty());
  expect_one("I a.1 key 100 50\nA a.1 110 t1 500\nR a.1 200\n", "released key for ever");
  expect_one("F a.1 1150\n", "never began");
}

TEST(History, NonsenseIsUnreadable) {
  std::istringstream stream("Q a.1 1\nA a.1 x\n\nI a.1 key 1 1");
  History history;
  history.read(stream);
  EXPECT_EQ(history.unreadable.size(), 3U);
}

Idle idle(const std::string& lines) {
  std::istringstream stream(lines);
  History history;
  history.read(stream);
  return longest_idle(history);
}

TEST(History, TellsForHowLongWhatWasWaitedForWasFree) {
  EXPECT_EQ(idle(first).time, 0);
  const std::string second = "I b.1 key 150 900\nA b.1 240 t2 500\nR b.1 300\nO b.1 310 released\n";
  EXPECT_EQ(idle(first + second).time, 30);
  EXPECT_EQ(idle(first + second).id, "b.1");
  // One that comes later does not wait that long, one that gives up does.
  EXPECT_EQ(idle(first + second + "I c.1 key 320 900\nF c.1 345\n").time, 30);
  EXPECT_EQ(idle(first + second + "I c.1 key 320 900\nF c.1 361\n").id, "c.1");
  EXPECT_EQ(idle(first + second + "I c.1 other 320 900\nF c.1 999\n").time, 30);
  // What a holder left otherwise is held to the end of its lease.
  EXPECT_EQ(idle("I a.1 key 100 50\nA a.1 110 t1 500\nI b.1 key 100 900\nA b.1 540 t2 900\n").time,
            40);
}

}  // namespace
