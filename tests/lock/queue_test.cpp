// Waiting in turn: in one process, and between processes.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <mutex>
#include <thread>

#include "memcachedlock/memcachedlock.hpp"
#include "support/between_processes.hpp"
#include "support/fault_proxy.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"
#include "support/queued.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

class Queue : public testing::TestWithParam<mcl::Protocol> {
 protected:
  Queue() {
    options.protocol = GetParam();
    options.observer = recorder;
  }
  [[nodiscard]] mcl::MemcachedClient client() const {
    return mcl::MemcachedClient(server.address(), options);
  }
  /// How many stand in the queue of the record.
  [[nodiscard]] int queued() const { return ::queued(server); }
  bool waits_for(int places) const {
    return eventually([&] { return queued() == places; });
  }
  bool wait_for_contended(int count) const {
    return eventually([&] { return recorder->count(mcl::EventKind::contended) >= count; });
  }
  [[nodiscard]] long commands() const { return server.counted({"cmd_get", "cmd_set"}); }
  /// So many that do not line up with the threads of their process; each that gets in is counted.
  static std::vector<std::jthread> strangers(int count, const mcl::MemcachedClient& client,
                                             const mcl::LockOptions& lock_options,
                                             std::atomic<int>& got) {
    std::vector<std::jthread> waiters;
    for (int i = 0; i < count; ++i) {
      waiters.emplace_back([=, &got] {
        mcl::LockOptions mine = lock_options;
        mine.owner = mcl::OwnerId::unique();
        mcl::RLock lock(client, "key", mine);
        lock.lock();
        ++got;
      });
    }
    return waiters;
  }
  LocalServer server;
  mcl::ClientOptions options;
  mcl::LockOptions fair;
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
};

TEST_P(Queue, ThreadsComeInTheirOrderAndOnlyOneAsks) {
  constexpr int threads = 20;
  const auto shared = client();
  mcl::Lock holder(shared, "key");
  holder.lock();
  std::vector<int> order;
  std::vector<mcl::FencingToken> tokens{holder.fencing_token()};
  std::vector<std::jthread> waiters;
  for (int i = 0; i < threads; ++i) {
    waiters.emplace_back([&, i] {
      mcl::Lock lock(shared, "key", {.interval = 1h});
      lock.lock();
      order.push_back(i);
      tokens.push_back(lock.fencing_token());
      EXPECT_EQ(lock.release(), mcl::Release::released);
    });
    ASSERT_TRUE(wait_for_contended(i + 1));
  }
  const long before = commands();
  EXPECT_EQ(holder.release(), mcl::Release::released);
  waiters.clear();
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_TRUE(std::is_sorted(tokens.begin(), tokens.end()));
  EXPECT_EQ(std::adjacent_find(tokens.begin(), tokens.end()), tokens.end());
  // A hand-over is a `cas` and a `gets` of two keys; the first thread may have asked once more.
  EXPECT_LE(commands() - before, 3 * threads + 10);
  EXPECT_EQ(server.get("memcachedlock:key"), "");
}

TEST_P(Queue, OneWhoGivesUpLeavesItAtOnce) {
  const auto shared = client();
  mcl::Lock holder(shared, "key");
  holder.lock();
  std::stop_source stop;
  std::jthread cancelled([&] {
    mcl::Lock lock(shared, "key", {.interval = 1h});
    EXPECT_THROW(lock.lock(stop.get_token()), mcl::Cancelled);
  });
  ASSERT_TRUE(wait_for_contended(1));
  std::jthread timed([&] {
    mcl::Lock lock(shared, "key", {.interval = 1h});
    EXPECT_FALSE(lock.try_lock_for(20ms));
  });
  ASSERT_TRUE(wait_for_contended(2));
  std::atomic<bool> got{false};
  std::jthread last([&] {
    mcl::Lock lock(shared, "key", {.interval = 1h});
    lock.lock();
    got = true;
  });
  ASSERT_TRUE(wait_for_contended(3));
  timed.join();
  stop.request_stop();
  cancelled.join();
  EXPECT_FALSE(got);
  EXPECT_EQ(holder.release(), mcl::Release::released);
  last.join();
  EXPECT_TRUE(got);
}

TEST_P(Queue, KeysDoNotWaitForEachOther) {
  const auto shared = client();
  mcl::Lock holder(shared, "key");
  holder.lock();
  std::jthread waiter([&] { lock_once(mcl::Lock(shared, "key", {.interval = 1h})); });
  ASSERT_TRUE(wait_for_contended(1));
  EXPECT_TRUE(mcl::Lock(shared, "other").try_lock());
  holder.unlock();
}

// The holder's client and the waiter's are not the same: nor are their options.
TEST_P(Queue, HandsOverBetweenClients) {
  mcl::Lock holder(client(), "key");
  holder.lock();
  std::jthread waiter([&] {
    mcl::Lock lock(client(), "key", {.timeout = 3s, .interval = 1h});
    lock.lock();
    EXPECT_LE(lock.remaining(), 3s);
    EXPECT_TRUE(lock.extend());
    EXPECT_EQ(lock.release(), mcl::Release::released);
  });
  ASSERT_TRUE(wait_for_contended(1));
  EXPECT_EQ(holder.release(), mcl::Release::released);
}

// Fault: the holder's lease is lost while others of its process wait. Promise: they get the lock.
TEST_P(Queue, AHolderThatLosesItLeavesItToTheNext) {
  const auto shared = client();
  mcl::Lock holder(shared, "key", {.timeout = 300ms});
  holder.lock();
  std::jthread waiter([&] {
    mcl::Lock lock(shared, "key");
    lock.lock();
    EXPECT_FALSE(holder.lease().owns_lock());
  });
  waiter.join();
  EXPECT_EQ(holder.release(), mcl::Release::lost);
}

// Fault: memcached is gone when the holder hands over. Promise: nobody hangs.
TEST_P(Queue, AHandOverThatFailsIsToldToBoth) {
  options.operation_timeout = 200ms;
  const auto shared = client();
  mcl::Lock holder(shared, "key");
  holder.lock();
  std::jthread waiter([&] {
    mcl::Lock lock(shared, "key", {.interval = 1h});
    EXPECT_THROW(lock.lock(), mcl::Unavailable);
  });
  ASSERT_TRUE(wait_for_contended(1));
  server.stop();
  EXPECT_EQ(holder.release(), mcl::Release::unavailable);
  waiter.join();
  server.start();
}

/// Mends the network as soon as it is notified of the failure.
class Mender : public mcl::Observer {
 public:
  explicit Mender(FaultProxy& proxy) : proxy_(proxy) {}
  void on_event(const mcl::Event& event) override {
    if (event.kind == mcl::EventKind::unavailable) proxy_.heal();
  }

 private:
  FaultProxy& proxy_;
};

// Fault: the request that hands the lock over lands, but is not answered. Promise: what is cleared
// away afterwards is not what the next then holds.
TEST_P(Queue, AHandOverWithoutAnswerTakesNothingFromTheNext) {
  FaultProxy proxy(server.port());
  const auto mender = std::make_shared<Mender>(proxy);
  options.operation_timeout = 100ms;
  options.observer = mender;
  const mcl::MemcachedClient shared(proxy.address(), options);
  mcl::Lock holder(shared, "key");
  holder.lock();
  const long before = commands();
  std::jthread waiter([&] {
    mcl::Lock lock(shared, "key", {.interval = 1h});
    lock.lock();
    mcl::Lock rival(mcl::MemcachedClient(server.address()), "key");
    const auto end = std::chrono::steady_clock::now() + 500ms;
    while (std::chrono::steady_clock::now() < end) {
      ASSERT_FALSE(rival.try_lock() && lock.owns_lock()) << "two holders";
    }
    EXPECT_EQ(lock.release(), mcl::Release::released);
  });
  // It asks twice before it sleeps; the fault is not for that.
  ASSERT_TRUE(eventually([&] { return commands() >= before + 4; }));
  EXPECT_TRUE(mcl::Lock(shared, "other").try_lock());
  proxy.arm({.fault = FaultProxy::Fault::hold_reply});
  EXPECT_EQ(holder.release(), mcl::Release::unavailable);
}

// Fault: the release does not reach the server. Promise: it is freed as soon as possible, and a
// waiter of this process, which waits for its holder to wake it, is woken.
TEST_P(Queue, AReleaseThatDidNotArriveIsMadeUpFor) {
  FaultProxy proxy(server.port());
  const auto mender = std::make_shared<Mender>(proxy);
  options.operation_timeout = 1s;
  options.observer = mender;
  const mcl::MemcachedClient shared(proxy.address(), options);
  mcl::Lock holder(shared, "key", {.timeout = 1h});
  holder.lock();
  const long before = commands();
  std::jthread waiter([&] {
    mcl::Lock lock(shared, "key", {.interval = 1h});
    EXPECT_TRUE(lock.try_lock_for(60s));
  });
  ASSERT_TRUE(eventually([&] { return commands() >= before + 4; }));
  proxy.arm({.fault = FaultProxy::Fault::hold_request});
  EXPECT_EQ(holder.release(), mcl::Release::unavailable);
}

// A record of this process that nobody here knows of: what a release left behind.
TEST_P(Queue, NobodyWaitsLongerThanALeaseForAHolderThatHasGone) {
  mcl::Lock holder(client(), "key", {.timeout = 1s});
  holder.lock();
  const std::string record = server.get("memcachedlock:key");
  EXPECT_EQ(holder.release(), mcl::Release::released);
  server.ask("set memcachedlock:key 0 2 " + std::to_string(record.size()) + "\r\n" + record,
             "\r\n");
  mcl::Lock next(client(), "key", {.interval = 1h});
  EXPECT_TRUE(next.try_lock_for(60s));
}

TEST_P(Queue, ACohortGivesWay) {
  Shared<std::atomic<int>> taken;
  Shared<std::atomic<bool>> done;
  mcl::Lock first(client(), "key", fair);
  first.lock();
  const pid_t crowd = in_child([&] {
    const auto shared = client();
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        while (!*done.operator->()) {
          mcl::Lock lock(shared, "key", fair);
          lock.lock();
          ++*taken.operator->();
        }
      });
    }
    return true;
  });
  ASSERT_TRUE(waits_for(1));
  Signal got;
  const pid_t single = in_child([&] {
    mcl::Lock lock(client(), "key", fair);
    lock.lock();
    got.send();
    // A cohort's bound while others stand in the queue, and as much again for earlier waiters.
    return *taken.operator->() <= 2 * 9;
  });
  ASSERT_TRUE(waits_for(2));
  first.unlock();
  got.wait();
  EXPECT_TRUE(ended_well(single));
  *done.operator->() = true;
  EXPECT_TRUE(ended_well(crowd));
}

TEST_P(Queue, ProcessesComeInTheirOrder) {
  constexpr int processes = 6;
  struct Order {
    std::atomic<int> next{0};
    std::array<std::atomic<int>, processes> who{};
  };
  Shared<Order> order;
  mcl::Lock holder(client(), "key", fair);
  holder.lock();
  std::vector<pid_t> children;
  for (int i = 0; i < processes; ++i) {
    children.push_back(in_child([&] {
      mcl::Lock lock(client(), "key", fair);
      lock.lock();
      order->who[static_cast<std::size_t>(order->next++)] = i;
      return lock.release() == mcl::Release::released;
    }));
    ASSERT_TRUE(waits_for(i + 1));
  }
  EXPECT_EQ(holder.release(), mcl::Release::released);
  for (const pid_t child : children) EXPECT_TRUE(ended_well(child));
  for (int i = 0; i < processes; ++i) EXPECT_EQ(order->who[static_cast<std::size_t>(i)], i);
  EXPECT_EQ(server.get("memcachedlock:key"), "");
}

TEST_P(Queue, ManyProcessesExcludeEachOther) {
  constexpr int processes = 6;
  constexpr int times = 50;
  struct Counter {
    int plain = 0;  // not atomic: the lock must do
    mcl::FencingToken last;
  };
  Shared<Counter> counter;
  std::vector<pid_t> children;
  for (int i = 0; i < processes; ++i) {
    children.push_back(in_child([&] {
      const auto shared = client();
      bool rose = true;
      std::vector<std::jthread> threads;
      for (int t = 0; t < 2; ++t) {
        threads.emplace_back([&] {
          for (int n = 0; n < times; ++n) {
            mcl::Lock lock(shared, "key");
            lock.lock();
            rose = rose && counter->last < lock.fencing_token();
            counter->last = lock.fencing_token();
            ++counter->plain;
          }
        });
      }
      threads.clear();
      return rose;
    }));
  }
  for (const pid_t child : children) EXPECT_TRUE(ended_well(child));
  EXPECT_EQ(counter->plain, processes * times * 2);
}

TEST_P(Queue, AProcessThatIsNewPassesOnHowLongItIsHeld) {
  mcl::Lock lock(client(), "key", fair);
  lock.lock();
  const pid_t waiter = in_child([&] {
    const mcl::MemcachedClient own(server.address(), {.protocol = GetParam()});
    mcl::Lock next(own, "key", fair);
    next.lock();
    return server.get("memcachedlock:key").find(" ~") != std::string::npos;
  });
  EXPECT_TRUE(waits_for(1));
  EXPECT_EQ(lock.release(), mcl::Release::released);
  EXPECT_TRUE(ended_well(waiter));
}

// A waiter that expects a short hold must not ask ever faster during a long one.
TEST_P(Queue, AHolderThatKeepsItLongerThanUsualIsNotAskedForAllTheTime) {
  const auto shared = client();
  mcl::Lock lock(shared, "key", fair);
  for (int i = 0; i < 20; ++i) {  // it is held for an instant
    lock.lock();
    lock.unlock();
  }
  lock.lock();
  std::vector<pid_t> waiters;
  for (int i = 0; i < 3; ++i) {
    waiters.push_back(in_child([&] {
      const mcl::MemcachedClient own(server.address(), {.protocol = GetParam()});
      mcl::Lock next(own, "key", fair);
      next.lock();
      return next.release() == mcl::Release::released;
    }));
  }
  EXPECT_TRUE(waits_for(3));
  const auto began = std::chrono::steady_clock::now();
  const long before = commands();
  std::this_thread::sleep_for(1s);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - began;
  // By then each asks every `interval`, 50 ms; on the way there each pause is a quarter longer.
  EXPECT_LE(static_cast<double>(commands() - before), 3 * (60 + time / 50ms));
  EXPECT_EQ(lock.release(), mcl::Release::released);
  for (const pid_t waiter : waiters) EXPECT_TRUE(ended_well(waiter));
}

// With an `interval` of an hour, the next in line asks every 250 ms at least, and more often at
// first.
TEST_P(Queue, WhoFoundItHeldBeforeItQueuedAsksSoon) {
  mcl::Lock holder(client(), "one that this process has not used", fair);
  holder.lock();
  fair.interval = 1h;
  const auto began = std::chrono::steady_clock::now();
  const long before = commands();
  const pid_t waiter = in_child([&] {
    mcl::Lock next(client(), "one that this process has not used", fair);
    next.lock();
    return next.release() == mcl::Release::released;
  });
  EXPECT_TRUE(eventually([&] {
    constexpr int to_enter = 14;
    return commands() - before > to_enter + (std::chrono::steady_clock::now() - began) / 250ms;
  }));
  EXPECT_EQ(holder.release(), mcl::Release::released);
  EXPECT_TRUE(ended_well(waiter));
}

TEST_P(Queue, WhereOthersComeDuringEachHoldNoReleaseIsRefused) {
  mcl::Lock holder(client(), "key", fair);
  for (int round = 0; round < 5; ++round) {
    holder.lock();
    const pid_t next = in_child([&] {
      mcl::Lock lock(client(), "key", fair);
      lock.lock();
      return lock.release() == mcl::Release::released;
    });
    EXPECT_TRUE(waits_for(1));
    // It has put the item's expiry off.
    EXPECT_TRUE(eventually(
        [&] { return server.get("memcachedlock:key").find(" *") != std::string::npos; }));
    EXPECT_EQ(holder.release(), mcl::Release::released);
    EXPECT_TRUE(ended_well(next));
    EXPECT_LE(server.counted({"cas_badval"}), 1) << "in round " << round;  // the first
  }
  EXPECT_EQ(server.get("memcachedlock:key"), "");
}

TEST_P(Queue, TryLockNeverEntersIt) {
  mcl::Lock holder(client(), "key", fair);
  holder.lock();
  mcl::Lock other(client(), "key", fair);
  EXPECT_FALSE(other.try_lock());
  EXPECT_FALSE(other.try_lock());
  EXPECT_EQ(queued(), 0);
}

TEST_P(Queue, OneWhoGivesUpLeavesTheRecordsQueue) {
  mcl::Lock holder(client(), "key", fair);
  holder.lock();
  const pid_t child = in_child([&] {
    const auto shared = client();
    std::stop_source stop;
    std::jthread canceller([&] {
      waits_for(1);
      stop.request_stop();
    });
    try {
      lock_once(mcl::Lock(shared, "key", fair), stop.get_token());
      return false;
    } catch (const mcl::Cancelled&) {
    }
    return queued() == 0 && !mcl::Lock(shared, "key", fair).try_lock_for(1ms);
  });
  EXPECT_TRUE(ended_well(child));
  EXPECT_TRUE(waits_for(0));
  EXPECT_EQ(holder.release(), mcl::Release::released);
  EXPECT_EQ(server.get("memcachedlock:key"), "");
}

// The place of a thread that gives up goes to the next of its process.
TEST_P(Queue, APlaceInTheRecordIsOfTheProcess) {
  mcl::Lock holder(client(), "key", fair);
  holder.lock();
  Signal second_waits;
  const pid_t child = in_child([&] {
    const auto shared = client();
    std::stop_source stop;
    std::jthread first([&] {
      try {
        lock_once(mcl::Lock(shared, "key", fair), stop.get_token());
      } catch (const mcl::Cancelled&) {
      }
    });
    waits_for(1);
    bool got = false;
    std::jthread second([&] {
      mcl::Lock lock(shared, "key", fair);
      lock.lock();
      got = true;
    });
    wait_for_contended(2);
    stop.request_stop();
    first.join();
    if (queued() != 1) return false;
    second_waits.send();
    second.join();
    return got;
  });
  second_waits.wait();
  EXPECT_EQ(holder.release(), mcl::Release::released);
  EXPECT_TRUE(ended_well(child));
  EXPECT_EQ(server.get("memcachedlock:key"), "");
}

// Fault: a waiter is killed in the queue. Promise: the next gets its turn within the grace time.
TEST_P(Queue, AWaiterThatDiedIsPassedOver) {
  mcl::Lock holder(client(), "key", fair);
  holder.lock();
  const auto wait_in_queue = [&] {
    mcl::Lock lock(client(), "key", fair);
    lock.lock();
    return lock.release() == mcl::Release::released;
  };
  const pid_t dead = in_child(wait_in_queue);
  ASSERT_TRUE(waits_for(1));
  const pid_t next = in_child(wait_in_queue);
  ASSERT_TRUE(waits_for(2));
  kill(dead, SIGKILL);
  waitpid(dead, nullptr, 0);
  EXPECT_EQ(holder.release(), mcl::Release::released);
  EXPECT_TRUE(ended_well(next));
}

// Fault: a waiter is stopped when it is granted the lock. Promise: it is passed over, finds that
// out, and gets its turn again.
TEST_P(Queue, AWaiterThatSleptThroughItsTurnQueuesAgain) {
  mcl::Lock holder(client(), "key", fair);
  holder.lock();
  Shared<std::atomic<int>> got;
  const pid_t sleepy = in_child([&] {
    mcl::Lock lock(client(), "key", fair);
    lock.lock();
    return ++*got.operator->() == 2 && lock.release() == mcl::Release::released;
  });
  ASSERT_TRUE(waits_for(1));
  const pid_t next = in_child([&] {
    mcl::Lock lock(client(), "key", fair);
    lock.lock();
    return ++*got.operator->() == 1 && lock.release() == mcl::Release::released;
  });
  ASSERT_TRUE(waits_for(2));
  kill(sleepy, SIGSTOP);
  EXPECT_EQ(holder.release(), mcl::Release::released);
  EXPECT_TRUE(ended_well(next));
  kill(sleepy, SIGCONT);
  EXPECT_TRUE(ended_well(sleepy));
}

// Fault: the holder is killed while others queue. Promise: the queue goes on, in its order, once a
// lease has passed; not before.
TEST_P(Queue, AHolderThatDiedIsTakenOutAndTheQueueStays) {
  struct Seen {
    std::atomic<int> got{0};
    std::atomic<std::chrono::steady_clock::time_point> lease_end{};
  };
  Shared<Seen> seen;
  Signal held;
  const pid_t holder = in_child([&] {
    mcl::LockOptions mine = fair;
    mine.timeout = 1s;
    mcl::Lock lock(client(), "key", mine);
    lock.lock();
    seen->lease_end = std::chrono::steady_clock::now() + lock.remaining();
    held.send();
    pause();
    return false;
  });
  held.wait();
  std::vector<pid_t> waiters;
  for (int i = 0; i < 3; ++i) {
    waiters.push_back(in_child([&, i] {
      mcl::Lock lock(client(), "key", fair);
      lock.lock();
      return std::chrono::steady_clock::now() >= seen->lease_end.load() && seen->got++ == i;
    }));
    ASSERT_TRUE(waits_for(i + 1));
  }
  kill(holder, SIGKILL);
  waitpid(holder, nullptr, 0);
  for (const pid_t waiter : waiters) EXPECT_TRUE(ended_well(waiter));
}

// A renewal comes between: the item's CAS id is another whenever somebody enters the queue.
TEST_P(Queue, AHolderRenewsAndExtendsWhileOthersQueue) {
  mcl::LockOptions mine = fair;
  mine.timeout = 400ms;
  mine.renew = true;
  mcl::Lock holder(client(), "key", mine);
  holder.lock();
  std::vector<pid_t> waiters;
  for (int i = 0; i < 3; ++i) {
    waiters.push_back(in_child([&] {
      mcl::Lock lock(client(), "key", fair);
      lock.lock();
      return true;
    }));
    ASSERT_TRUE(waits_for(i + 1));
    EXPECT_TRUE(holder.extend());
  }
  const int renewals = recorder->count(mcl::EventKind::extended);
  EXPECT_TRUE(
      eventually([&] { return recorder->count(mcl::EventKind::extended) >= renewals + 4; }));
  EXPECT_TRUE(holder.owns_lock());
  EXPECT_EQ(queued(), 3);
  EXPECT_EQ(holder.release(), mcl::Release::released);
  for (const pid_t waiter : waiters) EXPECT_TRUE(ended_well(waiter));
}

// Fault: the server restarts, or is flushed, with lock and queue. Promise: every waiter gets
// the lock, tokens rise.
TEST_P(Queue, GoesWithTheServerAndFormsAnew) {
  fair.restart_guard = mcl::RestartGuard::off;
  fair.on_unavailable = mcl::OnUnavailable::fail;
  for (const bool flush : {false, true}) {
    mcl::Lock holder(client(), "key", fair);
    holder.lock();
    const auto token = holder.fencing_token();
    std::vector<pid_t> waiters;
    for (int i = 0; i < 3; ++i) {
      waiters.push_back(in_child([&] {
        mcl::Lock lock(client(), "key", fair);
        for (;;) {
          try {
            lock.lock();
            return token < lock.fencing_token() && lock.release() == mcl::Release::released;
          } catch (const mcl::Unavailable&) {  // it is down just now
          }
        }
      }));
      ASSERT_TRUE(waits_for(i + 1));
    }
    if (flush) {
      server.ask("flush_all");
    } else {
      server.stop();
      server.start();
    }
    for (const pid_t waiter : waiters) EXPECT_TRUE(ended_well(waiter));
    EXPECT_EQ(holder.release(), mcl::Release::lost);
  }
}

TEST_P(Queue, AFullRecordIsNoObstacle) {
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
  GTEST_SKIP() << "220 threads that read long records take minutes under it";
#endif
#endif
  constexpr int owners = 220;  // more than it takes
  options.connections = 8;
  options.operation_timeout = 20s;  // for a turn at one of these
  const auto shared = client();
  mcl::Lock holder(shared, "key", fair);
  holder.lock();
  std::atomic<int> got{0};
  auto waiters = strangers(owners, shared, fair, got);
  ASSERT_TRUE(wait_for_contended(owners));
  EXPECT_LE(queued(), owners);
  EXPECT_GE(queued(), 190);
  EXPECT_LE(queued(), 201);
  EXPECT_EQ(holder.release(), mcl::Release::released);
  waiters.clear();
  EXPECT_EQ(got, owners);
  EXPECT_EQ(server.get("memcachedlock:key"), "");
}

// The members of a named owner agree on the token although somebody queues.
TEST_P(Queue, ANamedOwnerIsJoinedPastTheQueue) {
  mcl::LockOptions named;
  named.owner = mcl::OwnerId::named("request 7");
  mcl::RLock here(client(), "key", named);
  here.lock();
  const pid_t waiter = in_child([&] {
    mcl::Lock lock(client(), "key", fair);
    lock.lock();
    return true;
  });
  ASSERT_TRUE(waits_for(1));
  const auto token = here.fencing_token();
  EXPECT_TRUE(ended_well(in_child([&] {
    mcl::RLock there(client(), "key", named);
    return there.try_lock() && there.fencing_token() == token &&
           there.release() == mcl::Release::released;
  })));
  EXPECT_EQ(queued(), 1);
  EXPECT_TRUE(here.extend());
  EXPECT_EQ(here.release(), mcl::Release::released);
  EXPECT_TRUE(ended_well(waiter));
}

// Members of a named owner come out of the queue one by one, and join each other meanwhile.
TEST_P(Queue, MembersThatQueuedDoNotPutEachOtherOut) {
  struct Room {
    std::atomic<int> members{0};
    std::atomic<int> others{0};
  };
  Shared<Room> room;
  mcl::LockOptions named = fair;
  named.owner = mcl::OwnerId::named("request 7");
  constexpr int times = 150;
  std::vector<pid_t> children;
  for (int i = 0; i < 5; ++i) {
    children.push_back(in_child([&, i] {
      const bool member = i < 3;
      const auto shared = client();
      for (int n = 0; n < times; ++n) {
        mcl::RLock lock(shared, "key", member ? named : fair);
        lock.lock();
        std::atomic<int>& own = member ? room->members : room->others;
        const bool alone = (member ? room->others : room->members) == 0;
        const bool first = ++own == 1;
        if (!alone || (!member && !first)) return false;
        if (n % 2 == 0) std::this_thread::sleep_for(200us);
        --own;
        if (lock.release() != mcl::Release::released) return false;
      }
      return true;
    }));
  }
  for (const pid_t child : children) EXPECT_TRUE(ended_well(child));
}

TEST_P(Queue, AZLockEntersItToo) {
  struct Conflict {};
  mcl::Lock holder(client(), "key");
  holder.lock();
  const pid_t child = in_child([&] {
    mcl::ZLockOptions mine;
    mcl::ZLock<Conflict> lock(client(), "key", mine);
    lock.lock();
    return lock.release() == mcl::Release::released;
  });
  EXPECT_TRUE(waits_for(1));
  EXPECT_EQ(holder.release(), mcl::Release::released);
  EXPECT_TRUE(ended_well(child));
}

// A member of a named owner releases, while another is inside in another process, and a thread
// waits in this one. The lock is not this member's to hand over.
TEST_P(Queue, AMemberHandsNothingOver) {
  mcl::LockOptions named;
  named.owner = mcl::OwnerId::named("request 7");
  const auto shared = client();
  mcl::RLock here(shared, "key", named);
  here.lock();
  Signal inside;
  Signal leave;
  Shared<std::atomic<bool>> left;
  const pid_t there = in_child([&] {
    mcl::RLock lock(client(), "key", named);
    lock.lock();
    inside.send();
    leave.wait();
    *left.operator->() = true;
    return lock.release() == mcl::Release::released;
  });
  inside.wait();
  std::jthread waiter([&] {
    mcl::Lock lock(shared, "key");
    lock.lock();
    EXPECT_TRUE(*left.operator->());
  });
  ASSERT_TRUE(wait_for_contended(1));
  EXPECT_EQ(here.release(), mcl::Release::released);
  mcl::Lock other(shared, "key");
  EXPECT_FALSE(other.try_lock());
  leave.send();
  EXPECT_TRUE(ended_well(there));
}

INSTANTIATE_TEST_SUITE_P(, Queue, testing::Values(mcl::Protocol::text, mcl::Protocol::binary),
                         [](const auto& setting) {
                           return setting.param == mcl::Protocol::text ? "Text" : "Binary";
                         });

}  // namespace
