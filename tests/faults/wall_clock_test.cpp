// Fault: the wall clock is set a day ahead or a day back while leases are out.
// Promise: leases keep to the steady clock, tokens rise, the restart guard waits as long as usual.
//
// Runs under libfaketime, which reads the offset of this process's wall clock from a file.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <thread>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

/// Of the library that sets the clock of a process. Taken away here: memcached keeps the true time.
const std::string& faketime() {
  static const std::string library = [] {
    const char* preloaded = std::getenv("LD_PRELOAD");
    const std::string value = preloaded != nullptr ? preloaded : "";
    unsetenv("LD_PRELOAD");
    return value;
  }();
  return library;
}

class WallClock : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    ASSERT_NE(faketime(), "");
    ASSERT_NE(std::getenv("FAKETIME_TIMESTAMP_FILE"), nullptr);
    before_ = ahead();
  }
  void TearDown() override { set(0); }
  void set(int seconds) {
    std::ofstream(std::getenv("FAKETIME_TIMESTAMP_FILE")) << std::showpos << seconds << '\n';
    ASSERT_TRUE(eventually([&] {
      return std::chrono::abs(ahead() - before_ - std::chrono::seconds(seconds)) < 1min;
    })) << "the clock could not be set";
  }

 private:
  static std::chrono::nanoseconds ahead() {
    return std::chrono::system_clock::now().time_since_epoch() -
           std::chrono::steady_clock::now().time_since_epoch();
  }
  std::chrono::nanoseconds before_{};
};

TEST_P(WallClock, IsNotWhatLeasesCount) {
  LocalServer server;
  const mcl::MemcachedClient client(server.address());
  const mcl::LockOptions options{.timeout = 1h};
  mcl::Lock lock(client, "key", options);
  lock.lock();
  const auto token = lock.fencing_token();

  set(GetParam());
  EXPECT_TRUE(lock.owns_lock());
  EXPECT_GT(lock.remaining(), 50min);
  EXPECT_TRUE(lock.extend());
  EXPECT_LE(lock.remaining(), 1h);
  mcl::Lock second(client, "key", options);
  EXPECT_FALSE(second.try_lock());
  EXPECT_FALSE(second.try_lock_until(std::chrono::system_clock::now() + 30ms));

  server.stop();
  server.start();
  // The lease from before the restart runs for an hour yet, whatever the wall clock says.
  EXPECT_FALSE(second.try_lock());
  EXPECT_TRUE(lock.owns_lock());
  mcl::Lock unguarded(client, "key", {.timeout = 1h, .restart_guard = mcl::RestartGuard::off});
  ASSERT_TRUE(unguarded.try_lock());
  EXPECT_LT(token, unguarded.fencing_token());
}

/// A server that was started at another time.
class ServersClock : public testing::Test {
 protected:
  static std::unique_ptr<LocalServer> start(const char* time) {
    setenv("LD_PRELOAD", faketime().c_str(), 1);
    setenv("FAKETIME", time, 1);
    auto server = std::make_unique<LocalServer>();
    unsetenv("LD_PRELOAD");
    unsetenv("FAKETIME");
    return server;
  }
  void SetUp() override { ASSERT_NE(faketime(), ""); }
};

// Fault: the clock is past the 31 bits of memcached's text protocol.
// Promise: locks are as good as its TTLs.
TEST_F(ServersClock, MayBePast2038) {
  const auto server = start("@2039-01-01 00:00:00");
  const mcl::MemcachedClient client(server->address());
  const mcl::LockOptions options{.timeout = 1h};
  mcl::Lock lock(client, "key", options);
  EXPECT_TRUE(lock.try_lock());
  EXPECT_TRUE(lock.extend());
  EXPECT_FALSE(mcl::Lock(client, "key", options).try_lock());
  EXPECT_EQ(lock.release(), mcl::Release::released);
  EXPECT_TRUE(lock.try_lock());
}

// Fault: the same; the server can't be told when an item expires, only in how long. Promise: who
// writes a record anew does not shorten the lease of those that are in it.
TEST_F(ServersClock, PastItNoLeaseIsShortenedByAnother) {
  const auto server = start("@2039-01-01 00:00:00");
  const mcl::MemcachedClient client(server->address());
  const auto time_to_live = [&] {
    const std::string answer = server->ask("mg memcachedlock:key t\r\n", "\r\n");
    return answer.starts_with("HD t") ? std::stol(answer.substr(4)) : 0;
  };
  const auto owner = mcl::OwnerId::named("o");
  mcl::RLock holder(client, "key", {.timeout = 1h, .owner = owner});
  holder.lock();
  EXPECT_GT(time_to_live(), 3'000);
  // The members of one owner, from another process as it were.
  const mcl::MemcachedClient other(server->address());
  std::jthread([&] {
    EXPECT_TRUE(mcl::RLock(other, "key", {.timeout = 300ms, .owner = owner}).try_lock());
  }).join();
  EXPECT_GT(time_to_live(), 3'000);
  // One that waits and writes the record anew.
  std::string words;
  for (int i = 0; i < 60; ++i) words += " -nobody.1";
  (void)server->ask("append memcachedlock:key 0 0 " + std::to_string(words.size()) + "\r\n" +
                    words + "\r\n");
  EXPECT_FALSE(mcl::Lock(other, "key", {.timeout = 300ms}).try_lock_for(300ms));
  EXPECT_EQ(server->get("memcachedlock:key").find("nobody"), std::string::npos);
  EXPECT_GT(time_to_live(), 3'000);
  EXPECT_TRUE(holder.extend());
}

// Fault: a clock that was never set. memcached then takes no time for past, and would keep what is
// released. Promise: an error that says so, before anything is stored.
TEST_F(ServersClock, MayNotBeIn1970) {
  const auto server = start("@1970-01-05 00:00:00");
  const mcl::MemcachedClient client(server->address());
  try {
    (void)mcl::Lock(client, "key").try_lock();
    ADD_FAILURE() << "no error";
  } catch (const mcl::ServerError& error) {
    EXPECT_NE(std::string(error.what()).find("1970"), std::string::npos) << error.what();
  }
  EXPECT_EQ(server->get("memcachedlock:key"), "");
}

INSTANTIATE_TEST_SUITE_P(, WallClock, testing::Values(86'400, -86'400), [](const auto& setting) {
  return setting.param > 0 ? "SetForward" : "SetBack";
});

}  // namespace
