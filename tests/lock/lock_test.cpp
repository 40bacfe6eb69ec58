// Acquire, release, lease, fencing token, waiting: what all three lock types promise.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "memcachedlock/inspect.hpp"
#include "memcachedlock/memcachedlock.hpp"
#include "support/between_processes.hpp"
#include "support/local_server.hpp"
#include "support/lock_types.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

struct TextTcp {
  static constexpr auto protocol = mcl::Protocol::text;
  static constexpr auto listen = LocalServer::Listen::tcp;
  static constexpr int servers = 1;
};
struct BinaryTcp : TextTcp {
  static constexpr auto protocol = mcl::Protocol::binary;
};
struct TextUnix : TextTcp {
  static constexpr auto listen = LocalServer::Listen::unix_socket;
};
struct ThreeServers : TextTcp {
  static constexpr int servers = 3;
};

template <class AnyLock, class AnyTransport>
struct Over {
  using LockType = AnyLock;
  using Transport = AnyTransport;
};

/// What all three types promise, over both protocols, TCP and Unix socket, one and three servers.
template <class Setting>
class EveryLock : public testing::Test {
 protected:
  using AnyLock = typename Setting::LockType;
  using Options = typename OptionsOf<AnyLock>::Type;
  static constexpr bool reenters = reenters_v<AnyLock>;

  EveryLock() {
    using Transport = typename Setting::Transport;
    for (int i = 0; i < Transport::servers; ++i) {
      servers.push_back(
          std::make_unique<LocalServer>(std::vector<std::string>{}, Transport::listen));
      addresses += (addresses.empty() ? "" : ", ") + servers.back()->address();
    }
    options.protocol = Transport::protocol;
    options.observer = recorder;
  }
  [[nodiscard]] mcl::MemcachedClient client() const {
    return mcl::MemcachedClient(addresses, options);
  }
  /// One whose owner is none of the others'.
  [[nodiscard]] AnyLock make(std::string_view key, Options lock_options = {}) const {
    lock_options.owner = mcl::OwnerId::unique();
    if constexpr (requires { lock_options.reservation; }) {
      lock_options.reservation = std::min(lock_options.reservation, lock_options.timeout);
    }
    return AnyLock(client(), key, lock_options);
  }

  std::vector<std::unique_ptr<LocalServer>> servers;
  std::string addresses;
  mcl::ClientOptions options;
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
};

using ZLock = mcl::ZLock<Conflict>;
using Settings =
    testing::Types<Over<mcl::Lock, TextTcp>, Over<mcl::Lock, BinaryTcp>, Over<mcl::Lock, TextUnix>,
                   Over<mcl::Lock, ThreeServers>, Over<mcl::RLock, TextTcp>,
                   Over<mcl::RLock, BinaryTcp>, Over<ZLock, TextTcp>, Over<ZLock, ThreeServers>>;
struct SettingNames {
  template <class Setting>
  static std::string GetName(int /*index*/) {
    using AnyLock = typename Setting::LockType;
    using Transport = typename Setting::Transport;
    const std::string lock = std::is_same_v<AnyLock, mcl::Lock>    ? "Lock"
                             : std::is_same_v<AnyLock, mcl::RLock> ? "RLock"
                                                                   : "ZLock";
    const std::string transport = std::is_same_v<Transport, TextTcp>     ? "TextTcp"
                                  : std::is_same_v<Transport, BinaryTcp> ? "BinaryTcp"
                                  : std::is_same_v<Transport, TextUnix>  ? "TextUnix"
                                                                         : "ThreeServers";
    return lock + transport;
  }
};
TYPED_TEST_SUITE(EveryLock, Settings, SettingNames);

TYPED_TEST(EveryLock, KeepsOthersOutUntilItIsReleased) {
  auto first = this->make("key");
  auto second = this->make("key");
  first.lock();
  EXPECT_TRUE(first.owns_lock());
  EXPECT_FALSE(second.try_lock());
  EXPECT_EQ(first.release(), mcl::Release::released);
  EXPECT_FALSE(first.owns_lock());
  EXPECT_TRUE(second.try_lock());
}

TYPED_TEST(EveryLock, FencingTokensRise) {
  mcl::FencingToken last;
  for (int i = 0; i < 20; ++i) {
    auto lock = this->make("key");
    lock.lock();
    EXPECT_LT(last, lock.fencing_token());
    EXPECT_LT(last.to_string(), lock.fencing_token().to_string());
    EXPECT_EQ(lock.fencing_token().to_string().size(), 33U);
    last = lock.fencing_token();
  }
}

TYPED_TEST(EveryLock, ExtendRenewsTheWholeLease) {
  auto lock = this->make("key", {.timeout = 5s});
  lock.lock();
  const auto token = lock.fencing_token();
  ASSERT_TRUE(eventually([&] { return lock.remaining() < 4900ms; }));
  EXPECT_TRUE(lock.extend());
  EXPECT_GT(lock.remaining(), 4s);
  EXPECT_EQ(lock.fencing_token(), token);
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

TYPED_TEST(EveryLock, ReleaseAfterExpiryLeavesTheNextHolderAlone) {
  auto first = this->make("key", {.timeout = 100ms});
  auto second = this->make("key");
  first.lock();
  second.lock();  // once memcached has expired it
  EXPECT_FALSE(first.owns_lock());
  EXPECT_EQ(first.release(), mcl::Release::lost);
  EXPECT_TRUE(second.owns_lock());
  EXPECT_EQ(second.release(), mcl::Release::released);
}

TYPED_TEST(EveryLock, ExtendAfterLossIsFalse) {
  auto first = this->make("key", {.timeout = 50ms});
  first.lock();
  ASSERT_TRUE(eventually([&] { return !first.owns_lock(); }));
  EXPECT_FALSE(first.extend());
  EXPECT_EQ(this->recorder->count(mcl::EventKind::lost), 1);
  EXPECT_EQ(first.release(), mcl::Release::lost);
  EXPECT_EQ(this->recorder->count(mcl::EventKind::lost), 1);
}

TYPED_TEST(EveryLock, LostIsStoppedBeforeTheLeaseRunsOut) {
  // In time at least once: a stop that came with the end of the lease would never be.
  bool in_time = false;
  for (int tries = 0; tries < 20 && !in_time; ++tries) {
    auto lock = this->make("key", {.timeout = 400ms});
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

TYPED_TEST(EveryLock, RenewalKeepsItPastItsTimeout) {
  auto lock = this->make("key", {.timeout = 500ms, .renew = true});
  lock.lock();
  const auto lost = lock.lost();
  ASSERT_TRUE(eventually([&] { return this->recorder->count(mcl::EventKind::extended) >= 6; }));
  EXPECT_FALSE(lost.stop_requested());
  auto other = this->make("key");
  EXPECT_FALSE(other.try_lock());
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

TYPED_TEST(EveryLock, RenewalLearnsThatTheItemIsGone) {
  auto lock = this->make("key", {.timeout = 600ms, .renew = true});
  lock.lock();
  const auto lost = lock.lost();
  for (const auto& server : this->servers) server->ask("flush_all");
  EXPECT_TRUE(eventually([&] { return lost.stop_requested(); }));
  EXPECT_EQ(lock.release(), mcl::Release::lost);
}

TYPED_TEST(EveryLock, WaitsCanBeTimed) {
  auto first = this->make("key");
  auto second = this->make("key");
  first.lock();
  EXPECT_FALSE(second.try_lock_for(30ms));
  EXPECT_FALSE(second.try_lock_until(std::chrono::system_clock::now() + 20ms));
  EXPECT_FALSE(second.try_lock_for(-1h));
  first.unlock();
  EXPECT_TRUE(second.try_lock_for(std::chrono::hours::max()));
}

TYPED_TEST(EveryLock, WaitsCanBeCancelled) {
  auto first = this->make("key");
  first.lock();
  std::stop_source stop;
  std::atomic<bool> cancelled{false};
  std::thread waiter([&] {
    auto second = this->make("key", {.interval = 1h});
    try {
      second.lock(stop.get_token());
    } catch (const mcl::Cancelled&) {
      cancelled = true;
    }
  });
  ASSERT_TRUE(eventually([&] { return this->recorder->count(mcl::EventKind::contended) == 1; }));
  stop.request_stop();
  waiter.join();
  EXPECT_TRUE(cancelled);
}

TYPED_TEST(EveryLock, LockingTwiceIsADeadlockErrorOrAnEntry) {
  auto lock = this->make("key");
  lock.lock();
  try {
    lock.lock();
    EXPECT_TRUE(TestFixture::reenters);
    lock.unlock();
  } catch (const std::system_error& error) {
    EXPECT_FALSE(TestFixture::reenters);
    EXPECT_EQ(error.code(), std::errc::resource_deadlock_would_occur);
  }
  EXPECT_TRUE(lock.owns_lock());
}

TYPED_TEST(EveryLock, ReleasingWhatIsNotHeldIsAnError) {
  auto lock = this->make("key");
  EXPECT_THROW((void)lock.release(), std::system_error);
  EXPECT_THROW((void)lock.extend(), std::system_error);
  lock.unlock();  // never throws; the observer is told
  EXPECT_EQ(this->recorder->count(mcl::EventKind::misused), 1);
  EXPECT_EQ(this->recorder->count(mcl::EventKind::unavailable), 0);
}

TYPED_TEST(EveryLock, StandardGuardsWork) {
  auto a = this->make("a");
  auto b = this->make("b");
  auto c = this->make("c");
  {
    const std::scoped_lock all(a, b, c);
    EXPECT_TRUE(a.owns_lock() && b.owns_lock() && c.owns_lock());
  }
  {
    const std::lock_guard guard(a);
    EXPECT_TRUE(a.owns_lock());
  }
  std::unique_lock later(a, std::defer_lock);
  EXPECT_TRUE(later.try_lock_for(1s));
  later.unlock();
  EXPECT_FALSE(a.owns_lock() || b.owns_lock() || c.owns_lock());
}

TYPED_TEST(EveryLock, DestructorReleases) {
  {
    auto lock = this->make("key");
    lock.lock();
  }
  EXPECT_TRUE(this->make("key").try_lock());
}

TYPED_TEST(EveryLock, MovingKeepsTheHolding) {
  auto first = this->make("key");
  first.lock();
  auto second(std::move(first));
  EXPECT_TRUE(second.owns_lock());
  auto third = this->make("other");
  third = std::move(second);
  EXPECT_TRUE(third.owns_lock());
  EXPECT_EQ(third.release(), mcl::Release::released);
}

TYPED_TEST(EveryLock, ExcludesProcesses) {
  constexpr int processes = 4;
  constexpr int rounds = 100;
  const Shared<int> shared;
  *shared = 0;
  std::vector<pid_t> children;
  for (int i = 0; i < processes; ++i) {
    children.push_back(in_child([&] {
      auto lock = this->make("counter", {.interval = 5ms});
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

TYPED_TEST(EveryLock, AForkedChildHoldsNothing) {
  const auto shared = this->client();
  typename TestFixture::AnyLock lock(shared, "key", {.renew = true});
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

}  // namespace
