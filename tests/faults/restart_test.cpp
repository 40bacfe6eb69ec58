// Servers that restart, stop or lose their items while leases are out.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <thread>

#include "memcachedlock/memcachedlock.hpp"
#include "support/fault_proxy.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"
#include "support/recorder.hpp"
#include "support/reserved_port.hpp"
#include "support/temporary_directory.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

class Restart : public testing::Test {
 protected:
  Restart() {
    options.observer = recorder;
    options.operation_timeout = 2s;
    options.restart_window = 0ms;  // all leases here are known
  }
  [[nodiscard]] mcl::MemcachedClient client() const {
    return mcl::MemcachedClient(server.address(), options);
  }
  void restart() {
    server.stop();
    server.start();
  }
  LocalServer server;
  mcl::ClientOptions options;
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
};

mcl::LockOptions with_guard(mcl::RestartGuard guard) {
  return {.timeout = 1h, .restart_guard = guard};
}

TEST_F(Restart, ThoseWhoKnewTheServerWaitUntilOldLeasesHaveEnded) {
  const auto known = client();
  mcl::Lock holder(known, "key", {.timeout = 2s});
  holder.lock();
  restart();
  mcl::Lock next(known, "key", {.timeout = 2s});
  EXPECT_FALSE(next.try_lock());
  EXPECT_TRUE(holder.owns_lock());
  EXPECT_FALSE(next.try_lock_for(10ms));
  next.lock();
  EXPECT_FALSE(holder.owns_lock());
  EXPECT_EQ(recorder->count(mcl::EventKind::restart_seen), 1);
  EXPECT_EQ(holder.release(), mcl::Release::lost);
  EXPECT_EQ(next.release(), mcl::Release::released);
}

TEST_F(Restart, ALongerLeaseThatComesAfterwardsDoesNotProlongTheWait) {
  const auto known = client();
  mcl::Lock holder(known, "key", {.timeout = 500ms});
  holder.lock();
  restart();
  mcl::Lock next(known, "key", {.timeout = 500ms});
  next.lock();
  next.unlock();
  EXPECT_TRUE(mcl::Lock(known, "key", {.timeout = 10h}).try_lock());
  EXPECT_TRUE(mcl::Lock(known, "key", {.timeout = 500ms}).try_lock());
}

TEST_F(Restart, AFlushIsARestart) {
  const auto known = client();
  mcl::Lock holder(known, "key", with_guard(mcl::RestartGuard::known));
  holder.lock();
  server.ask("flush_all");
  EXPECT_FALSE(mcl::Lock(known, "other", with_guard(mcl::RestartGuard::known)).try_lock());
  EXPECT_FALSE(holder.extend());
}

TEST_F(Restart, ANewClientDoesNotWaitUnlessStrict) {
  mcl::Lock holder(client(), "key", with_guard(mcl::RestartGuard::known));
  holder.lock();
  restart();
  EXPECT_FALSE(mcl::Lock(client(), "key", with_guard(mcl::RestartGuard::strict)).try_lock());
  EXPECT_TRUE(mcl::Lock(client(), "key", with_guard(mcl::RestartGuard::known)).try_lock());
}

TEST_F(Restart, NobodyWaitsWithTheGuardOff) {
  const auto known = client();
  mcl::Lock holder(known, "key", with_guard(mcl::RestartGuard::off));
  holder.lock();
  restart();
  EXPECT_TRUE(mcl::Lock(known, "key", with_guard(mcl::RestartGuard::off)).try_lock());
}

// Fault: CAS ids begin again with the server, so the next holder's may be the same number.
// Promise: neither a release nor an extension from before touches it.
TEST_F(Restart, ACasIdFromBeforeTheRestartIsNotTakenForTheNextHolders) {
  for (const auto protocol : {mcl::Protocol::text, mcl::Protocol::binary}) {
    for (const bool extend : {false, true}) {
      restart();
      options.protocol = protocol;
      mcl::Lock before(client(), "key", with_guard(mcl::RestartGuard::off));
      before.lock();
      restart();
      mcl::Lock next(client(), "key", with_guard(mcl::RestartGuard::off));
      next.lock();
      ASSERT_EQ(next.fencing_token().sequence, before.fencing_token().sequence);
      if (extend) {
        EXPECT_FALSE(before.extend());
        EXPECT_FALSE(before.owns_lock());
      }
      EXPECT_EQ(before.release(), mcl::Release::lost);
      EXPECT_TRUE(next.extend());
      EXPECT_EQ(next.release(), mcl::Release::released);
    }
  }
}

TEST_F(Restart, TokensRiseOverARestart) {
  const auto known = client();
  mcl::FencingToken last;
  for (int round = 0; round < 4; ++round) {
    mcl::Lock lock(round % 2 == 0 ? known : client(), "key", with_guard(mcl::RestartGuard::off));
    lock.lock();
    EXPECT_GT(lock.fencing_token(), last);
    last = lock.fencing_token();
    restart();
  }
}

TEST_F(Restart, TokensRiseThoughSomebodyMadeALowerNumber) {
  const auto known = client();
  mcl::Lock lock(known, "key", with_guard(mcl::RestartGuard::off));
  lock.lock();
  const auto before = lock.fencing_token();
  lock.unlock();
  restart();
  const std::string lower = "mcl-server1 ab 17 1000 9 *" + server.address();
  server.ask("set memcachedlock:^server 0 0 " + std::to_string(lower.size()) + "\r\n" + lower);
  lock.lock();
  EXPECT_GT(lock.fencing_token(), before);
  lock.unlock();
}

// Fault: SIGSTOP of the server, and requests that come as it goes on: it may carry them out before
// it has set its clock. Promise: what it stores then lives as long as the leases all the same; also
// when all connections are new, so that the clock was asked for by those requests.
TEST_F(Restart, AServerThatWasStoppedDoesNotLetALeaseExpireEarly) {
  constexpr int holders = 6;
  constexpr int rounds = 3;
  constexpr auto stop = 2s;  // as long as a TTL for such a lease would be
  for (const auto limit : {10'000ms, 250ms}) {
    options.operation_timeout = limit;
    options.protocol = limit > stop ? mcl::Protocol::text : mcl::Protocol::binary;
    const auto known = client();
    std::barrier step(holders + 1);
    std::vector<std::jthread> threads;
    for (int i = 0; i < holders; ++i) {
      threads.emplace_back([&, key = "key" + std::to_string(i)] {
        mcl::Lock lock(known, key, {.timeout = 1s});
        const auto take = [&] {
          for (;;) {
            try {
              lock.lock();
              return;
            } catch (const mcl::Unavailable&) {
            }
          }
        };
        for (int round = 0; round < rounds; ++round) {
          take();
          (void)lock.release();
          step.arrive_and_wait();  // it is stopped
          step.arrive_and_wait();
          if (limit > stop) step.arrive_and_wait();  // it goes on
          take();
          mcl::Lock rival(known, key, {.timeout = 1s});
          while (lock.owns_lock()) {
            bool got = false;
            try {
              got = rival.try_lock();
            } catch (const mcl::Unavailable&) {
            }
            EXPECT_FALSE(got && lock.owns_lock()) << "two holders";
            if (got) break;
          }
          if (rival.owns_lock()) rival.unlock();
          lock.unlock();
        }
      });
    }
    for (int round = 0; round < rounds; ++round) {
      step.arrive_and_wait();
      server.pause();
      step.arrive_and_wait();
      std::this_thread::sleep_for(stop);
      if (limit > stop) step.arrive_and_wait();
      server.resume();
    }
  }
}

TEST_F(Restart, TheEpochItemCarriesTheLongestLease) {
  EXPECT_TRUE(mcl::Lock(client(), "a", {.timeout = 5s}).try_lock());
  EXPECT_TRUE(mcl::Lock(client(), "b", {.timeout = 1min}).try_lock());
  EXPECT_TRUE(mcl::Lock(client(), "c", {.timeout = 1s}).try_lock());
  const std::string epoch = server.get("memcachedlock:^server");
  EXPECT_NE(epoch.find(" 60000 "), std::string::npos) << epoch;
}

// Fault: a process is forked, then the server restarts. Promise: the child knows what its parent
// knew.
TEST_F(Restart, AForkedChildKnowsWhatItsParentKnew) {
  const auto known = client();
  mcl::Lock holder(known, "key", {.timeout = 1h});
  holder.lock();
  restart();
  EXPECT_TRUE(ended_well(in_child([&] {
    return !mcl::Lock(known, "key", {.timeout = 1s}).try_lock() &&
           !mcl::Lock(known, "other", {.timeout = 1s}).try_lock_for(50ms);
  })));
}

// Fault: another has taken a longer lease than this client has ever seen, and the server restarts.
// Promise: it waits as long as is usual.
TEST_F(Restart, LeasesThatNobodyToldOfAreWaitedFor) {
  options.restart_window = 30s;
  const auto known = client();
  EXPECT_TRUE(mcl::Lock(known, "key", {.timeout = 500ms}).try_lock());
  const auto elsewhere = client();
  mcl::RLock outer(elsewhere, "key", {.timeout = 1s});
  outer.lock();
  mcl::RLock inner(elsewhere, "key", {.timeout = 20s});
  inner.lock();
  EXPECT_TRUE(inner.extend());
  restart();
  EXPECT_FALSE(mcl::Lock(known, "key", {.timeout = 500ms}).try_lock_for(2s));
  EXPECT_TRUE(outer.owns_lock());
}

// Promise: a strict acquire waits for leases that it can't know of, and goes by the server's clock.
TEST_F(Restart, WhoIsStrictGoesByTheAgeOfTheServersMemory) {
  const mcl::LockOptions strict{.timeout = 500ms, .restart_guard = mcl::RestartGuard::strict};
  options.restart_window = 30s;
  EXPECT_FALSE(mcl::Lock(client(), "key", strict).try_lock_for(1s));
  options.restart_window = 2s;
  // A client of its own each time, which has not seen the server for long.
  EXPECT_TRUE(eventually([&] { return mcl::Lock(client(), "key", strict).try_lock(); }));
  server.ask("flush_all");
  EXPECT_FALSE(mcl::Lock(client(), "key", strict).try_lock());
  server.ask("stats reset", "RESET\r\n");
  EXPECT_FALSE(mcl::Lock(client(), "key", strict).try_lock());
}

// Fault: the address leads to another server, which has run for long. Promise: its age says
// nothing.
TEST_F(Restart, AnOlderServerAtTheSameAddressOpensNoGuard) {
  const LocalServer older;
  { lock_once(mcl::Lock(mcl::MemcachedClient(older.address()), "warm")); }
  const int port = reserve_port();
  std::optional<FaultProxy> address(std::in_place, server.port(), port);
  const mcl::MemcachedClient known(address->address(), options);
  mcl::Lock first(known, "key", {.timeout = 1h});
  first.lock();
  address.reset();
  address.emplace(older.port(), port);
  for (const auto guard : {mcl::RestartGuard::known, mcl::RestartGuard::strict}) {
    EXPECT_FALSE(mcl::Lock(known, "key", with_guard(guard)).try_lock());
  }
}

// Fault: the server is restarted, but keeps its memory (-e). Promise: its clients lock as before.
TEST_F(Restart, AServerThatKeepsItsMemoryServesThoseWhoKnewIt) {
  const TemporaryDirectory directory;
  LocalServer warm({"-e", directory.path() + "/memory", "-m", "64"});
  const mcl::MemcachedClient known(warm.address(), {.restart_window = 0ms});
  mcl::Lock lock(known, "key", {.timeout = 1s});
  lock.lock();
  lock.unlock();
  if (!warm.restart_with_memory()) GTEST_SKIP() << "this memcached can't keep its memory here";
  EXPECT_TRUE(lock.try_lock_for(20s));
  mcl::RLock named(known, "team", {.timeout = 1s, .owner = mcl::OwnerId::named("team")});
  EXPECT_TRUE(named.try_lock_for(20s));
}

// Fault: the server's item is lost, by itself or with all others, while a named owner is inside.
// Promise: one holding has one token, and tokens rise, whichever client makes the item again.
TEST_F(Restart, TokensRiseWhateverBecomesOfTheServersItem) {
  const mcl::LockOptions named{.timeout = 1h, .owner = mcl::OwnerId::named("team")};
  mcl::FencingToken last;
  for (int round = 0; round < 3; ++round) {
    const auto mine = client();
    mcl::RLock first(mine, "key", named);
    first.lock();
    EXPECT_GT(first.fencing_token(), last);
    server.ask("delete memcachedlock:^server");
    EXPECT_TRUE(ended_well(in_child([&] {  // a client that knows nothing
      mcl::RLock second(client(), "key", named);
      second.lock();
      return second.fencing_token() == first.fencing_token();
    })));
    last = first.fencing_token();
    EXPECT_EQ(first.release(), mcl::Release::released);
    server.ask(round == 1 ? "flush_all" : "delete memcachedlock:^server");
    mcl::Lock next(client(), "key", {.timeout = 1h});
    next.lock();
    EXPECT_GT(next.fencing_token(), last);
    last = next.fencing_token();
  }
}

TEST_F(Restart, AHolderWithAnOverwrittenItemLosesAndLeavesItAlone) {
  mcl::Lock lock(client(), "key");
  lock.lock();
  server.ask("set memcachedlock:key 0 0 5\r\nhello");
  EXPECT_EQ(lock.release(), mcl::Release::lost);
  EXPECT_EQ(server.get("memcachedlock:key"), "hello");
}

TEST_F(Restart, RenewalTriesAgainUntilTheServerAnswers) {
  mcl::Lock lock(client(), "key", {.timeout = 9s, .renew = true});
  lock.lock();
  const auto lost = lock.lost();
  server.pause();
  EXPECT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::unavailable) >= 1; }));
  EXPECT_FALSE(lost.stop_requested());
  server.resume();
  const int extended = recorder->count(mcl::EventKind::extended);
  EXPECT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::extended) > extended; }));
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

TEST_F(Restart, RenewalsShareRoundTripsAndNoFate) {
  options.operation_timeout = 500ms;
  for (const auto protocol : {mcl::Protocol::text, mcl::Protocol::binary}) {
    constexpr int count = 100;
    options.protocol = protocol;
    const auto shared = client();
    const int refused_before = recorder->count(mcl::EventKind::unavailable);
    std::vector<std::unique_ptr<mcl::Lock>> locks;
    for (int i = 0; i < count; ++i) {
      locks.push_back(std::make_unique<mcl::Lock>(shared, "key" + std::to_string(i),
                                                  mcl::LockOptions{.timeout = 9s, .renew = true}));
      locks.back()->lock();
    }
    (void)server.ask("delete memcachedlock:key7\r\n");
    (void)server.ask("set memcachedlock:key9 0 0 5\r\nhello\r\n");
    // So that many are due at once.
    server.pause();
    EXPECT_TRUE(eventually(
        [&] { return recorder->count(mcl::EventKind::unavailable) >= refused_before + count; }));
    const int extended_before = recorder->count(mcl::EventKind::extended);
    const int lost_before = recorder->count(mcl::EventKind::lost);
    const int round_trips_before = recorder->round_trips();
    server.resume();
    EXPECT_TRUE(eventually([&] {
      return recorder->count(mcl::EventKind::extended) >= extended_before + count - 2 &&
             recorder->count(mcl::EventKind::lost) == lost_before + 2;
    }));
    EXPECT_LE(recorder->round_trips() - round_trips_before, count / 2);
    for (int i = 0; i < count; ++i) {
      const bool gone = i == 7 || i == 9;
      EXPECT_EQ(locks[static_cast<std::size_t>(i)]->owns_lock(), !gone) << i;
      EXPECT_EQ(locks[static_cast<std::size_t>(i)]->release(),
                gone ? mcl::Release::lost : mcl::Release::released)
          << i;
    }
    EXPECT_EQ(server.get("memcachedlock:key9"), "hello");
    (void)server.ask("delete memcachedlock:key9\r\n");
  }
}

TEST_F(Restart, RenewalGivesUpBeforeTheLeaseEnds) {
  mcl::Lock lock(client(), "key", {.timeout = 900ms, .renew = true});
  lock.lock();
  const auto lost = lock.lost();
  server.pause();
  EXPECT_TRUE(eventually([&] { return lost.stop_requested(); }));
  EXPECT_FALSE(lock.owns_lock());
  EXPECT_FALSE(lock.extend());
  server.resume();
  EXPECT_EQ(lock.release(), mcl::Release::lost);
}

TEST_F(Restart, ADeadServerDoesNotKeepOthersLeasesFromRenewal) {
  const LocalServer healthy;
  options.operation_timeout = 1s;
  const auto dead_client = client();
  std::vector<std::unique_ptr<mcl::Lock>> doomed;
  for (int i = 0; i < 50; ++i) {
    doomed.push_back(std::make_unique<mcl::Lock>(dead_client, "key" + std::to_string(i),
                                                 mcl::LockOptions{.timeout = 5s, .renew = true}));
    doomed.back()->lock();
  }
  mcl::Lock lock(mcl::MemcachedClient(healthy.address()), "key", {.timeout = 3s, .renew = true});
  lock.lock();
  const auto lost = lock.lost();
  server.pause();
  EXPECT_TRUE(eventually(
      [&] { return recorder->count(mcl::EventKind::lost) == static_cast<int>(doomed.size()); }));
  EXPECT_FALSE(lost.stop_requested());
  EXPECT_EQ(lock.release(), mcl::Release::released);
  server.stop();
}

TEST_F(Restart, OneOfThreeServersDeadLeavesTheOthersAlone) {
  const LocalServer second;
  const LocalServer third;
  const mcl::MemcachedClient all(server.address() + "," + second.address() + "," + third.address(),
                                 options);
  (void)mcl::Lock(all, "first").try_lock();  // a new list needs all of its servers once
  server.stop();
  int dead = 0;
  for (int i = 0; i < 60; ++i) {
    const std::string key = "key" + std::to_string(i);
    mcl::Lock lock(all, key);
    if (all.server_of(key).to_string() == server.address()) {
      ++dead;
      EXPECT_THROW((void)lock.try_lock(), mcl::Unavailable);
    } else {
      EXPECT_TRUE(lock.try_lock());
    }
  }
  EXPECT_GT(dead, 0);
  EXPECT_LT(dead, 60);
}

TEST_F(Restart, ADeadServersKeysProceedAndComeBackWithTheServer) {
  LocalServer second;
  LocalServer third;
  const mcl::MemcachedClient all(server.address() + "," + second.address() + "," + third.address(),
                                 options);
  const auto try_all = [&] {
    int held = 0;
    for (int i = 0; i < 60; ++i) {
      mcl::Lock lock(all, "key" + std::to_string(i),
                     {.timeout = 200ms, .on_unavailable = mcl::OnUnavailable::proceed});
      if (lock.try_lock() && lock.owns_lock()) ++held;
    }
    return held;
  };
  EXPECT_EQ(try_all(), 60);
  server.stop();
  const int held = try_all();
  EXPECT_GT(held, 0);
  EXPECT_LT(held, 60);
  EXPECT_EQ(recorder->count(mcl::EventKind::proceeded_unlocked), 60 - held);
  server.start();
  EXPECT_TRUE(eventually([&] { return try_all() == 60; }));  // the guard lets it after a lease
}

TEST_F(Restart, ALockThatSomebodyDeletedIsLostAtTheNextRenewal) {
  mcl::Lock lock(client(), "key", {.timeout = 600ms, .renew = true});
  lock.lock();
  const auto lost = lock.lost();
  ASSERT_EQ(server.ask("delete memcachedlock:key"), "DELETED\r\n");
  EXPECT_TRUE(eventually([&] { return lost.stop_requested(); }));
  EXPECT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::lost) == 1; }));
  EXPECT_EQ(lock.release(), mcl::Release::lost);
}

TEST_F(Restart, AnEpochThatSomebodyDeletedIsARestart) {
  const auto known = client();
  mcl::Lock holder(known, "key", with_guard(mcl::RestartGuard::known));
  holder.lock();
  ASSERT_EQ(server.ask("delete memcachedlock:^server"), "DELETED\r\n");
  EXPECT_FALSE(mcl::Lock(known, "other", with_guard(mcl::RestartGuard::known)).try_lock());
  EXPECT_EQ(recorder->count(mcl::EventKind::restart_seen), 1);
  EXPECT_TRUE(holder.extend());  // it holds what it held
  EXPECT_EQ(holder.release(), mcl::Release::released);
  mcl::Lock unguarded(known, "third", with_guard(mcl::RestartGuard::off));
  EXPECT_TRUE(unguarded.try_lock());
  EXPECT_GT(unguarded.fencing_token(), holder.fencing_token());
}

// Fault: a small server evicts what it was given. Promise: a holder that renews learns of it, and
// the loss of the epoch counts as a restart.
TEST(Eviction, IsLearnedAtTheNextRenewal) {
  const LocalServer small({"-m", "2"});
  mcl::ClientOptions options;
  const auto recorder = std::make_shared<Recorder>();
  options.observer = recorder;
  const mcl::MemcachedClient client(small.address(), options);
  const mcl::LockOptions long_lease{.timeout = 1h};
  // A renewal keeps it from eviction, so there is some time between two.
  mcl::Lock lock(client, "key", {.timeout = 9s, .renew = true});
  lock.lock();
  mcl::Lock idle(client, "idle", long_lease);
  idle.lock();
  const auto lost = lock.lost();
  // Items of about the size of ours, so that their slab classes have to evict.
  const auto fill = [&](int round) {
    std::string commands;
    for (std::size_t size = 16; size <= 192; size += 16) {
      for (int i = 0; i < 1000; ++i) {
        commands += "set f" + std::to_string(round) + "-" + std::to_string(size) + "-" +
                    std::to_string(i) + " 0 0 " + std::to_string(size) + " noreply\r\n" +
                    std::string(size, 'x') + "\r\n";
      }
    }
    small.ask(commands + "version");
  };
  int round = 0;
  // Not looked at in between, as that would keep it.
  ASSERT_TRUE(eventually([&] {
    fill(++round);
    return lost.stop_requested();
  }));
  ASSERT_TRUE(eventually([&] {
    for (int i = 0; i < 20; ++i) fill(++round);
    return small.get("memcachedlock:^server").empty() && small.get("memcachedlock:idle").empty();
  }));
  EXPECT_EQ(lock.release(), mcl::Release::lost);
  EXPECT_FALSE(mcl::Lock(client, "idle", long_lease).try_lock());
  EXPECT_EQ(recorder->count(mcl::EventKind::restart_seen), 1);
  EXPECT_EQ(idle.release(), mcl::Release::lost);
}

// Fault: the server closes idle connections. Promise: nobody notices.
TEST(IdleConnections, AreMadeAnew) {
  const LocalServer server({"-o", "idle_timeout=1"});
  const mcl::MemcachedClient client(server.address());
  const auto dropped = [&] {
    const std::string stats = server.ask("stats", "END\r\n");
    const auto place = stats.find("STAT idle_kicks ");
    return std::stoi(stats.substr(place + 16));
  };
  mcl::Lock lock(client, "key");
  lock.lock();
  ASSERT_TRUE(eventually([&] { return dropped() >= 1; }));
  EXPECT_TRUE(lock.extend());
  ASSERT_TRUE(eventually([&] { return dropped() >= 2; }));
  EXPECT_EQ(lock.release(), mcl::Release::released);
  ASSERT_TRUE(eventually([&] { return dropped() >= 3; }));
  EXPECT_TRUE(lock.try_lock());
}

// Fault: a host name stops resolving. Promise: open connections go on; new ones are an error that
// names the server, and work again when the name does.
TEST(HostNames, MayStopResolving) {
  const pid_t child = fork();
  if (child == 0) {
    constexpr int not_permitted = 77;
    std::string hosts = "/tmp/memcachedlock-hosts-XXXXXX";
    close(mkstemp(hosts.data()));
    const auto set_hosts = [&](const std::string& line) { std::ofstream(hosts) << line << '\n'; };
    set_hosts("127.0.0.1 lock-server.test");
    // A view of /etc/hosts for this process alone.
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount(hosts.c_str(), "/etc/hosts", nullptr, MS_BIND, nullptr) != 0) {
      unlink(hosts.c_str());
      _exit(not_permitted);
    }
    bool well = true;
    {
      LocalServer server;
      const std::string name = "lock-server.test:" + std::to_string(server.port());
      const mcl::MemcachedClient client(name);
      mcl::Lock lock(client, "key", {.restart_guard = mcl::RestartGuard::off});
      lock.lock();
      set_hosts("127.0.0.1 localhost");
      well = lock.extend() && lock.release() == mcl::Release::released;
      server.stop();
      server.start();
      try {
        lock.lock();
        well = false;
      } catch (const mcl::Unavailable& error) {
        well = well && error.server() == name;
      }
      set_hosts("127.0.0.1 lock-server.test");
      lock.lock();
      well = well && lock.release() == mcl::Release::released;
    }
    unlink(hosts.c_str());
    _exit(well ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
    GTEST_SKIP() << "a mount of its own is not permitted here";
  }
  EXPECT_EQ(status, 0);
}

TEST_F(Restart, AnUnansweredAcquireIsTakenAwayAgain) {
  const auto shared = client();
  mcl::Lock first(shared, "first");
  first.lock();  // so that the server is known, and the next request is the acquire itself
  server.pause();
  EXPECT_THROW(lock_once(mcl::Lock(shared, "key", {.timeout = 1h})), mcl::Unavailable);
  server.resume();
  EXPECT_TRUE(eventually([&] { return mcl::Lock(client(), "key").try_lock(); }));
}

// Fault: all connections wait for a server that does not answer. Promise: a request that needs one
// more waits for it no longer than its limit, and fails with the cause.
TEST_F(Restart, ConnectionsAreNeverMoreThanAllowed) {
  options.connections = 1;
  options.operation_timeout = 1s;
  const auto shared = client();
  { lock_once(mcl::Lock(shared, "key")); }
  server.pause();
  std::atomic<int> no_connection{0};
  const auto ask_all_at_once = [&] {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        try {
          lock_once(mcl::Lock(shared, "key" + std::to_string(i)));
        } catch (const mcl::Unavailable& error) {
          const std::string what = error.what();
          if (what.find("ClientOptions::connections") != std::string::npos) ++no_connection;
        }
      });
    }
  };
  EXPECT_TRUE(eventually([&] {
    ask_all_at_once();
    return no_connection > 0;
  }));
  server.resume();
  EXPECT_TRUE(mcl::Lock(shared, "another").try_lock_for(30s));
}

TEST_F(Restart, AnUnprotectedLockIsEnteredAgainUnprotected) {
  server.stop();
  mcl::RLock lock(client(), "key", {.on_unavailable = mcl::OnUnavailable::proceed});
  lock.lock();
  lock.lock();
  EXPECT_FALSE(lock.extend());
  EXPECT_EQ(lock.release(), mcl::Release::unavailable);
  EXPECT_EQ(lock.release(), mcl::Release::unavailable);
  EXPECT_THROW((void)lock.release(), std::system_error);
}

// Fault: a restart is only seen with the reply of an acquire that has landed.
// Promise: that is taken back.
TEST_F(Restart, AnAcquireThatTheGuardRefusesIsTakenBack) {
  const auto known = client();
  mcl::Lock holder(known, "key", {.timeout = 1h});
  holder.lock();
  server.ask("flush_all");
  EXPECT_FALSE(mcl::Lock(known, "other", {.timeout = 1h}).try_lock());
  EXPECT_EQ(server.get("memcachedlock:other"), "");
}

TEST_F(Restart, ProceedingTellsTheObserver) {
  server.stop();
  mcl::Lock lock(client(), "key", {.on_unavailable = mcl::OnUnavailable::proceed});
  EXPECT_TRUE(lock.try_lock());
  EXPECT_FALSE(lock.owns_lock());
  EXPECT_FALSE(lock.fencing_token());
  EXPECT_EQ(recorder->count(mcl::EventKind::proceeded_unlocked), 1);
  EXPECT_EQ(lock.release(), mcl::Release::unavailable);
}

TEST(Observer, AnExceptionBreaksNothingAndTheLogIsOneLineAnEvent) {
  struct Throwing : mcl::Observer {
    void on_event(const mcl::Event&) override { throw 42; }
  };
  const LocalServer server;
  mcl::ClientOptions options;
  options.observer = std::make_shared<Throwing>();
  mcl::Lock lock(mcl::MemcachedClient(server.address(), options), "key");
  lock.lock();
  EXPECT_EQ(lock.release(), mcl::Release::released);

  std::vector<std::string> lines;
  options.observer =
      std::make_shared<mcl::LogObserver>([&](std::string_view line) { lines.emplace_back(line); });
  mcl::Lock logged(mcl::MemcachedClient(server.address(), options), "a\nb", {.scope = "s"});
  logged.lock();
  logged.unlock();
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].rfind("memcachedlock acquired key=\"a?b\" scope=\"s\" server=127.0.0.1:", 0),
            0U)
      << lines[0];
  EXPECT_EQ(lines[1].rfind("memcachedlock released ", 0), 0U);
  for (const std::string& line : lines) EXPECT_EQ(line.find('\n'), line.size() - 1);
}

}  // namespace
