// Where a caller's thread sleeps.
#include "waiting/waker.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace memcachedlock::detail {
namespace {

using namespace std::chrono_literals;

TEST(Wakers, LoseNoWakeBeforeTheWait) {
  ThreadWaker waker;
  waker.wake();
  waker.wait_until(Clock::now() + 1h);
  const auto end = Clock::now() + 10ms;
  waker.wait_until(end);  // that wake is used up
  EXPECT_GE(Clock::now(), end);
}

TEST(Wakers, WakeAnotherThread) {
  ThreadWaker waker;
  std::thread sleeper([&] { waker.wait_until(Clock::now() + 1h); });
  waker.wake();
  sleeper.join();
}

TEST(Wakers, ReturnAtOnceWhenTheTimeHasCome) {
  ThreadWaker waker;
  waker.wait_until(Clock::now() - 1h);
  waker.wait_until(Clock::time_point::min());
}

}  // namespace
}  // namespace memcachedlock::detail
