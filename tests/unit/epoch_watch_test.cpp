// Which acquires wait after a server has lost its memory, and which numbers tokens get.
#include "server/epoch_watch.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "wire/server_item.hpp"

namespace memcachedlock::detail {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr std::uint64_t first_start = 1'000;
constexpr std::uint64_t second_start = 2'000;

class EpochWatches : public testing::Test {
 protected:
  Clock::time_point at(milliseconds time) const { return begin + time; }
  std::optional<milliseconds> see(const ServerItem& epoch, milliseconds when, std::uint64_t cas = 1,
                                  milliseconds lease = 1s, std::uint64_t start = first_start) {
    return watch.see(epoch, cas, lease, start, at(when));
  }
  bool is_open(RestartGuard guard, milliseconds when, std::optional<std::int64_t> time = {}) {
    return watch.decide(guard, at(when), time).open;
  }
  auto wanted(const ServerItem& found, std::uint64_t cas, milliseconds lease,
              std::uint64_t start) const {
    return watch.wanted(found, cas, lease, start);
  }
  /// Made by a server that was started at this second of its clock, at that one.
  ServerItem fresh(milliseconds lease, std::int64_t start, std::int64_t now,
                   std::uint64_t seen = 0) const {
    ClockReading reading;
    reading.time = now;
    reading.uptime = now - start;
    return watch.fresh(lease, reading, now + 1, seen);
  }
  static constexpr std::uint64_t second = 1'000'000'000;  // in a number
  const Clock::time_point begin = Clock::now();
  EpochWatch watch{nullptr, 10s};
};

TEST_F(EpochWatches, TheFirstEpochIsOpenButForThoseWhoAreStrict) {
  EXPECT_FALSE(watch.knows_any());
  EXPECT_EQ(see({1, first_start, 1s}, 0ms), std::nullopt);
  EXPECT_TRUE(watch.knows_any());
  EXPECT_TRUE(is_open(RestartGuard::known, 0ms));
  EXPECT_TRUE(is_open(RestartGuard::off, 0ms));
  EXPECT_FALSE(is_open(RestartGuard::strict, 0ms));
  EXPECT_FALSE(is_open(RestartGuard::strict, 9'999ms));
  EXPECT_EQ(watch.decide(RestartGuard::strict, at(0ms), {}).retry_at, at(10s));
  EXPECT_EQ(watch.decide(RestartGuard::strict, at(0ms), 4).retry_at, at(6s));
  EXPECT_TRUE(is_open(RestartGuard::strict, 10s));
  EXPECT_TRUE(is_open(RestartGuard::strict, 0ms));  // once open, always
}

TEST_F(EpochWatches, WhoIsStrictMayGoByTheAgeOfTheItem) {
  see({1, first_start, 1s, 500}, 0ms);
  EXPECT_FALSE(is_open(RestartGuard::strict, 0ms, 400));
  EXPECT_FALSE(is_open(RestartGuard::strict, 0ms, 509));
  EXPECT_TRUE(is_open(RestartGuard::strict, 0ms, 510));
}

TEST_F(EpochWatches, WhoKnewAnotherMayHaveBeenLedToAnOlderServer) {
  see({1, first_start, 1s, 500}, 0ms);
  see({2, second_start, 1s, 100}, 0ms, 1, 1s, second_start);
  EXPECT_FALSE(is_open(RestartGuard::known, 9'999ms, 10'000));
  EXPECT_FALSE(is_open(RestartGuard::strict, 9'999ms, 10'000));
  EXPECT_TRUE(is_open(RestartGuard::known, 10s, 10'000));
}

TEST_F(EpochWatches, AnotherIdIsARestartForThoseWhoKnew) {
  see({1, first_start, 15s}, 0ms);
  EXPECT_EQ(see({2, second_start, 1s}, 1s, 1, 1s, second_start), 15s);
  EXPECT_FALSE(is_open(RestartGuard::known, 15'999ms));
  EXPECT_TRUE(is_open(RestartGuard::off, 1s));
  EXPECT_TRUE(is_open(RestartGuard::known, 16s));
  // Decided: what is longer from now on was not given before.
  see({2, second_start, 1h}, 17s, 2, 1h, second_start);
  EXPECT_TRUE(is_open(RestartGuard::known, 17s));
}

TEST_F(EpochWatches, ASecondRestartIsWaitedForToo) {
  see({1, first_start, 15s}, 0ms);
  see({2, second_start, 1s}, 1s, 1, 1s, second_start);
  EXPECT_TRUE(is_open(RestartGuard::known, 16s));
  EXPECT_EQ(see({3, second_start + 1, 1s}, 20s, 1, 1s, second_start + 1), 15s);
  EXPECT_FALSE(is_open(RestartGuard::known, 34'999ms));
  EXPECT_TRUE(is_open(RestartGuard::known, 35s));
}

TEST_F(EpochWatches, TheWaitIsNoShorterThanWhatNobodyHasTold) {
  see({1, first_start, 1s}, 0ms);
  EXPECT_EQ(see({2, second_start, 1s}, 1s, 1, 1s, second_start), 10s);
  EXPECT_FALSE(is_open(RestartGuard::known, 10'999ms));
}

TEST_F(EpochWatches, WhoComesBackMayTellOfALongerLease) {
  see({1, first_start, 1s}, 0ms);
  see({2, second_start, 1s}, 1s, 1, 1s, second_start);
  EXPECT_EQ(see({2, second_start, 20s}, 2s, 2, 1s, second_start), std::nullopt);
  EXPECT_FALSE(is_open(RestartGuard::known, 20'999ms));
  EXPECT_TRUE(is_open(RestartGuard::known, 21s));
}

TEST_F(EpochWatches, AChildKnowsWhatItsParentKnew) {
  see({1, first_start, 15s}, 0ms);
  EpochWatch child(&watch, 10s);
  EXPECT_TRUE(child.knows_any());
  EXPECT_EQ(child.see({2, second_start, 1s}, 1, 1s, second_start, at(1s)), 15s);
  EXPECT_FALSE(child.decide(RestartGuard::known, at(15'999ms), {}).open);
  EXPECT_TRUE(is_open(RestartGuard::known, 0ms));  // the parent has its own
}

TEST_F(EpochWatches, WhatIsMadeHasALongerLeaseThanAnyKnownAndItsOwnId) {
  const ServerItem first = fresh(3s, 100, 101);
  EXPECT_NE(first.id, 0U);
  EXPECT_NE(first.id, fresh(3s, 100, 101).id);
  EXPECT_EQ(first.number, 101 * second);
  EXPECT_EQ(first.max_lease, 3s);
  EXPECT_EQ(first.made, 102);
  see({1, first_start, 15s}, 0ms);
  EXPECT_EQ(fresh(3s, 100, 101).max_lease, 15s);
}

TEST_F(EpochWatches, AnItemMadeAnewHasAHigherNumberThanAnyThatIsKnown) {
  // Lost by itself, when it may have been raised.
  EXPECT_EQ(fresh(1s, 100, 500).number, 500 * second);
  EXPECT_EQ(fresh(1s, 100, 500, 600 * second).number, 600 * second + 2);
  see({1, 700 * second, 1s}, 0ms);
  EXPECT_EQ(fresh(1s, 100, 500).number, 700 * second + 1);
}

TEST_F(EpochWatches, AnItemThatComesBackIsAnotherServers) {
  see({1, first_start, 1s}, 0ms);
  see({2, first_start, 1s}, 10ms, 2);
  EXPECT_FALSE(watch.is_back({2, first_start, 1s}, at(20ms)));
  EXPECT_FALSE(watch.is_back({3, first_start, 1s}, at(20ms)));
  EXPECT_FALSE(watch.is_back({1, first_start, 1s}, at(5ms)));  // asked before it was replaced
  EXPECT_TRUE(watch.is_back({1, first_start, 1s}, at(20ms)));
}

TEST_F(EpochWatches, KnowWhatHasComeFromAnItemThatWasWell) {
  see({1, first_start, 1s}, 0ms, 5);
  EXPECT_TRUE(watch.has_gone_on(1, 6));
  EXPECT_FALSE(watch.has_gone_on(1, 4));  // read before
  EXPECT_FALSE(watch.has_gone_on(2, 6));
}

TEST_F(EpochWatches, NumbersFollowTheStartOfTheServerAndNeverFall) {
  see({1, first_start, 1s}, 0ms, 5);
  // Its clock was set back: CAS ids begin again, so the number must not stay.
  EXPECT_EQ(wanted(ServerItem{2, 500, 1s}, 9, 1s, 500)->number, first_start + 1);
  EXPECT_EQ(wanted(ServerItem{1, 500, 1s}, 9, 1s, first_start)->number, first_start);
  EXPECT_EQ(watch.number(), first_start);
}

TEST_F(EpochWatches, WhatWasReadBeforeWhatIsKnownIsNoRestart) {
  see({2, first_start, 1s}, 0ms, 50);  // after a flush
  EXPECT_TRUE(wanted(ServerItem{1, first_start, 1s}, 40, 1s, first_start));
  EXPECT_FALSE(wanted(ServerItem{3, first_start, 1s}, 60, 1s, first_start));
  EXPECT_EQ(see({1, first_start - 1, 1s}, 1s), std::nullopt);
  const ServerItem former{1, first_start - 1, 1s};
  const ServerItem known{2, first_start, 1s};
  EXPECT_FALSE(watch.is_since(&former, at(2s)));
  EXPECT_TRUE(watch.is_since(&known, at(2s)));
  EXPECT_FALSE(watch.is_since(&known, at(0ms)));
  EXPECT_FALSE(watch.is_since(nullptr, at(2s)));
}

TEST_F(EpochWatches, ALongerLeaseIsWrittenBeforeItIsUsed) {
  const ServerItem epoch{1, first_start, 2s};
  see(epoch, 0ms);
  EXPECT_TRUE(watch.is_current(epoch, 1, 2s, first_start));
  EXPECT_FALSE(watch.is_current(epoch, 2, 2s, first_start));  // written by another
  EXPECT_FALSE(watch.is_current(epoch, 1, 2'001ms, first_start));
  EXPECT_FALSE(watch.is_current(epoch, 1, 2s, second_start));  // restarted with its memory
  EXPECT_FALSE(watch.is_current(ServerItem{2, first_start, 2s}, 1, 2s, first_start));
  EXPECT_FALSE(wanted(epoch, 1, 2s, first_start));
  const auto longer = wanted(epoch, 1, 3s, first_start);
  ASSERT_TRUE(longer);
  EXPECT_EQ(longer->id, epoch.id);
  EXPECT_EQ(longer->number, epoch.number);
  EXPECT_EQ(longer->max_lease, 3s);
}

}  // namespace
}  // namespace memcachedlock::detail
