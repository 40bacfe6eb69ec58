// ZLock in front of a transaction that was begun outside, and its hand-over to a commit hook.
#include <gtest/gtest.h>

#include <stdexcept>
#include <thread>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

struct Conflict : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Outside : public testing::Test {
 protected:
  Outside() {
    mcl::ClientOptions client_options;
    client_options.observer = recorder;
    client.emplace(server.address(), client_options);
    options.transaction = mcl::Transaction::outside;
    options.reservation = 20s;
  }
  LocalServer server;
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  std::optional<mcl::MemcachedClient> client;
  mcl::ZLockOptions options;
  static std::string key() { return "key"; }
};

TEST_F(Outside, RunsAtOnceWhenFree) {
  EXPECT_EQ(mcl::with_zlock<Conflict>(
                *client, key, [] { return 1; }, options)(),
            1);
  EXPECT_TRUE(mcl::Lock(*client, "key").try_lock());
}

TEST_F(Outside, HavingToWaitIsAConflictAndTheRetryFindsItsReservation) {
  mcl::Lock holder(*client, "key");
  holder.lock();
  int runs = 0;
  const auto write = mcl::with_zlock<Conflict>(
      *client, key, [&] { return ++runs; }, options);
  std::thread releaser([&] {
    EXPECT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) >= 2; }));
    holder.unlock();
  });
  EXPECT_THROW(write(), Conflict);
  releaser.join();
  EXPECT_EQ(runs, 0);
  EXPECT_FALSE(mcl::Lock(*client, "key").try_lock());  // kept for us
  EXPECT_EQ(write(), 1);
  EXPECT_TRUE(mcl::Lock(*client, "key").try_lock());
}

TEST_F(Outside, AConflictOfTheCallableKeepsTheReservation) {
  int runs = 0;
  const auto write = mcl::with_zlock<Conflict>(
      *client, key,
      [&] {
        if (++runs == 1) throw Conflict("store");
        return runs;
      },
      options);
  EXPECT_THROW(write(), Conflict);
  EXPECT_EQ(recorder->count(mcl::EventKind::reserved), 1);
  EXPECT_FALSE(mcl::Lock(*client, "key").try_lock());
  EXPECT_EQ(write(), 2);
}

TEST_F(Outside, AReservationThatIsNotUsedRunsOut) {
  options.reservation = 100ms;
  const auto write = mcl::with_zlock<Conflict>(
      *client, key, [] { throw Conflict("store"); }, options);
  EXPECT_THROW(write(), Conflict);
  lock_once(mcl::Lock(*client, "key"));
  EXPECT_EQ(recorder->count(mcl::EventKind::lost), 0);
}

TEST_F(Outside, ANamedOwnersReservationIsFoundByAnotherProcess) {
  options.owner = mcl::OwnerId::named("request 1");
  const auto conflicting = mcl::with_zlock<Conflict>(
      *client, key, [] { throw Conflict("store"); }, options);
  EXPECT_THROW(conflicting(), Conflict);
  EXPECT_TRUE(ended_well(in_child([&] {
    return !mcl::Lock(*client, "key").try_lock() &&
           mcl::with_zlock<Conflict>(
               *client, key, [] { return true; }, options)();
  })));
}

TEST_F(Outside, TheLockIsHeldUntilTheTransactionEnds) {
  std::vector<mcl::DeferredRelease> hooks;
  options.until_transaction_ends = [&](const mcl::DeferredRelease& release) {
    hooks = {release, release};  // commit and abort
  };
  const auto write = mcl::with_zlock<Conflict>(
      *client, key, [] { return 1; }, options);
  EXPECT_EQ(write(), 1);
  EXPECT_FALSE(mcl::Lock(*client, "key").try_lock());
  hooks[0]();
  EXPECT_TRUE(mcl::Lock(*client, "key").try_lock());
  mcl::Lock next(*client, "key");
  next.lock();
  hooks[1]();  // does nothing
  hooks.clear();
  EXPECT_EQ(next.release(), mcl::Release::released);
}

TEST_F(Outside, ADroppedHandoverReleases) {
  mcl::ZLock<Conflict> lock(*client, "key", options);
  lock.lock();
  { const mcl::Handover handover = lock.hand_over(); }
  EXPECT_TRUE(mcl::Lock(*client, "key").try_lock());
}

TEST_F(Outside, RunsUnlockedWhenMemcachedIsGone) {
  server.stop();
  EXPECT_EQ(mcl::with_zlock<Conflict>(
                *client, key, [] { return 1; }, options)(),
            1);
  EXPECT_EQ(recorder->count(mcl::EventKind::proceeded_unlocked), 1);
  mcl::ZLockOptions hard = options;
  hard.on_unavailable = mcl::OnUnavailable::fail;
  EXPECT_THROW(mcl::with_zlock<Conflict>(
                   *client, key, [] { return 1; }, hard)(),
               mcl::Unavailable);
}

TEST_F(Outside, AVoidOrReferenceResultIsHandedOverToo) {
  int value = 0;
  int handed_over = 0;
  options.until_transaction_ends = [&](const mcl::DeferredRelease&) { ++handed_over; };
  const auto none = mcl::with_zlock<Conflict>(
      *client, key, [&] { ++value; }, options);
  none();
  const auto reference = mcl::with_zlock<Conflict>(
      *client, key, [&]() -> int& { return value; }, options);
  EXPECT_EQ(&reference(), &value);
  EXPECT_EQ(handed_over, 2);
  EXPECT_TRUE(mcl::Lock(*client, "key").try_lock());
}

TEST_F(Outside, AConflictWithoutMessageCanBeThrown) {
  struct Silent {};
  mcl::Lock holder(*client, "key", {.timeout = 300ms});
  holder.lock();
  EXPECT_THROW(mcl::with_zlock<Silent>(
                   *client, key, [] {}, options)(),
               Silent);
}

// Fault: the lock is lost before it can be reserved. Promise: nobody counts on the reservation, and
// the retry takes the lock again.
TEST_F(Outside, AReservationOfALostLockIsNone) {
  int runs = 0;
  const auto write = mcl::with_zlock<Conflict>(
      *client, key,
      [&] {
        if (++runs > 1) return;
        server.ask("flush_all");
        throw Conflict("store");
      },
      options);
  EXPECT_THROW(write(), Conflict);
  EXPECT_EQ(recorder->count(mcl::EventKind::reserved), 0);
  EXPECT_EQ(recorder->count(mcl::EventKind::lost), 1);
  write();
  EXPECT_EQ(runs, 2);
}

// Fault: a reservation was taken away. Promise: its owner takes the lock again.
TEST_F(Outside, AReservationThatIsGoneIsNotResumed) {
  mcl::ZLock<Conflict> lock(*client, "key", options);
  lock.lock();
  const auto token = lock.fencing_token();
  lock.reserve();
  ASSERT_EQ(server.ask("delete memcachedlock:key"), "DELETED\r\n");
  lock.lock();
  EXPECT_LT(token, lock.fencing_token());
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

// Fault: the lock is lost between two attempts. Promise: the next attempt runs under it again.
TEST_F(Outside, ALostLockIsTakenAgainForTheNextAttempt) {
  options.transaction = mcl::Transaction::inside;
  std::vector<mcl::FencingToken> tokens;
  const auto write = mcl::with_zlock<Conflict>(
      *client, key,
      [&](const mcl::Lease& lease) {
        EXPECT_TRUE(lease.owns_lock());
        tokens.push_back(lease.fencing_token());
        if (tokens.size() == 1) {
          server.ask("flush_all");
          throw Conflict("store");
        }
      },
      options);
  write();
  ASSERT_EQ(tokens.size(), 2U);
  EXPECT_LT(tokens[0], tokens[1]);
  EXPECT_EQ(recorder->count(mcl::EventKind::lost), 1);
  EXPECT_EQ(server.get("memcachedlock:key"), "");
}

// Fault: memcached dies between two attempts. Promise: with `proceed` the next runs all the same.
TEST_F(Outside, TheNextAttemptRunsThoughMemcachedHasGone) {
  options.transaction = mcl::Transaction::inside;
  int runs = 0;
  const auto write = mcl::with_zlock<Conflict>(
      *client, key,
      [&] {
        if (++runs > 1) return;
        server.stop();
        throw Conflict("store");
      },
      options);
  write();
  EXPECT_EQ(runs, 2);
}

TEST_F(Outside, BadOptionsAreNamed) {
  mcl::ZLockOptions none = options;
  none.max_attempts = 0;
  EXPECT_THROW((void)mcl::ZLock<Conflict>(*client, "key", none), mcl::InvalidOption);
  none = options;
  none.reservation = 0ms;
  EXPECT_THROW((void)mcl::ZLock<Conflict>(*client, "key", none), mcl::InvalidOption);
}

}  // namespace
