// A lease belongs to the holding, not to the object or thread that asks, also after a move.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <future>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"
#include "support/between_processes.hpp"
#include "support/local_server.hpp"
#include "support/lock_types.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

std::atomic<bool> no_memory{false};

}  // namespace

#if !defined(SANITIZED)  // they have their own
// NOLINTBEGIN(*-avoid-malloc)
[[gnu::noinline]] void* operator new(std::size_t size) {
  void* memory = no_memory ? nullptr : std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
// NOLINTEND(*-avoid-malloc)
#endif

namespace {

template <class AnyLock>
class Holding : public testing::Test {
 protected:
  using Options = typename OptionsOf<AnyLock>::Type;
  static Options options(std::chrono::milliseconds timeout, bool renew = false) {
    Options result;
    result.timeout = timeout;
    result.renew = renew;
    if constexpr (requires { result.reservation; }) result.reservation = 100ms;
    return result;
  }
  AnyLock make(std::chrono::milliseconds timeout = 30s, bool renew = false) const {
    return AnyLock(client, "key", options(timeout, renew));
  }
  static constexpr bool reenters = reenters_v<AnyLock>;

  LocalServer server;
  const std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  const mcl::MemcachedClient client{server.address(), {.observer = recorder}};
};

using AllLocks = testing::Types<mcl::Lock, mcl::RLock, mcl::ZLock<Conflict>>;
TYPED_TEST_SUITE(Holding, AllLocks);

// Fault: an inner lock with a shorter timeout is extended. Promise: the outer lease is not
// shortened.
TYPED_TEST(Holding, AnExtensionNeverShortensALease) {
  for (const bool renew : {false, true}) {
    auto outer = this->make(20s, renew);
    outer.lock();
    if constexpr (TestFixture::reenters) {
      auto inner = this->make(300ms);
      inner.lock();
      EXPECT_TRUE(inner.extend());
      EXPECT_GT(inner.remaining(), 10s);
    } else {
      EXPECT_TRUE(outer.extend());
    }
    EXPECT_GT(outer.remaining(), 10s);
    EXPECT_NE(this->server.get("memcachedlock:key").find(":x:20000:"), std::string::npos);
  }
}

// Promise: a longer one is registered as an acquire's is, so that waiters know it after a restart.
TYPED_TEST(Holding, AnExtensionWithALongerTimeoutIsRegistered) {
  if constexpr (TestFixture::reenters) {
    auto outer = this->make(2s);
    outer.lock();
    auto inner = this->make(90s);
    inner.lock();
    EXPECT_LE(outer.remaining(), 2s);
    EXPECT_TRUE(inner.extend());
    EXPECT_GT(outer.remaining(), 80s);
    EXPECT_NE(this->server.get("memcachedlock:^server").find(" 90000 "), std::string::npos);
    // And it stays: the holding's lease is the longer one now.
    EXPECT_TRUE(outer.extend());
    EXPECT_GT(outer.remaining(), 80s);
  }
}

// Promise: a moved lock is the same holding, in every state, and the one it was moved from is free.
TYPED_TEST(Holding, AMovedLockIsTheSameHolding) {
  static_assert(std::is_nothrow_move_constructible_v<TypeParam>);
  static_assert(std::is_nothrow_move_assignable_v<TypeParam>);
  const auto try_moves = [&](auto&& reach, auto&& check) {
    auto first = this->make();
    reach(first);
    TypeParam second(std::move(first));
    check(second);
    auto third = TypeParam(this->client, "other", TestFixture::options(30s));
    (void)third.try_lock();
    third = std::move(second);
    check(third);
    EXPECT_TRUE(TypeParam(this->client, "other", TestFixture::options(30s)).try_lock());
    for (TypeParam* moved : {&first, &second}) {
      EXPECT_FALSE(moved->owns_lock());
      EXPECT_EQ(moved->remaining(), 0ms);
      EXPECT_THROW((void)moved->release(), std::system_error);
    }
    return third;
  };
  // Free; and what was moved from can be used.
  auto lock = try_moves([](auto&) {}, [](auto& moved) { EXPECT_FALSE(moved.owns_lock()); });
  lock.lock();
  EXPECT_EQ(lock.release(), mcl::Release::released);
  // Held, once or more; entered again after the move.
  const unsigned most = TestFixture::reenters ? 3 : 1;
  for (unsigned depth = 1; depth <= most; ++depth) {
    auto held = try_moves(
        [&](auto& made) {
          for (unsigned i = 0; i < depth; ++i) made.lock();
        },
        [](auto& moved) { EXPECT_TRUE(moved.owns_lock()); });
    if constexpr (TestFixture::reenters) {
      EXPECT_TRUE(held.try_lock());
      EXPECT_TRUE(held.owns_lock());
      (void)held.release();
    }
    for (unsigned i = 0; i < depth; ++i) EXPECT_EQ(held.release(), mcl::Release::released);
    EXPECT_EQ(this->server.get("memcachedlock:key"), "");
  }
  // Lost.
  auto lost = try_moves(
      [&](auto& made) {
        made.lock();
        this->server.ask("delete memcachedlock:key");
        EXPECT_FALSE(made.extend());
      },
      [](auto& moved) { EXPECT_TRUE(moved.lost().stop_requested()); });
  EXPECT_EQ(lost.release(), mcl::Release::lost);
  // Unprotected.
  auto options = TestFixture::options(30s);
  options.on_unavailable = mcl::OnUnavailable::proceed;
  TypeParam unprotected(mcl::MemcachedClient("127.0.0.1:1"), "key", options);
  unprotected.lock();
  TypeParam moved(std::move(unprotected));
  EXPECT_EQ(moved.release(), mcl::Release::unavailable);
  EXPECT_THROW((void)moved.release(), std::system_error);
}

TYPED_TEST(Holding, AMoveNeedsNoMemory) {
  auto options = TestFixture::options(30s);
  options.scope = std::string(100, 's');
  options.owner = mcl::OwnerId::named(std::string(100, 'o'));
  TypeParam first(this->client, std::string(200, 'k'), options);
  first.lock();
  TypeParam other(this->client, "other");
  no_memory = true;
  TypeParam second(std::move(first));
  other = std::move(second);
  no_memory = false;
  EXPECT_TRUE(other.owns_lock());
}

// Promise: nothing is left of a holding that has ended, however it was moved.
TYPED_TEST(Holding, NothingIsLeftOfAMovedOne) {
  const auto round = [&](int count) {
    for (int i = 0; i < count; ++i) {
      TypeParam first(this->client, "key" + std::to_string(i), TestFixture::options(30s));
      first.lock();
      TypeParam second(std::move(first));
      EXPECT_TRUE(second.owns_lock());
    }
  };
  round(200);
  const auto before = mallinfo2().uordblks;
  round(2'000);
  EXPECT_LT(mallinfo2().uordblks, before + 100'000);
}

// Fault: lost() is asked for the first time when the lease has run out. Promise: it says so.
TYPED_TEST(Holding, LostSaysYesWheneverTheLeaseHasRunOut) {
  auto lock = this->make(150ms);
  lock.lock();
  ASSERT_TRUE(eventually([&] { return !lock.owns_lock(); }));
  EXPECT_TRUE(lock.lost().stop_requested());
  EXPECT_TRUE(lock.lease().lost().stop_requested());
  EXPECT_EQ(this->recorder->count(mcl::EventKind::lost), 1);
  EXPECT_EQ(lock.release(), mcl::Release::lost);
}

// Fault: the loss callback leaves the lock, in the middle of the extension that found the loss.
TYPED_TEST(Holding, ACallbackMayLeaveTheLockWhileItIsExtended) {
  auto lock = std::make_unique<TypeParam>(this->make());
  lock->lock();
  const auto token = lock->lost();
  const std::stop_callback leave(token, [&] { lock->unlock(); });
  this->server.ask("delete memcachedlock:key");
  EXPECT_FALSE(lock->extend());
  EXPECT_THROW((void)lock->release(), std::system_error);
}

// Fault: the process is forked while it holds the lock. Promise: the child tells nobody of it.
TYPED_TEST(Holding, AForkedChildTellsOfNoLockThatItNeverHeld) {
  auto lock = std::make_unique<TypeParam>(this->make());
  lock->lock();
  const auto lease = lock->lease();
  EXPECT_TRUE(ended_well(in_child([&] {
    const bool told = lease.lost().stop_requested() && !lease.owns_lock() && !lock->owns_lock();
    lock.reset();
    return told && this->recorder->count(mcl::EventKind::unavailable) == 0 &&
           this->recorder->count(mcl::EventKind::misused) == 0 &&
           this->recorder->count(mcl::EventKind::lost) == 0;
  })));
  EXPECT_TRUE(lock->owns_lock());
  EXPECT_EQ(lock->release(), mcl::Release::released);
}

// Fault: the process is copied without fork(), as by a snapshot. Promise: one of them holds.
TYPED_TEST(Holding, ACopyOfTheProcessHoldsNothing) {
  auto held = this->make();
  held.lock();
  Shared<std::atomic<int>> outcome;
  const long copy = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (copy == 0) {
    int wrong = held.owns_lock() ? 1 : 0;
    const mcl::MemcachedClient mine(this->server.address());
    if (TypeParam(mine, "key", TestFixture::options(30s)).try_lock()) wrong |= 2;
    *outcome = 4 | wrong;
    _exit(0);
  }
  ASSERT_TRUE(ended_well(static_cast<pid_t>(copy)));
  EXPECT_EQ(outcome->load(), 4);
  EXPECT_TRUE(held.owns_lock());
}

TEST(Decorated, AZLockUnderALostOneRuns) {
  const LocalServer server;
  const mcl::MemcachedClient client(server.address(), {.restart_window = 0ms});
  const auto key = [](int) { return "key"; };
  mcl::ZLockOptions options;
  options.timeout = 200ms;
  options.reservation = 100ms;
  int runs = 0;
  auto inner = mcl::with_zlock<Conflict>(
      client, key,
      [&](const mcl::Lease& lease, int) {
        EXPECT_FALSE(lease.fencing_token());
        return ++runs;
      },
      options);
  for (const bool flush : {false, true}) {
    auto outer = mcl::with_zlock<Conflict>(
        client, key,
        [&](const mcl::Lease& lease, int argument) {
          if (flush) server.ask("flush_all");
          EXPECT_TRUE(eventually([&] { return !lease.owns_lock(); }));
          return inner(argument);
        },
        options);
    const int before = runs;
    EXPECT_EQ(outer(0), before + 1);
  }
  // Afterwards the owner is as before.
  mcl::ZLock<Conflict> lock(client, "key", options);
  lock.lock();
  EXPECT_TRUE(lock.owns_lock());
  ASSERT_TRUE(eventually([&] { return !lock.owns_lock(); }));
  lock.lock();  // the same object again: unlocked
  EXPECT_EQ(lock.release(), mcl::Release::unavailable);
  EXPECT_EQ(lock.release(), mcl::Release::lost);
  lock.lock();
  EXPECT_TRUE(lock.owns_lock());
  mcl::RLock strict(client, "strict", {.timeout = 200ms});
  strict.lock();
  ASSERT_TRUE(eventually([&] { return !strict.owns_lock(); }));
  EXPECT_THROW(strict.lock(), mcl::LeaseLost);
}

TEST(Decorated, AZLockThatIsRunTwiceIsKeptTwice) {
  const LocalServer server;
  const mcl::MemcachedClient client(server.address());
  std::vector<mcl::DeferredRelease> kept;
  mcl::ZLockOptions options;
  options.transaction = mcl::Transaction::outside;
  options.until_transaction_ends = [&](mcl::DeferredRelease lock) {
    kept.push_back(std::move(lock));
  };
  mcl::ZLock<Conflict> lock(client, "key", options);
  for (int round = 0; round < 3; ++round) {
    lock.run([](const mcl::Lease&, bool) {});
    EXPECT_EQ(kept.size(), 1U);
    EXPECT_FALSE(mcl::Lock(client, "key").try_lock());
    kept.clear();
    EXPECT_TRUE(mcl::Lock(client, "key").try_lock());
  }
}

struct Immovable {
  explicit Immovable(int number) : value(number) { ++alive; }
  ~Immovable() { --alive; }
  Immovable(Immovable&&) = delete;
  int value;
  static inline int alive = 0;
};

TEST(Decorated, WhatCannotBeMovedIsReturned) {
  const LocalServer server;
  const mcl::MemcachedClient client(server.address());
  const auto key = [](int) { return "key"; };
  const auto make = [](int value) { return Immovable(value); };
  EXPECT_EQ(mcl::with_lock(client, key, make)(1).value, 1);
  EXPECT_EQ(mcl::with_rlock(client, key, make)(2).value, 2);
  EXPECT_EQ(mcl::with_zlock<Conflict>(client, key, make)(3).value, 3);
  EXPECT_EQ(mcl::with_lockable([&](const std::string& name) { return mcl::Lock(client, name); },
                               key, make)(4)
                .value,
            4);
  EXPECT_THROW(mcl::with_lock(client, key,
                              [&](int value) {
                                server.ask("delete memcachedlock:key");
                                return Immovable(value);
                              })(5),
               mcl::LeaseLost);
  EXPECT_TRUE(mcl::Lock(client, "key").try_lock());
}

// Fault: an observer uses the client during the notification of the first contact with a server.
TEST(Decorated, AnObserverMayAskWhileItIsTold) {
  struct Curious : mcl::Observer {
    void on_event(const mcl::Event& event) override { look(event.kind); }
    void on_round_trip(std::string_view, std::chrono::nanoseconds) override {
      look(mcl::EventKind::extended);
    }
    void look(mcl::EventKind) {
      thread_local bool inside = false;
      if (inside || !client) return;
      inside = true;
      (void)mcl::Lock(*client, "looked", {.timeout = 300ms}).try_lock();
      inside = false;
    }
    std::optional<mcl::MemcachedClient> client;
  };
  LocalServer server;
  const auto curious = std::make_shared<Curious>();
  const mcl::MemcachedClient client(server.address(),
                                    {.restart_window = 0ms, .connections = 2, .observer = curious});
  curious->client = client;
  mcl::Lock lock(client, "key", {.timeout = 300ms, .renew = true});
  lock.lock();
  server.stop();
  server.start();
  EXPECT_EQ(lock.release(), mcl::Release::lost);
  lock.lock();
  EXPECT_EQ(lock.release(), mcl::Release::released);
  curious->client.reset();
}

}  // namespace
