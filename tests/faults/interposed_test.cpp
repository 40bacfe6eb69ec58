// Faults that the system has: no thread can be made, its resolver hangs, the machine sleeps. This
// program takes the place of the functions that it asks.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <ctime>
#include <fstream>
#include <string>
#include <thread>

#include "memcachedlock/memcachedlock.hpp"
#include "support/between_processes.hpp"
#include "support/local_server.hpp"
#include "support/queued.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

std::atomic<int> threads_left{1 << 30};  // so many can be made yet
std::atomic<bool> resolver_hangs{false};
std::atomic<long> slept{0};  // seconds

struct Conflict {};

}  // namespace

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*start)(void*), void* argument) noexcept {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  if (threads_left <= 0) return EAGAIN;
  --threads_left;
  return create(thread, attributes, start, argument);
}

extern "C" int getaddrinfo(const char* name, const char* service, const addrinfo* hints,
                           addrinfo** result) {
  using Ask = int (*)(const char*, const char*, const addrinfo*, addrinfo**);
  static const auto ask = reinterpret_cast<Ask>(dlsym(RTLD_NEXT, "getaddrinfo"));
  while (resolver_hangs && name != nullptr && name == std::string("localhost")) usleep(1'000);
  return ask(name, service, hints, result);
}

extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const long result = syscall(SYS_clock_gettime, clock, time);
  if (clock == CLOCK_MONOTONIC) time->tv_sec -= slept.load();
  return static_cast<int>(result);
}

namespace {

class NoThreads : public testing::TestWithParam<bool> {
 protected:
  ~NoThreads() override { threads_left = 1 << 30; }
  LocalServer server;
  const mcl::MemcachedClient client{server.address()};
};

// Fault: no thread can be made for the renewal, or none at all. Promise: an error of the library,
// nothing stays, and all is well when threads can be made again.
TEST_P(NoThreads, NothingStays) {
  const bool warm = GetParam();
  EXPECT_TRUE(ended_well(in_child([&] {  // in which no thread of the library runs yet
    if (warm) (void)mcl::Lock(client, "warm").try_lock();
    threads_left = 0;
    const mcl::LockOptions renewed{.timeout = 60s, .renew = true};
    int typed = 0;
    const auto attempt = [&](auto&& lock) {
      try {
        lock.lock();
      } catch (const mcl::Unavailable& error) {
        typed += error.key() == "key" && error.server() == server.address() ? 1 : 0;
      }
    };
    attempt(mcl::Lock(client, "key", renewed));
    attempt(mcl::RLock(client, "key", renewed));
    if (!warm) attempt(mcl::Lock(client, "key"));
    mcl::ZLockOptions softly;
    softly.renew = true;
    mcl::ZLock<Conflict> soft(client, "key", softly);
    soft.lock();  // without the lock, as where memcached is gone
    const bool unlocked = !soft.owns_lock();
    soft.unlock();
    threads_left = 1 << 30;
    mcl::Lock again(client, "key", renewed);
    return typed == (warm ? 2 : 3) && unlocked && again.try_lock() && again.owns_lock();
  })));
}
INSTANTIATE_TEST_SUITE_P(, NoThreads, testing::Values(false, true), [](const auto& setting) {
  return setting.param ? "WhereOneRuns" : "WhereNoneRuns";
});

// Fault: a waiter in the queue gives up while memcached hangs and no thread can be made.
TEST_F(NoThreads, GivingUpNeedsNone) {
  mcl::Lock holder(client, "key");
  holder.lock();
  EXPECT_TRUE(ended_well(in_child([&] {
    const mcl::MemcachedClient hasty(server.address(), {.operation_timeout = 300ms});
    mcl::Lock lock(hasty, "key", {.interval = 3s});
    std::thread trouble([&] {
      (void)eventually([&] { return queued(server) == 1; });
      threads_left = 0;
      server.pause();
    });
    try {
      (void)lock.try_lock_for(700ms);
    } catch (const mcl::Error&) {
    }
    trouble.join();
    return true;
  })));
  server.resume();
}

// Fault: the first thread of the library can't be made at first. Promise: requests are cut off
// later.
// Promise: who waited, and is told that it holds the lock, holds it, although no thread can be made
// that would confirm it.
TEST_F(NoThreads, WhoIsToldHoldsAllTheSame) {
  mcl::Lock holder(mcl::MemcachedClient(server.address()), "key");
  holder.lock();
  mcl::RLock lock(client, "key", {.owner = mcl::OwnerId::unique()});
  std::jthread waiter([&] { lock.lock(); });
  EXPECT_TRUE(eventually([&] { return queued(server) == 1; }));
  threads_left = 0;
  EXPECT_EQ(holder.release(), mcl::Release::released);
  waiter.join();
  EXPECT_TRUE(lock.owns_lock());
  EXPECT_GT(lock.remaining(), 10s);  // the whole lease
}

TEST_F(NoThreads, AFirstFailureIsForgotten) {
  EXPECT_TRUE(ended_well(in_child([&] {
    const mcl::MemcachedClient hasty(server.address(), {.operation_timeout = 200ms});
    threads_left = 0;
    try {
      (void)mcl::Lock(hasty, "key").try_lock();
      return false;
    } catch (const mcl::Unavailable&) {
    }
    threads_left = 1 << 30;
    if (!mcl::Lock(hasty, "key").try_lock()) return false;
    mcl::Lock lock(hasty, "key", {.timeout = 1s});
    lock.lock();
    return lock.lost().stop_possible() && eventually([&] { return lock.lost().stop_requested(); });
  })));
}

// Fault: the resolver hangs for the name of one server. Promise: acquires there fail in time,
// and leases on other servers are renewed.
TEST(Resolver, HangsForOneServerAlone) {
  const auto recorder = std::make_shared<Recorder>();
  LocalServer gone;
  const LocalServer well;
  const mcl::MemcachedClient named("localhost:" + std::to_string(gone.port()),
                                   {.connect_timeout = 300ms, .observer = recorder});
  const mcl::MemcachedClient other(well.address());
  mcl::Lock first(named, "key", {.timeout = 1h, .renew = true});
  mcl::Lock second(other, "key", {.timeout = 1s, .renew = true});
  first.lock();
  second.lock();
  const auto lost = second.lost();
  gone.stop();
  resolver_hangs = true;
  EXPECT_EQ(first.release(), mcl::Release::unavailable);
  for (int i = 0; i < 8; ++i) {
    try {
      (void)mcl::Lock(named, "key").try_lock();
      FAIL();
    } catch (const mcl::Unavailable& error) {
      EXPECT_NE(std::string(error.what()).find("localhost"), std::string::npos) << error.what();
    }
  }
  EXPECT_FALSE(lost.stop_requested());
  gone.start();
  resolver_hangs = false;
  EXPECT_TRUE(eventually([&] {
    try {
      return mcl::inspect(named, "key") == std::nullopt;
    } catch (const mcl::Unavailable&) {
      return false;
    }
  }));
  EXPECT_EQ(second.release(), mcl::Release::released);
}

// Fault: the machine sleeps for longer than a lease. Promise: it has run out, and the holder is
// told.
TEST(Sleep, CountsForALease) {
  const LocalServer server;
  const mcl::MemcachedClient client(server.address());
  mcl::Lock lock(client, "key", {.timeout = 2s});
  lock.lock();
  const auto lost = lock.lost();
  // Real time passes, but the clock that stands still while the machine sleeps does not see it.
  ASSERT_TRUE(ended_well(in_child([&] {
    mcl::Lock next(mcl::MemcachedClient(server.address()), "key");
    next.lock();
    return true;
  })));
  slept = 100;
  EXPECT_FALSE(lock.owns_lock());
  EXPECT_EQ(lock.remaining(), 0ms);
  EXPECT_TRUE(lock.lost().stop_requested());
  EXPECT_TRUE(lost.stop_requested());
  slept = 0;
}

}  // namespace
