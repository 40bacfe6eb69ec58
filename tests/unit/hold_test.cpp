// What one lock object holds: levels, with the lock and without it.
#include "memcachedlock/detail/hold.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <system_error>

#include "base/process.hpp"
#include "server/cluster.hpp"
#include "waiting/lock_spec.hpp"

namespace memcachedlock::detail {
namespace {

LockSpec spec_of(LockType type, OwnerId owner = OwnerId::this_thread()) {
  LockOptions options;
  options.owner = std::move(owner);
  return {std::make_shared<Cluster>("127.0.0.1:1", ClientOptions{}), Key("hold:", "", "key"),
          options, type};
}

TEST(Holds, AreFreeAtFirst) {
  const LockSpec spec = spec_of(LockType::lock);
  Hold hold;
  EXPECT_FALSE(hold.is_inherited());
  EXPECT_FALSE(hold.enter_unprotected(spec));
  EXPECT_EQ(hold.depth, 0U);
  EXPECT_THROW(hold.require(spec), std::system_error);
  Release outcome{};
  EXPECT_THROW((void)hold.leave(spec, false, outcome), std::system_error);
}

TEST(Holds, OfALockAreNotEnteredAgain) {
  const LockSpec spec = spec_of(LockType::lock);
  Hold hold;
  hold.take(nullptr, OwnerId::this_thread(), false);
  EXPECT_THROW((void)hold.enter_unprotected(spec), std::system_error);
  EXPECT_EQ(hold.depth, 1U);
}

TEST(Holds, CountLevelsWithoutTheLock) {
  const LockSpec spec = spec_of(LockType::zlock);
  Hold hold;
  hold.take_unprotected(OwnerId::this_thread());
  EXPECT_TRUE(hold.enter_unprotected(spec));
  EXPECT_EQ(hold.depth, 2U);
  Release outcome = Release::released;
  EXPECT_EQ(hold.leave(spec, false, outcome), nullptr);
  EXPECT_EQ(outcome, Release::unavailable);
  hold.require(spec);
  outcome = Release::released;
  EXPECT_EQ(hold.leave(spec, false, outcome), nullptr);
  EXPECT_EQ(outcome, Release::unavailable);
  EXPECT_THROW(hold.require(spec), std::system_error);
  EXPECT_FALSE(hold.enter_unprotected(spec));  // free: it must ask again
}

TEST(Holds, GiveBackTheHoldingOfALock) {
  const LockSpec spec = spec_of(LockType::lock);
  Hold hold;
  hold.take(nullptr, OwnerId::this_thread(), true);
  EXPECT_TRUE(hold.on_loop);
  Release outcome{};
  EXPECT_EQ(hold.leave(spec, false, outcome), nullptr);
  EXPECT_EQ(hold.depth, 0U);
  EXPECT_FALSE(hold.on_loop);
}

TEST(Holds, AreOfTheProcessThatMadeThem) {
  const LockSpec spec = spec_of(LockType::rlock);
  Hold hold;
  hold.take_unprotected(OwnerId::this_thread());
  hold.generation = process_generation() + 1;  // as if another had
  EXPECT_TRUE(hold.is_inherited());
  EXPECT_THROW(hold.require(spec), std::system_error);
  EXPECT_FALSE(hold.enter_unprotected(spec));  // forgets it
  EXPECT_EQ(hold.depth, 0U);
  EXPECT_FALSE(hold.is_inherited());
}

TEST(Holds, HaveAnOwnerOfTheirOwnOnALoop) {
  const LockSpec spec = spec_of(LockType::rlock);
  Hold one;
  Hold other;
  const OwnerId on_loop = one.owner_for(spec, true);
  EXPECT_NE(on_loop, OwnerId::this_thread().resolved());
  EXPECT_EQ(one.owner_for(spec, true), on_loop);
  EXPECT_NE(other.owner_for(spec, true), on_loop);
  EXPECT_EQ(one.owner_for(spec, false), OwnerId::this_thread().resolved());
  one.clear();
  EXPECT_EQ(one.owner_for(spec, true), on_loop);  // the object stays who it is
}

TEST(Holds, KeepTheOwnerThatLockedThem) {
  const OwnerId named = OwnerId::unique();
  const LockSpec spec = spec_of(LockType::rlock, named);
  Hold hold;
  EXPECT_EQ(hold.owner_for(spec, true), named);
  const OwnerId first = OwnerId::unique();
  hold.take_unprotected(first);
  EXPECT_EQ(hold.owner_for(spec, false), first);
}

}  // namespace
}  // namespace memcachedlock::detail
