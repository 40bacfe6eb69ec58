// Nothing hangs and nothing starves: signals, hung servers beside others, dead holders, the end of
// the process.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "memcachedlock/detail/async_acquire.hpp"
#include "memcachedlock/memcachedlock.hpp"
#include "support/between_processes.hpp"
#include "support/fault_proxy.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"
#include "support/loopback.hpp"
#include "support/queued.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;
using Fault = FaultProxy::Fault;

namespace {

struct Conflict {};

class Liveness : public testing::Test {
 protected:
  Liveness() { options.observer = recorder; }
  [[nodiscard]] mcl::MemcachedClient client() const {
    return mcl::MemcachedClient(server.address(), options);
  }
  /// Held in another process until it is killed.
  pid_t held_elsewhere(const std::string& key, const mcl::LockOptions& lock_options = {}) const {
    Signal held;
    const pid_t child = in_child([&] {
      mcl::RLock lock(mcl::MemcachedClient(server.address()), key, lock_options);
      lock.lock();
      held.send();
      pause();
      return false;
    });
    held.wait();
    return child;
  }
  static void end(pid_t child) {
    kill(child, SIGKILL);
    (void)ended_well(child);
  }
  LocalServer server;
  mcl::ClientOptions options;
  const std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
};

// Fault: signals come while a request waits for a server that hangs.
// Promise: it ends at its limit all the same, no earlier and no later.
TEST_F(Liveness, SignalsChangeNoLimit) {
  for (const auto protocol : {mcl::Protocol::text, mcl::Protocol::binary}) {
    options.protocol = protocol;
    options.operation_timeout = 600ms;
    EXPECT_TRUE(ended_well(in_child([&] {
      const auto shared = client();
      mcl::Lock lock(shared, "key");
      std::signal(SIGALRM, [](int) {});
      const itimerval often{{0, 20'000}, {0, 20'000}};
      setitimer(ITIMER_REAL, &often, nullptr);
      server.pause();
      const auto began = std::chrono::steady_clock::now();
      try {
        (void)lock.try_lock();
        return false;
      } catch (const mcl::Unavailable&) {
      }
      return std::chrono::steady_clock::now() - began >= 550ms;  // and it has come to its end
    })));
    server.resume();
  }
}

// Fault: memcached hangs while many threads wait for one key. Promise: waiters behind an
// unanswered request share its failure, and do not ask again. Counted by requests, not by time: a
// waiter that asks waits for a limit.
TEST_F(Liveness, WhoStandsBehindAFailedRequestSharesItsAnswer) {
  options.operation_timeout = 3s;
  constexpr int waiters = 12;
  const pid_t holder = held_elsewhere("key");
  const auto shared = client();
  std::atomic<int> unlocked{0};
  std::atomic<int> unavailable{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < waiters; ++i) {
    threads.emplace_back([&, i] {
      if (i % 2 == 0) {
        mcl::ZLock<Conflict> lock(shared, "key");
        lock.lock();
        unlocked += lock.owns_lock() ? 0 : 1;
      } else {
        mcl::Lock lock(shared, "key");
        EXPECT_THROW(lock.lock(), mcl::Unavailable);
        ++unavailable;
      }
    });
  }
  ASSERT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) == waiters; }));
  const auto paused = std::chrono::steady_clock::now();
  server.pause();
  for (std::thread& thread : threads) thread.join();
  // One after the other would be 36 s; together it is one or two limits.
  EXPECT_LT(std::chrono::steady_clock::now() - paused, 18s);
  EXPECT_EQ(unlocked, waiters / 2);
  EXPECT_EQ(unavailable, waiters / 2);
  server.resume();
  end(holder);
}

// Promise: a client's limit is its own.
TEST_F(Liveness, AnotherClientsLimitIsNotShared) {
  const pid_t holder = held_elsewhere("key", {.timeout = 5s});
  options.operation_timeout = 50ms;
  const auto hasty = client();
  options.operation_timeout = 60s;
  const auto patient = client();
  std::thread first([&] { EXPECT_THROW(lock_once(mcl::Lock(hasty, "key")), mcl::Unavailable); });
  ASSERT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) == 1; }));
  std::thread second([&] {
    mcl::Lock lock(patient, "key");
    lock.lock();
    EXPECT_TRUE(lock.owns_lock());
  });
  ASSERT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) == 2; }));
  server.pause();
  first.join();
  server.resume();
  end(holder);
  second.join();
}

// Fault: one server hangs, and there is much to be done there. Promise: leases elsewhere are
// renewed, and what event loops wait for elsewhere comes.
TEST_F(Liveness, AHungServerIsNoOtherServersTrouble) {
  LocalServer sick;
  const auto other = client();
  mcl::Lock renewed(other, "key", {.timeout = 1s, .renew = true});
  renewed.lock();
  const auto lost = renewed.lost();
  const mcl::MemcachedClient there(sick.address(), {.operation_timeout = 400ms, .connections = 32});
  std::deque<mcl::ZLock<Conflict>> reserved;
  for (int i = 0; i < 10; ++i) {
    mcl::ZLockOptions mine;
    mine.owner = mcl::OwnerId::unique();
    mine.reservation = 100ms;
    reserved.emplace_back(there, "r" + std::to_string(i), mine).lock();
    reserved.back().reserve();
  }
  std::deque<mcl::Lock> locks;
  std::deque<mcl::detail::AsyncAcquire> acquires;
  std::atomic<int> ended{0};
  sick.pause();
  for (int i = 0; i < 5; ++i) {
    locks.emplace_back(there, "k" + std::to_string(i));
    acquires
        .emplace_back(locks.back(), std::nullopt, [&](const std::exception_ptr&, bool) { ++ended; })
        .start();
  }
  mcl::Lock here(other, "here");
  std::atomic<bool> had{false};
  mcl::detail::AsyncAcquire acquire(here, std::nullopt,
                                    [&](const std::exception_ptr&, bool held) { had = held; });
  acquire.start();
  EXPECT_TRUE(eventually([&] { return had.load(); }));
  EXPECT_TRUE(eventually([&] { return ended == 5; }));
  EXPECT_FALSE(lost.stop_requested());
  EXPECT_EQ(renewed.release(), mcl::Release::released);
  sick.resume();
}

// Promise: of the acquires that wait for a server's thread, none asks in vain after one that was
// not answered.
TEST_F(Liveness, AsyncWaitsShareWhatOneOfThemFinds) {
  options.operation_timeout = 4s;
  const auto shared = client();
  { lock_once(mcl::Lock(shared, "warm")); }
  server.pause();
  std::deque<mcl::Lock> locks;
  std::deque<mcl::detail::AsyncAcquire> acquires;
  std::atomic<int> ended{0};
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 8; ++i) {
    locks.emplace_back(shared, "k" + std::to_string(i));
    acquires
        .emplace_back(locks.back(), std::nullopt,
                      [&](const std::exception_ptr& trouble, bool) {
                        EXPECT_TRUE(trouble);
                        ++ended;
                      })
        .start();
  }
  EXPECT_TRUE(eventually([&] { return ended == 8; }));
  EXPECT_LT(std::chrono::steady_clock::now() - began, 20s);  // one after the other: 32 s
  server.resume();
}

// Fault: the server hangs while event loops wait in its queues, and release. Promise: that costs
// all of them one limit, and not one each; who gives up meanwhile needs no answer.
TEST_F(Liveness, WhatEventLoopsDoSharesAFailure) {
  constexpr int keys = 16;
  options.operation_timeout = 2s;
  const auto shared = client();
  std::deque<mcl::Lock> held;
  std::deque<mcl::Lock> waiting;
  std::vector<pid_t> holders;
  std::deque<mcl::detail::AsyncAcquire> acquires;
  std::deque<mcl::detail::AsyncRelease> releases;
  std::atomic<int> ended{0};
  for (int i = 0; i < keys; ++i) {
    held.emplace_back(shared, "k" + std::to_string(i));
    held.back().lock();
    holders.push_back(held_elsewhere("w" + std::to_string(i), {.timeout = 1h}));
    waiting.emplace_back(shared, "w" + std::to_string(i));
    acquires.emplace_back(waiting.back(), std::nullopt,
                          [&](const std::exception_ptr& /*trouble*/, bool) { ++ended; });
    acquires.back().start();
  }
  ASSERT_TRUE(eventually([&] { return queued(server, "w" + std::to_string(keys - 1)) == 1; }));
  server.pause();
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < keys; ++i) {
    if (i % 2 == 0) acquires[static_cast<std::size_t>(i)].cancel();
    releases.emplace_back(held[static_cast<std::size_t>(i)],
                          [&](const std::exception_ptr& trouble, mcl::Release outcome) {
                            EXPECT_FALSE(trouble);
                            EXPECT_EQ(outcome, mcl::Release::unavailable);
                            ++ended;
                          });
    releases.back().start();
  }
  EXPECT_TRUE(eventually([&] { return ended == 2 * keys; }));
  EXPECT_LT(std::chrono::steady_clock::now() - began, keys * 2s / 2);
  server.resume();
  for (int i = 0; i < keys; ++i) {
    EXPECT_TRUE(eventually([&] {
      return server.get("memcachedlock:k" + std::to_string(i)).empty() &&
             queued(server, "w" + std::to_string(i)) == 0;
    }));
  }
  for (const pid_t holder : holders) end(holder);
}

// Fault: many acquires fail. Promise: of what was never sent nothing is done later; what may have
// been sent is removed together.
TEST_F(Liveness, NothingIsDoneForWhatWasNeverSent) {
  options.operation_timeout = 200ms;
  const auto shared = client();
  { lock_once(mcl::Lock(shared, "warm")); }
  server.stop();
  for (int i = 0; i < 500; ++i) {
    EXPECT_THROW((void)mcl::Lock(shared, "k" + std::to_string(i)).try_lock(), mcl::Unavailable);
  }
  server.start();
  const long before = server.counted({"cmd_get"});
  std::this_thread::sleep_for(300ms);  // the first pauses of a removal are far shorter
  // But for the one that was under way when it died; looked for with ever longer pauses.
  EXPECT_LE(server.counted({"cmd_get"}), before + 40);
}

TEST_F(Liveness, WhatMayHaveLandedIsRemovedTogether) {
  options.operation_timeout = 60ms;
  FaultProxy proxy(server.port());
  const mcl::MemcachedClient through(proxy.address(), options);
  { lock_once(mcl::Lock(through, "warm")); }
  constexpr int many = 40;
  proxy.arm({.fault = Fault::hold_reply});
  int unanswered = 0;
  for (int i = 0; i < many; ++i) {
    try {
      (void)mcl::Lock(through, "k" + std::to_string(i)).try_lock();
    } catch (const mcl::Unavailable&) {
      ++unanswered;
    }
    // On each connection the request has passed, and its answer has not; except one that is made
    // just now.
    proxy.arm({.fault = Fault::hold_reply});
  }
  proxy.heal();
  EXPECT_GT(unanswered, many / 2);
  EXPECT_TRUE(eventually([&] {
    for (int i = 0; i < many; ++i) {
      if (!server.get("memcachedlock:k" + std::to_string(i)).empty()) return false;
    }
    return true;
  }));
}

// Promise: connections are lent in turn.
TEST_F(Liveness, ThePoolServesInTurn) {
  options.connections = 1;
  options.operation_timeout = 60s;
  FaultProxy proxy(server.port());
  const mcl::MemcachedClient through(proxy.address(), options);
  { lock_once(mcl::Lock(through, "warm")); }
  proxy.arm({.fault = Fault::delay_reply, .pause = 50ms});
  std::atomic<int> next{0};
  std::atomic<int> out_of_turn{0};
  std::vector<std::thread> threads;
  std::atomic<int> begun{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      ++begun;
      (void)mcl::inspect(through, "k" + std::to_string(i));
      if (next++ != i) ++out_of_turn;
    });
    ASSERT_TRUE(eventually([&] { return begun == i + 1; }));
    std::this_thread::sleep_for(5ms);  // until it stands in line; far less than a reply takes
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(out_of_turn, 2);  // a thread may be slow on its way in or out
}

TEST_F(Liveness, ManyThreadsOnFewConnectionsAreAllServed) {
  options.connections = 2;
  const auto shared = client();
  std::atomic<int> unavailable{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 200; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) {
        try {
          mcl::Lock lock(shared, "k" + std::to_string(i));
          lock.lock();
        } catch (const mcl::Unavailable&) {
          ++unavailable;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(unavailable, 0);
}

// Fault: a holder is killed, and nobody waits for as long as its lease. Promise: the lock is had
// soon after the lease, however short the waits are.
TEST_F(Liveness, ADeadHolderGoesThoughNobodyWaitsForLong) {
  for (const auto way : {"waiting", "once"}) {
    const std::string key = std::string("key-") + way;
    end(held_elsewhere(key, {.timeout = 1s}));
    EXPECT_TRUE(eventually([&] {
      // A process of its own each time, as cron's: nobody remembers what it saw before.
      return ended_well(in_child([&] {
        mcl::Lock lock(mcl::MemcachedClient(server.address()), key);
        return way == std::string("once") ? lock.try_lock() : lock.try_lock_for(150ms);
      }));
    })) << way;
  }
}

// Fault: one member of a named owner is dead, and others come and go. Promise: it keeps nobody out
// for longer than its lease.
TEST_F(Liveness, ADeadMemberKeepsNobodyOut) {
  const mcl::LockOptions member{.timeout = 1s, .owner = mcl::OwnerId::named("team")};
  end(held_elsewhere("key", member));
  std::jthread others([&](const std::stop_token& stop) {
    const auto shared = client();
    while (!stop.stop_requested()) {
      mcl::LockOptions mine = member;
      mine.timeout = 2s;
      mcl::RLock lock(shared, "key", mine);
      if (lock.try_lock()) std::this_thread::sleep_for(1ms);
    }
  });
  mcl::Lock outside(mcl::MemcachedClient(server.address()), "key");
  EXPECT_TRUE(outside.try_lock_for(60s));
}

// Promise: the next in line does not take over the pause of the waiter before it.
TEST_F(Liveness, TheNextInLineHasItsOwnPauseAndItsOwnGuard) {
  const auto shared = client();
  pid_t holder = held_elsewhere("key");
  std::thread first([&] {
    mcl::Lock lock(shared, "key", {.interval = 10min});
    EXPECT_FALSE(lock.try_lock_for(300ms));
  });
  ASSERT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) == 1; }));
  std::thread second([&] {
    mcl::Lock lock(shared, "key", {.interval = 10ms});
    EXPECT_TRUE(lock.try_lock_for(60s));
  });
  first.join();
  server.ask("delete memcachedlock:key");
  second.join();
  end(holder);

  // The first waits for the guard, 30 s; the second has none.
  server.stop();
  server.start();
  std::jthread guarded([&](const std::stop_token& stop) {
    mcl::Lock lock(shared, "other");
    EXPECT_THROW(lock.lock(stop), mcl::Cancelled);
  });
  ASSERT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::restart_seen) == 1; }));
  EXPECT_TRUE(ended_well(in_child([] { return true; })));  // a moment
  EXPECT_TRUE(
      mcl::Lock(shared, "other", {.restart_guard = mcl::RestartGuard::off}).try_lock_for(20s));
}

// Fault: a server loses its memory while threads of a process wait in the queue and the guard is
// closed. Promise: one of them at a time.
TEST_F(Liveness, ThreadsThatWaitForTheGuardShareNoToken) {
  options.restart_window = 1s;
  const auto shared = client();
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  std::atomic<int> had{0};
  const pid_t holder = held_elsewhere("key", {.timeout = 2s});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      mcl::Lock lock(shared, "key", {.timeout = 4s});
      lock.lock();
      most = std::max(most.load(), ++inside);
      std::this_thread::sleep_for(50ms);
      --inside;
      had += lock.release() == mcl::Release::released ? 1 : 0;
    });
  }
  ASSERT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) == 4; }));
  server.ask("flush_all");
  (void)mcl::Lock(shared, "another", {.timeout = 2s}).try_lock();  // which closes the guard
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(most, 1);
  EXPECT_EQ(had, 4);
  end(holder);
}

// Fault: only the answer to a release is lost, and another has the lock at once.
// Promise: it is not said to be lost.
TEST_F(Liveness, AReleaseThatWasDoneIsNotSaidToBeLost) {
  for (const auto protocol : {mcl::Protocol::text, mcl::Protocol::binary}) {
    options.protocol = protocol;
    FaultProxy proxy(server.port());
    const mcl::MemcachedClient through(proxy.address(), options);
    mcl::Lock lock(through, "key");
    lock.lock();
    std::jthread taker([&](const std::stop_token& stop) {
      mcl::Lock other(mcl::MemcachedClient(server.address()), "key", {.interval = 1ms});
      while (!stop.stop_requested() && !other.try_lock()) {
      }
      while (!stop.stop_requested()) std::this_thread::sleep_for(1ms);
    });
    proxy.arm({.fault = Fault::cut_reply, .after = 0});
    EXPECT_NE(lock.release(), mcl::Release::lost);
    EXPECT_TRUE(proxy.struck());
  }
}

// Promise: connecting has a limit of its own, which may be longer than a request's.
TEST_F(Liveness, AConnectionMayTakeLongerThanARequest) {
  // A listener whose queue is full drops what comes, which is sent again after a second.
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof address;
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(listen(listener, 0), 0);
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  const int filler = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(connect(filler, reinterpret_cast<sockaddr*>(&address), length), 0);
  options.operation_timeout = 300ms;
  options.connect_timeout = 20s;
  const mcl::MemcachedClient far("127.0.0.1:" + std::to_string(ntohs(address.sin_port)), options);
  std::thread server_side([&] {
    std::this_thread::sleep_for(600ms);  // longer than a request's limit
    const int first = accept(listener, nullptr, nullptr);
    const int second = accept(listener, nullptr, nullptr);  // once it was sent again
    EXPECT_GE(second, 0);
    close(first);
    close(second);
  });
  EXPECT_THROW((void)mcl::Lock(far, "key").try_lock(), mcl::Error);
  server_side.join();
  close(filler);
  close(listener);
}

// Fault: a firewall forgets idle connections. Promise: one request finds it out for all of them.
TEST_F(Liveness, ConnectionsThatAFirewallForgotCostOneRequest) {
  options.operation_timeout = 300ms;
  FaultProxy proxy(server.port());
  const mcl::MemcachedClient through(proxy.address(), options);
  proxy.arm({.fault = Fault::delay_reply, .pause = 30ms});
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] { (void)mcl::inspect(through, "k" + std::to_string(i)); });
  }
  for (std::thread& thread : threads) thread.join();
  proxy.arm({.fault = Fault::hold_reply});  // of the first connection that is used from now on
  int failed = 0;
  for (int i = 0; i < 12; ++i) {
    try {
      (void)mcl::inspect(through, "key");
    } catch (const mcl::Unavailable&) {
      ++failed;
      proxy.heal();
    }
  }
  EXPECT_EQ(failed, 1);
}

// Promise: background threads block no signal that a thread sends itself by an error.
TEST_F(Liveness, ACrashInTheBackgroundFindsItsHandler) {
  EXPECT_TRUE(ended_well(in_child([&] {
    struct Crashing : mcl::Observer {
      void on_event(const mcl::Event& event) override {
        if (event.kind == mcl::EventKind::extended) (void)std::raise(SIGSEGV);
      }
    };
    std::signal(SIGSEGV, [](int) { _exit(0); });
    options.observer = std::make_shared<Crashing>();
    mcl::Lock lock(client(), "key", {.timeout = 200ms, .renew = true});
    lock.lock();
    std::this_thread::sleep_for(60s);
    return false;
  })));
}

/// As a static object is, which is made before anything of the library.
class AtExit {
 public:
  static void set(std::function<void()> what) { instance().what_ = std::move(what); }

 private:
  static AtExit& instance() {
    static AtExit all;
    return all;
  }
  ~AtExit() {
    if (what_) what_();
  }
  std::function<void()> what_;
};

bool exits_well(const std::function<void()>& body) {
  return ended_well(in_child([&]() -> bool {
    alarm(60);  // where it hangs
    AtExit::set([] {});
    body();
    std::exit(0);
  }));
}

TEST_F(Liveness, ExitEndsWithAsyncWaitsPending) {
  const pid_t holder = held_elsewhere("key");
  EXPECT_TRUE(exits_well([&] {
    const auto shared = std::make_shared<mcl::MemcachedClient>(client());
    for (int i = 0; i < 3; ++i) {
      // Never destroyed, as those of a loop that exit() leaves as it is.
      static auto& locks = *new std::deque<mcl::Lock>;
      static auto& acquires = *new std::deque<mcl::detail::AsyncAcquire>;
      locks.emplace_back(*shared, "key");
      acquires.emplace_back(locks.back(), std::nullopt, [](const std::exception_ptr&, bool) {});
      acquires.back().start();
    }
    EXPECT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) == 3; }));
  }));
  end(holder);
}

// Promise: what is reserved goes with its process, and not at its END.
TEST_F(Liveness, ExitFreesWhatIsReserved) {
  EXPECT_TRUE(exits_well([&] {
    mcl::ZLockOptions mine;
    mine.reservation = 30s;
    static auto& lock = *new mcl::ZLock<Conflict>(client(), "key", mine);
    lock.lock();
    lock.reserve();
  }));
  EXPECT_EQ(server.get("memcachedlock:key"), "");
}

/// Ends the process while a request of the thread that arms it is under way.
class ExitsInARequest : public mcl::Observer {
 public:
  void arm() { by_ = std::this_thread::get_id(); }
  void on_event(const mcl::Event& /*event*/) override {}
  void on_round_trip(std::string_view /*server*/, std::chrono::nanoseconds /*time*/) override {
    if (std::this_thread::get_id() == by_) std::exit(0);
  }

 private:
  std::thread::id by_;
};

// Promise: the end of the process waits for no lock that its own thread uses.
TEST_F(Liveness, ExitMayBeCalledInARequestOfARenewedLock) {
  for (const bool extends : {true, false}) {
    EXPECT_TRUE(exits_well([&] {
      const auto exits = std::make_shared<ExitsInARequest>();
      options.observer = exits;
      static auto& lock = *new mcl::Lock(client(), "key", {.timeout = 1h, .renew = true});
      lock.lock();
      exits->arm();
      (void)(extends ? lock.extend() : lock.release() == mcl::Release::released);
    }));
    server.ask("delete memcachedlock:key");
  }
}

TEST_F(Liveness, ExitMayBeCalledByWhoIsTold) {
  EXPECT_TRUE(ended_well(in_child([&]() -> bool {
    alarm(60);
    mcl::Lock lock(client(), "key", {.timeout = 200ms});
    lock.lock();
    const std::stop_callback on_loss(lock.lost(), [] { std::exit(0); });
    while (true) pause();
  })));
}

TEST_F(Liveness, AStaticDestructorMayUseALock) {
  EXPECT_TRUE(exits_well([&] {
    auto lock = std::make_shared<mcl::Lock>(client(), "key");
    lock->lock();
    lock->unlock();
    AtExit::set([lock, this] {
      lock->lock();
      const std::string record = server.get("memcachedlock:key");
      if (record.find(":" + std::to_string(getpid()) + ":") == std::string::npos) _exit(1);
      if (lock->release() != mcl::Release::released) _exit(2);
    });
  }));
}

}  // namespace
