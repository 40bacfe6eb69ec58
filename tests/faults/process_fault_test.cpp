// Holders that are killed, stopped, forked, replaced or starved, and their clocks set, with real
// processes. Each test says the fault and what must hold all the same.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <random>
#include <thread>

#include "memcachedlock/memcachedlock.hpp"
#include "support/between_processes.hpp"
#include "support/fault_proxy.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

/// A store shared by processes that refuses a writer with a lower token than it has seen.
struct Store {
  std::atomic<std::uint64_t> epoch{0};
  std::atomic<std::uint64_t> sequence{0};
  bool write(mcl::FencingToken token) {
    if (token < mcl::FencingToken{epoch, sequence}) return false;
    epoch = token.epoch;
    sequence = token.sequence;
    return true;
  }
};

class ProcessFaults : public testing::Test {
 protected:
  ProcessFaults() { options.observer = recorder; }
  [[nodiscard]] mcl::MemcachedClient client() const {
    return mcl::MemcachedClient(server.address(), options);
  }
  /// Seconds that memcached will keep an item, by its own count.
  [[nodiscard]] int ttl(const std::string& item) const {
    const std::string answer = server.ask("mg " + item + " t");
    const auto place = answer.find(" t");
    return place == std::string::npos ? -1 : std::stoi(answer.substr(place + 2));
  }
  LocalServer server;
  mcl::ClientOptions options;
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
};

// Fault: SIGKILL of a holder that renews. Promise: the next waits for the rest of the lease and the
// rounding, no longer.
TEST_F(ProcessFaults, AKilledHolderKeepsTheLockNoLongerThanItsLease) {
  Signal held;
  const pid_t child = in_child([&] {
    mcl::Lock lock(client(), "key", {.timeout = 1500ms, .renew = true});
    lock.lock();
    held.send();
    pause();
    return false;
  });
  held.wait();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_LE(ttl("memcachedlock:key"), 2 + 15);  // src/server/server_clock.hpp
  mcl::Lock next(client(), "key");
  next.lock();
  EXPECT_EQ(next.release(), mcl::Release::released);
}

// Fault: SIGSTOP of a holder until another has the lock, then SIGCONT. Promise: it finds the lease
// lost before it does anything else, a store refuses it, its release leaves the new holder alone.
TEST_F(ProcessFaults, AStoppedHolderFindsItsLeaseLost) {
  for (const bool renew : {false, true}) {
    SCOPED_TRACE(renew);
    Signal held;
    Shared<Store> store;
    const pid_t child = in_child([&] {
      mcl::Lock lock(client(), "key", {.timeout = 900ms, .renew = renew});
      lock.lock();
      const auto lost = lock.lost();
      if (!lock.owns_lock() || !store->write(lock.fencing_token())) return false;
      held.send();
      raise(SIGSTOP);
      // The very first thing after it goes on.
      if (lock.owns_lock() || lock.remaining() != 0ms) return false;
      if (store->write(lock.fencing_token())) return false;
      if (lock.extend()) return false;
      if (!eventually([&] { return lost.stop_requested(); })) return false;
      return lock.release() == mcl::Release::lost;
    });
    held.wait();
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
    ASSERT_TRUE(WIFSTOPPED(status));
    mcl::Lock next(client(), "key");
    next.lock();
    EXPECT_TRUE(store->write(next.fencing_token()));
    kill(child, SIGCONT);
    EXPECT_TRUE(ended_well(child));
    EXPECT_TRUE(store->write(next.fencing_token()));
    EXPECT_EQ(next.release(), mcl::Release::released);
  }
}

// Fault: fork while held and renewed. Promise: the child neither owns, renews nor releases, also
// when it ends in the ordinary way; the parent's connection works on; both can lock afterwards.
TEST_F(ProcessFaults, AForkedChildDoesNotDisturbItsParent) {
  auto shared = client();
  mcl::Lock lock(shared, "key", {.timeout = 3s, .renew = true});
  lock.lock();
  const auto lost = lock.lost();
  ASSERT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::extended) >= 1; }));
  for (int round = 0; round < 5; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      bool well = !lock.owns_lock() && !lock.lease().owns_lock() && lock.remaining() == 0ms;
      try {
        (void)lock.release();
        well = false;
      } catch (const std::system_error&) {  // nothing is held here
      }
      const int extended = recorder->count(mcl::EventKind::extended);
      mcl::Lock other(shared, "other", {.timeout = 30s, .renew = true});
      other.lock();
      well = well && other.release() == mcl::Release::released;
      well = well && !mcl::Lock(shared, "key").try_lock();
      mcl::Lock long_held(shared, "another", {.timeout = 60ms, .renew = true});
      long_held.lock();
      well = well && eventually([&] {
               return recorder->count(mcl::EventKind::extended) >= extended + 2 ||
                      !long_held.owns_lock();
             });
      std::exit(well ? 0 : 1);  // with destructors of static storage and atexit
    }
    EXPECT_TRUE(ended_well(child));
    EXPECT_TRUE(lock.owns_lock());
    EXPECT_TRUE(lock.extend());
  }
  EXPECT_FALSE(lost.stop_requested());
  EXPECT_EQ(lock.release(), mcl::Release::released);
  EXPECT_TRUE(mcl::Lock(shared, "key").try_lock());
}

// Fault: exec while held. Promise: the new program inherits no connection.
TEST_F(ProcessFaults, ExecInheritsNoConnection) {
  mcl::Lock lock(client(), "key");
  lock.lock();
  const std::string file = "/tmp/memcachedlock-fds-" + std::to_string(getpid());
  ASSERT_EQ(std::system(("ls -l /proc/self/fd > " + file).c_str()), 0);
  std::ifstream listing(file);
  const std::string text((std::istreambuf_iterator<char>(listing)), {});
  EXPECT_NE(text.find("/proc/"), std::string::npos) << text;
  EXPECT_EQ(text.find("socket:"), std::string::npos) << text;
  unlink(file.c_str());
}

// Fault: the process ends with leases out and renewal running. Promise: it ends, and what static
// storage holds is released.
TEST_F(ProcessFaults, ExitWithLeasesOutEnds) {
  const pid_t child = fork();
  if (child == 0) {
    static mcl::Lock in_static_storage(client(), "static", {.timeout = 60ms, .renew = true});
    in_static_storage.lock();
    auto* never_released = new mcl::Lock(client(), "leaked", {.timeout = 60ms, .renew = true});
    never_released->lock();
    mcl::Lock* const volatile reachable = never_released;
    (void)reachable;
    const auto lost = in_static_storage.lost();
    if (!eventually([&] { return recorder->count(mcl::EventKind::extended) >= 4; })) _exit(1);
    std::exit(0);
  }
  EXPECT_TRUE(ended_well(child));
  EXPECT_TRUE(mcl::Lock(client(), "static").try_lock());
  EXPECT_TRUE(eventually([&] { return mcl::Lock(client(), "leaked").try_lock(); }));
}

/// Holds up the thread that tells it of an extension: the background thread gets no further.
class Obstacle : public mcl::Observer {
 public:
  void on_event(const mcl::Event& event) override {
    if (event.kind != mcl::EventKind::extended) return;
    std::unique_lock lock(mutex_);
    stuck_ = true;
    changed_.wait(lock, [&] { return open_; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  bool stuck() {
    const std::lock_guard lock(mutex_);
    return stuck_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  bool stuck_ = false;
};

// Fault: the thread that renews gets no further. Promise: the holder is notified before another can
// have the lock.
TEST_F(ProcessFaults, ARenewalThatGetsNoFurtherIsALoss) {
  const auto obstacle = std::make_shared<Obstacle>();
  options.observer = obstacle;
  mcl::Lock lock(client(), "key", {.timeout = 1s, .renew = true});
  lock.lock();
  const auto lost = lock.lost();
  ASSERT_TRUE(eventually([&] { return obstacle->stuck(); }));
  mcl::Lock next(client(), "key");
  next.lock();  // once memcached has expired it
  EXPECT_TRUE(lost.stop_requested());
  EXPECT_FALSE(lock.owns_lock());
  obstacle->open();
  EXPECT_EQ(lock.release(), mcl::Release::lost);
  EXPECT_EQ(next.release(), mcl::Release::released);
}

// Fault: a release at any moment of a renewal. Promise: after it nothing is sent for that lock.
TEST_F(ProcessFaults, NothingIsSentAfterTheRelease) {
  FaultProxy proxy(server.port());
  const mcl::MemcachedClient counted(proxy.address(), options);
  std::minstd_rand random(1);
  for (int round = 0; round < 40; ++round) {
    mcl::Lock lock(counted, "key", {.timeout = 60ms, .renew = true});
    lock.lock();
    const int wanted = static_cast<int>(random() % 4);
    const int before = recorder->count(mcl::EventKind::extended);
    const int cut_off = recorder->count(mcl::EventKind::unavailable);
    ASSERT_TRUE(eventually([&] {
      return recorder->count(mcl::EventKind::extended) >= before + wanted || !lock.owns_lock();
    }));
    (void)lock.release();
    // Ours is gone from the moment on which release() returned.
    EXPECT_EQ(server.get("memcachedlock:key"), "");
    const std::size_t sent = proxy.requested();
    mcl::Lock other(client(), "other", {.timeout = 60ms, .renew = true});
    other.lock();
    const int now = recorder->count(mcl::EventKind::extended);
    ASSERT_TRUE(eventually([&] {  // a third of a lease passes each time
      return recorder->count(mcl::EventKind::extended) >= now + 3 || !other.owns_lock();
    }));
    // A renewal that took too long was sent before, and may be on its way still.
    if (recorder->count(mcl::EventKind::unavailable) == cut_off) {
      EXPECT_EQ(proxy.requested(), sent);
    }
    EXPECT_EQ(server.get("memcachedlock:key"), "");
  }
}

// Fault: destruction, extend, move, fork-less exit of threads and loss at any moment of a renewal.
// Promise: no crash, no race, no lock left behind.
TEST_F(ProcessFaults, RenewalMeetsEverythingAtAnyMoment) {
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([this, seed] {
      const auto shared = client();
      std::minstd_rand random(seed + 1);
      for (int round = 0; round < 150; ++round) {
        mcl::Lock lock(shared, "key" + std::to_string(seed), {.timeout = 30ms, .renew = true});
        lock.lock();
        const auto lost = lock.lost();
        const auto until = std::chrono::steady_clock::now() + random() % 12'000 * 1us;
        while (std::chrono::steady_clock::now() < until && !lost.stop_requested()) {
          std::this_thread::yield();
        }
        switch (random() % 4) {
          case 0:
            (void)lock.extend();
            break;
          case 1: {
            const mcl::Lock moved(std::move(lock));
            break;
          }
          case 2:
            (void)lock.release();
            break;
          default:  // the destructor
            break;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(
        eventually([&] { return mcl::Lock(client(), "key" + std::to_string(i)).try_lock(); }));
  }
}

// Fault: an observer forks while its thread stands in line behind another. Promise: the child waits
// on, by itself.
class ForkedWaiters : public testing::TestWithParam<bool> {};

TEST_P(ForkedWaiters, GoOnWaiting) {
  const LocalServer server;
  struct Forking : mcl::Observer {
    void on_event(const mcl::Event& event) override {
      if (event.kind != mcl::EventKind::contended || ++contended != 2) return;
      child = fork();
      if (child != 0) return;
      is_child = true;
      // The child asks when the lock is free: what it writes must not be in its parent's name.
      if (waits_until_free)
        (void)eventually([&] { return server.get("memcachedlock:key").empty(); });
    }
    explicit Forking(const LocalServer& its_server, bool waits)
        : server(its_server), waits_until_free(waits) {}
    const LocalServer& server;
    const bool waits_until_free;
    std::atomic<int> contended{0};
    std::atomic<pid_t> child{-1};
    std::atomic<bool> is_child{false};
  };
  const auto forking = std::make_shared<Forking>(server, GetParam());
  const mcl::MemcachedClient client(server.address(), {.observer = forking});
  mcl::Lock holder(client, "key");
  holder.lock();
  std::thread first([&] { lock_once(mcl::Lock(client, "key")); });
  ASSERT_TRUE(eventually([&] { return forking->contended == 1; }));
  std::thread second([&] {
    mcl::Lock lock(client, "key");
    const bool held = lock.try_lock_for(30s);
    if (forking->is_child) _exit(held && lock.release() == mcl::Release::released ? 0 : 1);
    EXPECT_TRUE(held);
  });
  ASSERT_TRUE(eventually([&] { return forking->child > 0; }));
  holder.unlock();
  first.join();
  second.join();
  EXPECT_TRUE(ended_well(forking->child));
}
INSTANTIATE_TEST_SUITE_P(, ForkedWaiters, testing::Values(false, true), [](const auto& setting) {
  return setting.param ? "WhenItIsFree" : "AtOnce";
});

}  // namespace
