// Fault: the wall clock is set a day ahead or a day back while leases are out.
// Promise: leases keep to the steady clock, tokens rise, the restart guard waits as long as ever.
//
// Runs under libfaketime, which reads the offset of this process's wall clock from a file.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "local_server.hpp"
#include "memcachedlock/memcachedlock.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

class WallClock : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    unsetenv("LD_PRELOAD");  // memcached keeps the true time
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

INSTANTIATE_TEST_SUITE_P(, WallClock, testing::Values(86'400, -86'400), [](const auto& setting) {
  return setting.param > 0 ? "SetForward" : "SetBack";
});

}  // namespace
