// The line of a process's waiters for one lock.
#include "waiting/local_queue.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "server/cluster.hpp"

namespace memcachedlock::detail {
namespace {

using namespace std::chrono_literals;
using Woken = LocalQueue::Woken;

class LocalQueues : public testing::Test {
 protected:
  struct Waiting {
    explicit Waiting(const SharedSpec& spec, OwnerId owner = OwnerId::this_thread())
        : waiter({spec, std::move(owner), "h:1:2"}, [this] { ++wakes; }) {}
    /// When it wants to be called; nothing when its nap is over.
    std::optional<Clock::time_point> nap(bool queued = false, bool stop = false) {
      return waiter.nap(std::nullopt, stop, queued, woken);
    }
    int wakes = 0;
    Woken woken;
    LocalQueue::Waiter waiter;
  };
  [[nodiscard]] SharedSpec another_client() const {
    return std::make_shared<const LockSpec>(
        std::make_shared<Cluster>("127.0.0.1:1", ClientOptions{}), Key("queue:", "", "key"),
        LockOptions{}, LockType::lock);
  }
  const SharedSpec spec = another_client();
};

TEST_F(LocalQueues, AreThereWhileSomebodyWaits) {
  EXPECT_FALSE(LocalQueue::has(*spec));
  {
    const Waiting one(spec);
    EXPECT_TRUE(LocalQueue::has(*spec));
    EXPECT_FALSE(
        LocalQueue::has(LockSpec(spec->cluster, Key("queue:", "", "other"), {}, LockType::lock)));
  }
  EXPECT_FALSE(LocalQueue::has(*spec));
}

TEST_F(LocalQueues, LetOnlyTheFirstAsk) {
  std::optional<Waiting> first(std::in_place, spec);
  Waiting second(spec);
  std::optional<Waiting> third(std::in_place, spec);
  EXPECT_TRUE(first->waiter.may_ask());
  EXPECT_FALSE(second.waiter.may_ask());
  EXPECT_TRUE(second.nap());
  first->waiter.ask_after(1h);
  third.reset();  // that changes nothing for the first
  EXPECT_FALSE(first->waiter.may_ask());
  first.reset();  // gave up: how long it would have paused is its own business
  EXPECT_EQ(second.wakes, 1);
  EXPECT_FALSE(second.nap());
  EXPECT_TRUE(second.waiter.may_ask());
}

TEST_F(LocalQueues, PauseTheFirstUntilItIsWoken) {
  Waiting first(spec);
  EXPECT_TRUE(first.waiter.may_ask());
  first.waiter.ask_after(1h);
  EXPECT_FALSE(first.waiter.may_ask());
  EXPECT_TRUE(first.nap());
  LocalQueue::wake(*spec);
  EXPECT_EQ(first.wakes, 1);
  EXPECT_FALSE(first.nap());
  EXPECT_TRUE(first.waiter.may_ask());
}

TEST_F(LocalQueues, LoseNoWakeWhileTheFirstAsks) {
  Waiting first(spec);
  EXPECT_TRUE(first.waiter.may_ask());
  LocalQueue::wake(*spec);
  first.waiter.ask_after(1h);
  EXPECT_TRUE(first.waiter.may_ask());
}

TEST_F(LocalQueues, EndANapByALimitOrAStop) {
  Waiting first(spec);
  EXPECT_TRUE(first.waiter.may_ask());
  first.waiter.ask_after(1h);
  Woken woken;
  const auto soon = Clock::now() + 10min;
  EXPECT_LE(first.waiter.nap(soon, false, false, woken), soon);
  EXPECT_FALSE(first.waiter.nap(Clock::now(), false, false, woken));
  EXPECT_TRUE(first.nap());
  EXPECT_FALSE(first.nap(false, true));
}

TEST_F(LocalQueues, HandTheLockToTheFirstThatSleeps) {
  EXPECT_FALSE(LocalQueue::claim(*spec));
  Waiting first(spec);
  Waiting second(spec);
  EXPECT_FALSE(LocalQueue::claim(*spec));  // it asks just now
  EXPECT_TRUE(first.waiter.may_ask());
  first.waiter.ask_after(1h);
  EXPECT_TRUE(first.nap(true));
  {
    const auto claim = LocalQueue::claim(*spec);
    ASSERT_TRUE(claim);
    EXPECT_TRUE(claim->is_queued());
    EXPECT_EQ(claim->bid().spec, spec);
    EXPECT_FALSE(LocalQueue::claim(*spec));
    EXPECT_TRUE(first.nap(true, true));  // whoever has claimed it decides
  }
  EXPECT_TRUE(first.nap());  // given up: it sleeps on
  auto claim = LocalQueue::claim(*spec);
  ASSERT_TRUE(claim);
  EXPECT_TRUE(claim->is_queued());
  Handoff handoff;
  handoff.token = "new";
  EXPECT_TRUE(claim->serve(std::move(handoff)));
  EXPECT_FALSE(first.nap());
  ASSERT_TRUE(std::holds_alternative<Handoff>(first.woken));
  EXPECT_EQ(std::get<Handoff>(first.woken).token, "new");
}

TEST_F(LocalQueues, ReturnAHandOverThatNobodyTook) {
  std::optional<Waiting> first(std::in_place, spec);
  EXPECT_TRUE(first->waiter.may_ask());
  first->waiter.ask_after(1h);
  EXPECT_TRUE(first->nap());
  Handoff handoff;
  handoff.token = "new";
  EXPECT_TRUE(LocalQueue::claim(*spec)->serve(std::move(handoff)));
  const auto left = first->waiter.leave(std::nullopt, false);
  EXPECT_EQ(left.unused, "new");
  EXPECT_FALSE(left.seat);
}

// It does not wait for the holder, which may never decide: its thread may end the process.
TEST_F(LocalQueues, TellAHolderThatTheOneItHasClaimedHasLeft) {
  std::optional<Waiting> first(std::in_place, spec);
  EXPECT_TRUE(first->waiter.may_ask());
  first->waiter.ask_after(1h);
  EXPECT_TRUE(first->nap());
  auto claim = LocalQueue::claim(*spec);
  ASSERT_TRUE(claim);
  first.reset();
  EXPECT_EQ(claim->bid().spec, spec);
  EXPECT_FALSE(claim->serve({}));
  claim.reset();
  EXPECT_FALSE(LocalQueue::has(*spec));
}

TEST_F(LocalQueues, PassASeatToTheNextAndReturnTheLastOne) {
  std::optional<Waiting> first(std::in_place, spec);
  Waiting second(spec);
  EXPECT_FALSE(first->waiter.leave(Seat{spec, "seat"}, false).seat);
  first.reset();
  EXPECT_TRUE(second.waiter.may_ask());
  const auto seat = second.waiter.take_seat();
  ASSERT_TRUE(seat);
  EXPECT_EQ(seat->token, "seat");
  EXPECT_FALSE(second.waiter.take_seat());
  EXPECT_EQ(second.waiter.leave(Seat{spec, "seat"}, false).seat->token, "seat");
}

TEST_F(LocalQueues, KeepTheNextAsleepWhenTheFirstHasTheLock) {
  Waiting first(spec);
  Waiting second(spec);
  EXPECT_TRUE(first.waiter.may_ask());
  EXPECT_TRUE(second.nap());
  (void)first.waiter.leave(std::nullopt, true);
  EXPECT_EQ(second.wakes, 0);
  EXPECT_FALSE(second.waiter.may_ask());
}

TEST_F(LocalQueues, WakeTheNextOfTheSameOwner) {
  const OwnerId owner = OwnerId::unique();
  Waiting first(spec, owner);
  Waiting second(spec, owner);
  EXPECT_TRUE(second.nap());
  (void)first.waiter.leave(std::nullopt, true);
  EXPECT_EQ(second.wakes, 1);
  EXPECT_TRUE(second.waiter.may_ask());
}

TEST_F(LocalQueues, ShareAFailureWithThoseOfTheSameClientThatWaitedBefore) {
  Waiting first(spec);
  Waiting second(spec);
  const SharedSpec elsewhere = another_client();
  Waiting third(elsewhere);
  EXPECT_TRUE(second.nap());
  EXPECT_TRUE(third.nap());
  EXPECT_TRUE(first.waiter.may_ask());
  Waiting late(spec);
  EXPECT_TRUE(late.nap());
  first.waiter.fail({.what = "what", .server = "server"});
  EXPECT_FALSE(second.nap());
  ASSERT_TRUE(std::holds_alternative<SharedFailure>(second.woken));
  EXPECT_EQ(std::get<SharedFailure>(second.woken).what, "what");
  EXPECT_TRUE(third.nap());
  EXPECT_TRUE(late.nap());
}

}  // namespace
}  // namespace memcachedlock::detail
