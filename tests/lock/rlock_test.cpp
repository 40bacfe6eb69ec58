// RLock: entering again, owners, named owners over processes.
#include <gtest/gtest.h>

#include <thread>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

class Reentry : public testing::Test {
 protected:
  Reentry() {
    mcl::ClientOptions options;
    options.observer = recorder;
    client.emplace(server.address(), options);
  }
  /// Commands that the server has counted.
  [[nodiscard]] std::string commands() const {
    const std::string stats = server.ask("stats", "END\r\n");
    const auto field = [&](const std::string& name) {
      const auto start = stats.find("STAT " + name + " ");
      return stats.substr(start, stats.find('\r', start) - start);
    };
    return field("cmd_get") + field("cmd_set");
  }
  LocalServer server;
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  std::optional<mcl::MemcachedClient> client;
};

TEST_F(Reentry, TheSameThreadEntersAgainWithoutACommand) {
  mcl::RLock outer(*client, "key");
  outer.lock();
  const std::string before = commands();
  mcl::RLock inner(*client, "key");
  inner.lock();
  outer.lock();
  EXPECT_TRUE(inner.try_lock());
  EXPECT_EQ(inner.fencing_token(), outer.fencing_token());
  EXPECT_EQ(inner.release(), mcl::Release::released);
  EXPECT_EQ(inner.release(), mcl::Release::released);
  EXPECT_EQ(outer.release(), mcl::Release::released);
  EXPECT_EQ(commands(), before);
  EXPECT_FALSE(mcl::Lock(*client, "key").try_lock());
  EXPECT_EQ(outer.release(), mcl::Release::released);
  EXPECT_TRUE(mcl::Lock(*client, "key").try_lock());
}

TEST_F(Reentry, ClientsOfTheSameServerCountTogether) {
  const mcl::MemcachedClient other(server.address());
  mcl::RLock outer(*client, "key");
  mcl::RLock inner(other, "key");
  outer.lock();
  EXPECT_TRUE(inner.try_lock());
}

TEST_F(Reentry, AnotherThreadStaysOut) {
  mcl::RLock outer(*client, "key");
  outer.lock();
  std::thread([&] { EXPECT_FALSE(mcl::RLock(*client, "key").try_lock()); }).join();
}

TEST_F(Reentry, AnOwnerMayChangeThreads) {
  const mcl::LockOptions options{.owner = mcl::OwnerId::unique()};
  mcl::RLock outer(*client, "key", options);
  outer.lock();
  std::thread([&] { EXPECT_TRUE(mcl::RLock(*client, "key", options).try_lock()); }).join();
  EXPECT_TRUE(outer.owns_lock());
}

TEST_F(Reentry, ANamedOwnerIsSharedBetweenProcesses) {
  const mcl::LockOptions options{.owner = mcl::OwnerId::named("request 1")};
  mcl::RLock here(*client, "key", options);
  here.lock();
  const auto token = here.fencing_token();
  EXPECT_TRUE(ended_well(in_child([&] {
    if (mcl::RLock(*client, "key").try_lock()) return false;
    mcl::RLock there(*client, "key", options);
    if (!there.try_lock() || there.fencing_token() != token) return false;
    return there.release() == mcl::Release::released;
  })));
  EXPECT_TRUE(here.extend());
  EXPECT_EQ(here.release(), mcl::Release::released);
  EXPECT_TRUE(mcl::Lock(*client, "key").try_lock());
}

TEST_F(Reentry, TheLastProcessOfANamedOwnerFreesIt) {
  const mcl::LockOptions options{.owner = mcl::OwnerId::named("request 1")};
  int ready[2];
  int go[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(go), 0);
  mcl::RLock here(*client, "key", options);
  here.lock();
  const pid_t child = in_child([&] {
    mcl::RLock there(*client, "key", options);
    there.lock();
    char byte = 'x';
    if (write(ready[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 1) return false;
    return there.owns_lock() && there.release() == mcl::Release::released;
  });
  char byte = 'x';
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_EQ(here.release(), mcl::Release::released);
  EXPECT_FALSE(mcl::Lock(*client, "key").try_lock());
  ASSERT_EQ(write(go[1], &byte, 1), 1);
  EXPECT_TRUE(ended_well(child));
  EXPECT_TRUE(mcl::Lock(*client, "key").try_lock());
}

TEST_F(Reentry, ALostLeaseIsReportedAtEachDepth) {
  const mcl::LockOptions options{.restart_guard = mcl::RestartGuard::off};
  mcl::RLock outer(*client, "key", options);
  mcl::RLock inner(*client, "key", options);
  outer.lock();
  inner.lock();
  server.ask("flush_all");
  EXPECT_FALSE(outer.extend());
  EXPECT_THROW(lock_once(mcl::RLock(*client, "key", options)), mcl::LeaseLost);
  EXPECT_EQ(inner.release(), mcl::Release::lost);
  EXPECT_EQ(outer.release(), mcl::Release::lost);
  outer.lock();
  EXPECT_EQ(outer.release(), mcl::Release::released);
}

}  // namespace
