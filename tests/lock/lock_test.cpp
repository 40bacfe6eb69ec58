// Lock: acquire, release, lease, fencing token, waiting.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "memcachedlock/inspect.hpp"
#include "memcachedlock/memcachedlock.hpp"
#include "support/between_processes.hpp"
#include "support/local_server.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

struct Setting {
  const char* name;
  mcl::Protocol protocol;
  LocalServer::Listen listen;
  int servers;
};

/// Over both protocols, TCP and Unix socket, one and three servers.
class EveryLock : public testing::TestWithParam<Setting> {
 protected:
  EveryLock() {
    std::string list;
    for (int i = 0; i < GetParam().servers; ++i) {
      servers.push_back(
          std::make_unique<LocalServer>(std::vector<std::string>{}, GetParam().listen));
      list += (list.empty() ? "" : ", ") + servers.back()->address();
    }
    options.protocol = GetParam().protocol;
    options.observer = recorder;
    addresses = list;
  }
  [[nodiscard]] mcl::MemcachedClient client() const {
    return mcl::MemcachedClient(addresses, options);
  }

  std::vector<std::unique_ptr<LocalServer>> servers;
  std::string addresses;
  mcl::ClientOptions options;
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
};

TEST_P(EveryLock, KeepsOthersOutUntilItIsReleased) {
  mcl::Lock first(client(), "key");
  mcl::Lock second(client(), "key");
  first.lock();
  EXPECT_TRUE(first.owns_lock());
  EXPECT_FALSE(second.try_lock());
  EXPECT_EQ(first.release(), mcl::Release::released);
  EXPECT_FALSE(first.owns_lock());
  EXPECT_TRUE(second.try_lock());
}

TEST_P(EveryLock, FencingTokensRise) {
  mcl::FencingToken last;
  for (int i = 0; i < 20; ++i) {
    mcl::Lock lock(client(), "key");
    lock.lock();
    EXPECT_LT(last, lock.fencing_token());
    EXPECT_LT(last.to_string(), lock.fencing_token().to_string());
    EXPECT_EQ(lock.fencing_token().to_string().size(), 33U);
    last = lock.fencing_token();
  }
}

TEST_P(EveryLock, ExtendRenewsTheWholeLease) {
  mcl::Lock lock(client(), "key", {.timeout = 5s});
  lock.lock();
  const auto token = lock.fencing_token();
  ASSERT_TRUE(eventually([&] { return lock.remaining() < 4900ms; }));
  EXPECT_TRUE(lock.extend());
  EXPECT_GT(lock.remaining(), 4s);
  EXPECT_EQ(lock.fencing_token(), token);
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

TEST_P(EveryLock, ReleaseAfterExpiryLeavesTheNextHolderAlone) {
  mcl::Lock first(client(), "key", {.timeout = 100ms});
  mcl::Lock second(client(), "key");
  first.lock();
  second.lock();  // once memcached has expired it
  EXPECT_FALSE(first.owns_lock());
  EXPECT_EQ(first.release(), mcl::Release::lost);
  EXPECT_TRUE(second.owns_lock());
  EXPECT_EQ(second.release(), mcl::Release::released);
}

TEST_P(EveryLock, ExtendAfterLossIsFalse) {
  mcl::Lock first(client(), "key", {.timeout = 50ms});
  first.lock();
  ASSERT_TRUE(eventually([&] { return !first.owns_lock(); }));
  EXPECT_FALSE(first.extend());
  EXPECT_EQ(recorder->count(mcl::EventKind::lost), 1);
  EXPECT_EQ(first.release(), mcl::Release::lost);
  EXPECT_EQ(recorder->count(mcl::EventKind::lost), 1);
}

TEST_P(EveryLock, LostIsStoppedBeforeTheLeaseRunsOut) {
  // In time at least once: a stop that came with the end of the lease would never be.
  bool in_time = false;
  for (int tries = 0; tries < 20 && !in_time; ++tries) {
    mcl::Lock lock(client(), "key", {.timeout = 400ms});
    const auto end = std::chrono::steady_clock::now() + 400ms;
    lock.lock();
    std::atomic<bool> stopped_in_time{false};
    std::atomic<bool> stopped{false};
    // A lock is one thread's; what other threads ask is its lease.
    const std::stop_callback told(lock.lost(), [&, lease = lock.lease()] {
      EXPECT_FALSE(lease.owns_lock());
      stopped_in_time = std::chrono::steady_clock::now() < end;
      stopped = true;
    });
    ASSERT_TRUE(eventually([&] { return stopped.load(); }));
    in_time = stopped_in_time;
    EXPECT_TRUE(lock.lost().stop_requested());
    EXPECT_FALSE(lock.owns_lock());
    EXPECT_EQ(lock.release(), mcl::Release::lost);
  }
  EXPECT_TRUE(in_time);
}

TEST_P(EveryLock, RenewalKeepsItPastItsTimeout) {
  mcl::Lock lock(client(), "key", {.timeout = 500ms, .renew = true});
  lock.lock();
  const auto lost = lock.lost();
  ASSERT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::extended) >= 6; }));
  EXPECT_FALSE(lost.stop_requested());
  mcl::Lock other(client(), "key");
  EXPECT_FALSE(other.try_lock());
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

TEST_P(EveryLock, RenewalLearnsThatTheItemIsGone) {
  mcl::Lock lock(client(), "key", {.timeout = 600ms, .renew = true});
  lock.lock();
  const auto lost = lock.lost();
  for (const auto& server : servers) server->ask("flush_all");
  EXPECT_TRUE(eventually([&] { return lost.stop_requested(); }));
  EXPECT_EQ(lock.release(), mcl::Release::lost);
}

TEST_P(EveryLock, WaitsCanBeTimed) {
  mcl::Lock first(client(), "key");
  mcl::Lock second(client(), "key");
  first.lock();
  EXPECT_FALSE(second.try_lock_for(30ms));
  EXPECT_FALSE(second.try_lock_until(std::chrono::system_clock::now() + 20ms));
  EXPECT_FALSE(second.try_lock_for(-1h));
  first.unlock();
  EXPECT_TRUE(second.try_lock_for(std::chrono::hours::max()));
}

TEST_P(EveryLock, WaitsCanBeCancelled) {
  mcl::Lock first(client(), "key");
  first.lock();
  std::stop_source stop;
  std::atomic<bool> cancelled{false};
  std::thread waiter([&] {
    mcl::Lock second(client(), "key", {.interval = 1h});
    try {
      second.lock(stop.get_token());
    } catch (const mcl::Cancelled&) {
      cancelled = true;
    }
  });
  ASSERT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) == 1; }));
  stop.request_stop();
  waiter.join();
  EXPECT_TRUE(cancelled);
}

TEST_P(EveryLock, LockingTwiceIsADeadlockError) {
  mcl::Lock lock(client(), "key");
  lock.lock();
  try {
    lock.lock();
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::errc::resource_deadlock_would_occur);
  }
  EXPECT_TRUE(lock.owns_lock());
}

TEST_P(EveryLock, ReleasingWhatIsNotHeldIsAnError) {
  mcl::Lock lock(client(), "key");
  EXPECT_THROW((void)lock.release(), std::system_error);
  EXPECT_THROW((void)lock.extend(), std::system_error);
  lock.unlock();  // never throws; the observer is told
  EXPECT_EQ(recorder->count(mcl::EventKind::misused), 1);
  EXPECT_EQ(recorder->count(mcl::EventKind::unavailable), 0);
}

TEST_P(EveryLock, StandardGuardsWork) {
  mcl::Lock a(client(), "a");
  mcl::Lock b(client(), "b");
  mcl::Lock c(client(), "c");
  {
    const std::scoped_lock all(a, b, c);
    EXPECT_TRUE(a.owns_lock() && b.owns_lock() && c.owns_lock());
  }
  {
    const std::lock_guard guard(a);
    EXPECT_TRUE(a.owns_lock());
  }
  std::unique_lock<mcl::Lock> later(a, std::defer_lock);
  EXPECT_TRUE(later.try_lock_for(1s));
  later.unlock();
  EXPECT_FALSE(a.owns_lock() || b.owns_lock() || c.owns_lock());
}

TEST_P(EveryLock, DestructorReleases) {
  { mcl::Lock(client(), "key").lock(); }
  EXPECT_TRUE(mcl::Lock(client(), "key").try_lock());
}

TEST_P(EveryLock, MovingKeepsTheHolding) {
  mcl::Lock first(client(), "key");
  first.lock();
  mcl::Lock second(std::move(first));
  EXPECT_TRUE(second.owns_lock());
  mcl::Lock third(client(), "other");
  third = std::move(second);
  EXPECT_TRUE(third.owns_lock());
  EXPECT_EQ(third.release(), mcl::Release::released);
}

TEST_P(EveryLock, ExcludesProcesses) {
  constexpr int processes = 4;
  constexpr int rounds = 100;
  const Shared<int> shared;
  *shared = 0;
  std::vector<pid_t> children;
  for (int i = 0; i < processes; ++i) {
    children.push_back(in_child([&] {
      mcl::Lock lock(client(), "counter", {.interval = 5ms});
      for (int round = 0; round < rounds; ++round) {
        const std::lock_guard guard(lock);
        volatile int* counter = &*shared;
        const int before = *counter;
        std::this_thread::yield();
        *counter = before + 1;
      }
      return true;
    }));
  }
  for (const pid_t child : children) EXPECT_TRUE(ended_well(child));
  EXPECT_EQ(*shared, processes * rounds);
}

TEST_P(EveryLock, AForkedChildHoldsNothing) {
  auto shared = client();
  mcl::Lock lock(shared, "key", {.renew = true});
  lock.lock();
  const pid_t child = in_child([&] {
    if (lock.owns_lock()) return false;
    lock.unlock();
    mcl::Lock other(shared, "other");
    other.lock();
    if (mcl::Lock(shared, "key").try_lock()) return false;
    return other.release() == mcl::Release::released;
  });
  EXPECT_TRUE(ended_well(child));
  EXPECT_TRUE(lock.extend());
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

TEST(ListLocks, ReadsManyInARoundTrip) {
  const LocalServer server;
  mcl::ClientOptions options;
  const auto recorder = std::make_shared<Recorder>();
  options.observer = recorder;
  const mcl::MemcachedClient client(server.address(), options);
  constexpr int many = 100;
  std::vector<mcl::Lock> locks;
  for (int i = 0; i < many; ++i) {
    locks.emplace_back(client, std::to_string(i));
    locks.back().lock();
  }
  const int before = recorder->round_trips();
  const auto found = mcl::list_locks(client, client.servers().front());
  EXPECT_LE(recorder->round_trips() - before, many / 20);
  ASSERT_EQ(found.size(), locks.size());
  for (const mcl::LockStatus& status : found) {
    const int number = std::stoi(status.key);
    ASSERT_LT(number, many);
    const mcl::Lock& lock = locks.at(static_cast<std::size_t>(number));
    EXPECT_EQ(status.token, lock.fencing_token()) << status.key;
  }
}

INSTANTIATE_TEST_SUITE_P(
    , EveryLock,
    testing::Values(Setting{"TextTcp", mcl::Protocol::text, LocalServer::Listen::tcp, 1},
                    Setting{"BinaryTcp", mcl::Protocol::binary, LocalServer::Listen::tcp, 1},
                    Setting{"TextUnix", mcl::Protocol::text, LocalServer::Listen::unix_socket, 1},
                    Setting{"ThreeServers", mcl::Protocol::text, LocalServer::Listen::tcp, 3}),
    [](const auto& setting) { return setting.param.name; });

}  // namespace
