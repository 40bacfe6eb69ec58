// What a lock costs beside its requests: allocations, in the steady state.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <new>
#include <stop_token>
#include <thread>

#include "memcachedlock/memcachedlock.hpp"
#include "support/between_processes.hpp"
#include "support/local_server.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

std::atomic<int> allocated{0};
thread_local int until_failure = 0;  // 0: none fails

}  // namespace

// NOLINTBEGIN(*-avoid-malloc)
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocated;
  if (until_failure > 0 && --until_failure == 0) throw std::bad_alloc();
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
// NOLINTEND(*-avoid-malloc)

namespace {

/// The least of several: what the process does besides must not count.
int allocations(const std::function<void()>& action) {
  int least = 1'000'000;
  for (int i = 0; i < 20; ++i) {
    const int before = allocated;
    action();
    least = std::min(least, allocated - before);
  }
  return least;
}

void lock_once_more(mcl::BasicLock& lock) {
  lock.lock();
  lock.unlock();
}

class Cost : public testing::TestWithParam<mcl::Protocol> {
 protected:
  LocalServer server;
  const mcl::MemcachedClient client{server.address(), {.protocol = GetParam()}};
};

TEST_P(Cost, AnAcquireAndItsReleaseAllocateTwice) {
  mcl::Lock lock(client, "key");
  lock_once_more(lock);
  EXPECT_LE(allocations([&] { lock_once_more(lock); }), 2);
}

// All locks of the process share what finds the waiters of one.
TEST_P(Cost, NoMoreWhileThreadsWaitForAnother) {
  const auto recorder = std::make_shared<Recorder>();
  const mcl::MemcachedClient watched(server.address(), {.observer = recorder});
  mcl::Lock other(watched, "other");
  other.lock();
  std::jthread waiter([&](const std::stop_token& stop) {
    mcl::Lock same(watched, "other");
    EXPECT_THROW(same.lock(stop), mcl::Cancelled);
  });
  ASSERT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) == 1; }));
  mcl::Lock lock(client, "key");
  lock_once_more(lock);
  EXPECT_LE(allocations([&] { lock_once_more(lock); }), 2);
}

TEST_P(Cost, EnteringAgainAllocatesNothing) {
  mcl::RLock outer(client, "key");
  mcl::RLock inner(client, "key");
  outer.lock();
  EXPECT_EQ(allocations([&] { lock_once_more(inner); }), 0);
}

// Fault: memory runs out at any allocation of an acquire. Promise: nothing stays that others would
// wait for, and what says that it is held is.
TEST_P(Cost, WithoutMemoryNothingStays) {
  const mcl::LockOptions options{
      .timeout = 1h, .renew = true, .owner = mcl::OwnerId::named("an owner with a long name")};
  int failed = 0;
  bool through = false;
  for (int at = 1; !through; ++at) {
    mcl::RLock lock(client, "key", options);
    until_failure = at;
    try {
      lock.lock();
      through = until_failure > 0;  // that many there were not
    } catch (const std::bad_alloc&) {
      ++failed;
      until_failure = 0;
      EXPECT_FALSE(lock.owns_lock()) << at;
    } catch (const mcl::Unavailable&) {  // libmemcached had none
      until_failure = 0;
    }
    until_failure = 0;
    if (lock.owns_lock()) {
      EXPECT_EQ(lock.release(), mcl::Release::released);
    }
    EXPECT_TRUE(eventually([&] { return server.get("memcachedlock:key").empty(); })) << at;
  }
  EXPECT_GT(failed, 10);
}

// Fault: memory runs out while an owner enters again. Promise: it counts as one that did not.
TEST_P(Cost, EnteringAgainWithoutMemoryCountsNothing) {
  const mcl::LockOptions options{.timeout = 1h,
                                 .owner = mcl::OwnerId::named("an owner with a long name")};
  int failed = 0;
  bool through = false;
  for (int at = 1; !through; ++at) {
    mcl::RLock outer(client, "key", options);
    mcl::RLock inner(client, "key", options);
    outer.lock();
    until_failure = at;
    try {
      inner.lock();
      through = until_failure > 0;
    } catch (const std::bad_alloc&) {
      ++failed;
    }
    until_failure = 0;
    EXPECT_EQ(inner.owns_lock(), through) << at;
    if (inner.owns_lock()) {
      EXPECT_EQ(inner.release(), mcl::Release::released);
    }
    EXPECT_EQ(outer.release(), mcl::Release::released);
    EXPECT_EQ(server.get("memcachedlock:key"), "") << at;
  }
  EXPECT_GT(failed, 0);
}

INSTANTIATE_TEST_SUITE_P(, Cost, testing::Values(mcl::Protocol::text, mcl::Protocol::binary),
                         [](const auto& protocol) {
                           return protocol.param == mcl::Protocol::text ? "Text" : "Binary";
                         });

}  // namespace
