// Waiters that are told that they hold the lock, by datagrams that come as they should, late, more
// than once, from strangers, or not at all.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <ctime>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"
#include "support/between_processes.hpp"
#include "support/hand_written.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"
#include "support/loopback.hpp"
#include "support/queued.hpp"
#include "support/recorder.hpp"
#include "support/reserved_port.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

class Told : public HandWritten {
 protected:
  /// Where a waiter is told, as its entry says; 0 if it can't be.
  [[nodiscard]] int port(const std::string& token = "") const {
    return static_cast<int>(number("[?*]" + token + "[^ ]*:7f000001\\.([0-9]+):"));
  }
  [[nodiscard]] std::string waiting_token() const { return part("[?*]([0-9a-f]{32}\\.[0-9]+):x:"); }
  static void send(int port, const std::string& text) {
    const int from = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const sockaddr_in to = loopback(port);
    EXPECT_EQ(sendto(from, text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&to),
                     sizeof to),
              static_cast<ssize_t>(text.size()));
    close(from);
  }
  /// What whoever let this one in tells it, by the record as it is.
  [[nodiscard]] std::string message(const std::string& token) const {
    const std::string found = server.ask("gets memcachedlock:key\r\n", "END\r\n");
    const std::string item = server.ask("gets memcachedlock:^server\r\n", "END\r\n");
    std::smatch cas;
    std::smatch known;
    EXPECT_TRUE(std::regex_search(found, cas, std::regex("VALUE [^ ]+ 0 [0-9]+ ([0-9]+)")));
    EXPECT_TRUE(std::regex_search(item, known,
                                  std::regex("VALUE [^ ]+ 0 [0-9]+ ([0-9]+)\r\nmcl-server1 "
                                             "([0-9a-f]+) ")));
    return "mcl-grant1 " + token + " " + std::to_string(std::stoull(known[2], nullptr, 16)) + " " +
           known[1].str() + " " + cas[1].str() + " alone mcl2 " + part("^mcl2 ([0-9]+) ") + " *" +
           part("[?*](" + token + "[^ ]*)");
  }
  /// Lets the first waiter in, and tells it.
  void let_in() const {
    const int at = port();
    const std::string said = message(waiting_token());
    append(" -held.1");
    send(at, said);
  }
  /// A lock that somebody has held for long, and that this process waits for.
  void put_holder() const {
    put("mcl2 " + time_in(7'200) + " +" + entry("held.1", time_in(3'600)));
  }

  const std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  const mcl::MemcachedClient client{server.address(), {.observer = recorder}};
};

// Processes that hand a lock to each other, each with two threads: nearly all are told, in order.
TEST_F(Told, WhoWaitsIsTold) {
  constexpr int processes = 4;
  constexpr int times = 100;
  Shared<std::atomic<int>> told;
  Shared<std::atomic<int>> found;
  Shared<std::atomic<int>> inside;
  std::vector<pid_t> children;
  for (int i = 0; i < processes; ++i) {
    children.push_back(in_child([&] {
      const auto mine = std::make_shared<Recorder>();
      const mcl::MemcachedClient own(server.address(), {.observer = mine});
      bool alone = true;
      std::vector<std::jthread> threads;
      for (int t = 0; t < 2; ++t) {
        threads.emplace_back([&] {
          for (int n = 0; n < times; ++n) {
            mcl::Lock lock(own, "key");
            lock.lock();
            alone = inside->fetch_add(1) == 0 && alone;
            --*inside;
          }
        });
      }
      threads.clear();
      *told += mine->count(mcl::GrantKind::told);
      *found += mine->count(mcl::GrantKind::found);
      return alone;
    }));
  }
  for (const pid_t child : children) EXPECT_TRUE(ended_well(child));
  EXPECT_GT(*told, *found);
}

// Promise: nothing but the token of a wait that is going on makes anybody hold a lock.
TEST_F(Told, StrangersAreNotHeard) {
  put_holder();
  std::atomic<bool> has{false};
  std::jthread waiter([&] {
    auto lock = stranger(client, 1h);
    lock.lock();
    has = true;
  });
  ASSERT_TRUE(eventually([&] { return port() != 0; }));
  const std::string token = waiting_token();
  const std::string process = token.substr(0, 32);
  const std::string good = message(token);
  const std::string rest = good.substr(good.find(' ', 12));
  std::string flipped = token;
  flipped[31] = flipped[31] == '0' ? '1' : '0';
  const std::string junk[] = {
      "", "x", std::string(1'200, ' '), std::string(9'000, 'x'), "mcl-grant1 ",
      "mcl-grant1 " + process, "mcl-grant1 " + process + rest, "mcl-grant1 " + process + "." + rest,
      "mcl-grant1 " + process + ".999999" + rest, "mcl-grant1 " + flipped + rest,
      "mcl-grant2 " + token + rest, "mcl-grant1 " + token,
      "mcl-grant1 " + token + " 1 1 x alone mcl2 0",
      "mcl-grant1 " + token + " 1 1 7 half " + record(),
      // Whom the record does not name looks for itself.
      "mcl-grant1 " + token + " 1 1 7 alone ", "mcl-grant1 " + token + " 1 1 7 alone mcl3 0",
      "mcl-grant1 " + token + " 1 1 7 others mcl2 0 +t.1:x"};
  for (int round = 0; round < 20; ++round) {
    for (const std::string& text : junk) send(port(), text);
  }
  ASSERT_TRUE(eventually([&] { return server.counted({"cmd_get"}) > 40; }));
  EXPECT_FALSE(has);
  EXPECT_EQ(recorder->count(mcl::GrantKind::told), 0);
  let_in();
  waiter.join();
  EXPECT_TRUE(has);
}

// Fault: a datagram comes twice, or when its receiver waits again. Promise: it counts once.
TEST_F(Told, AMessageOfAnEarlierWaitIsNotHeard) {
  put_holder();
  std::string said;
  int at = 0;
  {
    std::jthread waiter([&] { lock_once(stranger(client, 1h)); });
    ASSERT_TRUE(eventually([&] { return port() != 0; }));
    at = port();
    const std::string token = waiting_token();
    said = message(token);
    append(" -held.1");
    send(at, said);
  }
  put_holder();
  std::atomic<bool> has{false};
  std::jthread waiter([&] {
    auto lock = stranger(client, 1h);
    lock.lock();
    has = true;
  });
  ASSERT_TRUE(eventually([&] { return port() == at; }));
  for (int i = 0; i < 20; ++i) send(at, said);
  const long before = server.counted({"cmd_get"});
  ASSERT_TRUE(eventually([&] { return server.counted({"cmd_get"}) > before + 2; }));
  EXPECT_FALSE(has);
  append(" -held.1");
}

// Fault: the process is stopped while it waits, is let in, taken out again, and told of the first
// only then. Promise: it does not hold what another holds.
TEST_F(Told, AMessageThatComesTooLateIsNotBelieved) {
  put_holder();
  Shared<std::atomic<int>> state;
  const pid_t child = in_child([&] {
    const mcl::MemcachedClient own(server.address());
    mcl::Lock lock(own, "key", {.timeout = 300ms});
    *state = 1;
    lock.lock();
    *state = 2;
    return lock.release() == mcl::Release::released;
  });
  ASSERT_TRUE(eventually([&] { return port() != 0; }));
  kill(child, SIGSTOP);
  const std::string token = waiting_token();
  const int at = port();
  const std::string said = message(token);
  append(" -held.1");
  std::this_thread::sleep_for(400ms);  // longer than it may count
  append(" !" + token + ":0 !" + token + ":1 ?" + entry("next.1", time_in(3'600)));
  send(at, said);
  kill(child, SIGCONT);
  ASSERT_TRUE(eventually([&] { return queued(server) == 1; }));  // it has come anew, behind that
  EXPECT_EQ(*state, 1);
  append(" -next.1");
  EXPECT_TRUE(ended_well(child));
}

// Promise: with messages switched off, or not to be had, all works, and nobody opens a socket.
TEST_F(Told, WithoutMessagesAllFindOut) {
  for (const bool by_environment : {false, true}) {
    put_holder();
    const pid_t child = in_child([&] {
      if (by_environment) setenv("MEMCACHEDLOCK_NOTIFY", "off", 1);
      const auto mine = std::make_shared<Recorder>();
      const mcl::MemcachedClient own(server.address(),
                                     {.notify = by_environment, .observer = mine});
      auto lock = stranger(own, 1h);
      lock.lock();
      EXPECT_EQ(mine->count(mcl::GrantKind::told), 0);
      EXPECT_EQ(mine->count(mcl::GrantKind::found), 1);
      return lock.release() == mcl::Release::released;
    });
    ASSERT_TRUE(eventually([&] { return queued(server) == 1; }));
    EXPECT_EQ(port(), 0) << record();
    append(" -held.1");
    EXPECT_TRUE(ended_well(child));
  }
}

// Fault: whoever lets a waiter in tells nobody. Promise: those in the queue get in all the same.
TEST_F(Told, WhatIsLostIsFound) {
  constexpr int waiters = 5;
  put_holder();
  std::vector<std::jthread> all;
  std::atomic<int> got{0};
  const mcl::MemcachedClient silent(server.address(), {.notify = false});
  for (int i = 0; i < waiters; ++i) {
    all.emplace_back([&] {
      auto lock = stranger(client, 1h);
      lock.lock();
      ++got;
    });
  }
  ASSERT_TRUE(eventually([&] { return queued(server) == waiters; }));
  append(" -held.1");
  EXPECT_TRUE(eventually([&] { return got == waiters; }));
  all.clear();
  EXPECT_GE(recorder->count(mcl::GrantKind::found), 1);
  EXPECT_EQ(record(), "");
}

// One thread reads for all of its process, and another when that one gives up.
TEST_F(Told, OneReadsForAllAndAnotherAfterIt) {
  put_holder();
  std::stop_source stop;
  std::atomic<bool> has{false};
  std::jthread first([&] {
    auto lock = stranger(client, 1h);
    EXPECT_THROW(lock.lock(stop.get_token()), mcl::Cancelled);
  });
  ASSERT_TRUE(eventually([&] { return queued(server) == 1; }));
  std::jthread second([&] {
    auto lock = stranger(client, 1h);
    lock.lock();
    has = true;
  });
  ASSERT_TRUE(eventually([&] { return queued(server) == 2; }));
  stop.request_stop();
  first.join();
  ASSERT_TRUE(eventually([&] { return queued(server) == 1; }));
  const auto waiting = mcl::inspect(mcl::MemcachedClient(server.address()), "key")->waiters;
  const int at = port();
  const std::string said = message(waiting.at(0).token);
  append(" -held.1");
  send(at, said);
  second.join();
  EXPECT_TRUE(has);
  EXPECT_EQ(recorder->count(mcl::GrantKind::told) + recorder->count(mcl::GrantKind::found), 1);
}

// Fault: the program closes all descriptors, ours too. Promise: nobody spins, and the lock comes.
TEST_F(Told, ClosedDescriptorsAreMadeAnew) {
  put_holder();
  const pid_t child = in_child([&] {
    const mcl::MemcachedClient own(server.address());
    auto lock = stranger(own, 1h);
    std::jthread waiter([&] { lock.lock(); });
    EXPECT_TRUE(eventually([&] { return port() != 0; }));
    closefrom(3);
    const auto began = std::chrono::steady_clock::now();
    const std::clock_t used = std::clock();
    waiter.join();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    const double busy = static_cast<double>(std::clock() - used) / CLOCKS_PER_SEC;
    EXPECT_LT(busy, took.count() / 2);
    return true;
  });
  EXPECT_TRUE(eventually([&] { return queued(server) == 1; }));
  std::this_thread::sleep_for(2s);  // in which it would spin
  append(" -held.1");
  EXPECT_TRUE(ended_well(child));
}

// A child has a socket of its own.
TEST_F(Told, AForkedChildIsToldItself) {
  put_holder();
  std::jthread waiter([&] { lock_once(stranger(client, 1h)); });
  ASSERT_TRUE(eventually([&] { return port() != 0; }));
  const pid_t child = in_child([&] {
    auto lock = stranger(client, 1h);
    lock.lock();
    return lock.release() == mcl::Release::released;
  });
  ASSERT_TRUE(eventually([&] { return queued(server) == 2; }));
  const auto waiters = mcl::inspect(mcl::MemcachedClient(server.address()), "key")->waiters;
  const int of_parent = port(waiters.at(0).token);
  const int of_child = port(waiters.at(1).token);
  EXPECT_NE(of_child, 0);
  EXPECT_NE(of_child, of_parent);
  const std::string said = message(waiters.at(1).token);
  append(" -" + waiters.at(0).token + " -held.1");
  send(of_child, said);
  EXPECT_TRUE(ended_well(child));
}

// Promise: what is reserved soon after it was told, and taken up again, has its whole lease.
TEST_F(Told, AReservationIsTakenUpForTheWholeLease) {
  put_holder();
  struct Conflict {};
  mcl::ZLock<Conflict> lock(client, "key",
                            {.timeout = 1h, .owner = mcl::OwnerId::unique(), .reservation = 1h});
  std::jthread waiter([&] {
    lock.lock();
    lock.reserve();
    lock.lock();
  });
  ASSERT_TRUE(eventually([&] { return port() != 0; }));
  let_in();
  waiter.join();
  EXPECT_GT(lock.remaining(), 50min);
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

/// Forks when a waiter of its process learns that it holds the lock.
class Forks : public Recorder {
 public:
  void on_grant(std::string_view server, mcl::GrantKind kind) override {
    Recorder::on_grant(server, kind);
    if (child == -1) child = fork();
  }
  pid_t child = -1;
};

// Fault: the process is copied just when it learns that it holds the lock. Promise: the copy does
// not hold it, and takes nothing from the one that does.
TEST_F(Told, ACopyOfTheWaiterHoldsNothing) {
  for (const bool is_told : {true, false}) {
    put_holder();
    const auto forks = std::make_shared<Forks>();
    Shared<std::atomic<int>> state;
    const pid_t process = in_child([&] {
      const mcl::MemcachedClient own(server.address(), {.notify = is_told, .observer = forks});
      auto lock = stranger(own, 1h);
      const bool got = lock.try_lock_for(60s);
      if (forks->child == 0) {  // it waits until the other has released it
        if (*state != 1) *state = 3;
        _exit(got && lock.release() == mcl::Release::released ? 0 : 1);
      }
      if (!got || !lock.extend() || !eventually([&] { return queued(server) == 1; })) return false;
      if (!lock.extend()) return false;
      ++*state;
      return lock.release() == mcl::Release::released && ended_well(forks->child);
    });
    ASSERT_TRUE(eventually([&] { return queued(server) == 1; }));
    const std::string token = waiting_token();
    const int at = port();
    const std::string said = message(token);
    append(" -held.1");
    if (is_told) send(at, said);
    EXPECT_TRUE(ended_well(process));
    EXPECT_EQ(*state, 1);
  }
}

// Promise: whoever has the port of a waiter that died does not learn the tokens of others there.
TEST_F(Told, AMessageHasOnlyItsReceiversToken) {
  const int port = reserve_port();
  const int spy = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  ASSERT_EQ(bind(spy, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  mcl::Lock holder(client, "key");
  holder.lock();
  append(" ?dead.1:x:1000:" + time_in(3'600) + ":0:1:7f000001." + std::to_string(port) +
         ":-@h:1:1");
  std::jthread waiter([&] { lock_once(stranger(client, 1h)); });
  ASSERT_TRUE(eventually([&] { return queued(server) == 2; }));
  EXPECT_EQ(holder.release(), mcl::Release::released);
  std::string heard(2'000, ' ');
  heard.resize(static_cast<std::size_t>(recv(spy, heard.data(), heard.size(), 0)));
  close(spy);
  EXPECT_TRUE(heard.starts_with("mcl-grant1 dead.1 ")) << heard;
  EXPECT_NE(heard.find(" others mcl2 "), std::string::npos) << heard;
  EXPECT_FALSE(std::regex_search(heard, std::regex("[0-9a-f]{32}"))) << heard;
  append(" -dead.1");
}

// Fault: NUMBER of the epoch was raised while it waited. Promise: its fencing token is higher than
// that of the holder before it, of whatever NUMBER.
TEST_F(Told, ATokenIsOfTheEpochInWhichItIsToldToHold) {
  put_holder();
  auto lock = stranger(client, 1h);
  std::jthread waiter([&] { lock.lock(); });
  ASSERT_TRUE(eventually([&] { return port() != 0; }));
  const std::string epoch = server.get("memcachedlock:^server");
  std::smatch match;
  ASSERT_TRUE(std::regex_match(epoch, match, std::regex("(mcl-server1 [0-9a-f]+ )([0-9]+)( .*)")));
  const std::uint64_t raised = std::stoull(match[2]) + 1'000'000;
  const std::string next = match[1].str() + std::to_string(raised) + match[3].str();
  (void)server.ask("set memcachedlock:^server 0 0 " + std::to_string(next.size()) + "\r\n" + next +
                   "\r\n");
  let_in();
  waiter.join();
  EXPECT_GE(lock.fencing_token().epoch, raised);
}

// Promise: a lease that began with a message is a whole one in memcached soon, and its loss is
// told.
TEST_F(Told, TheLeaseBeginsWhenItIsConfirmed) {
  put_holder();
  auto lock = stranger(client, 1h);
  std::jthread waiter([&] { lock.lock(); });
  ASSERT_TRUE(eventually([&] { return port() != 0; }));
  const std::string token = waiting_token();
  let_in();
  waiter.join();
  EXPECT_TRUE(lock.owns_lock());
  EXPECT_TRUE(eventually([&] { return lock.remaining() > 50min; }));
  EXPECT_EQ(part("[+=](" + token + "):"), token) << record();
  EXPECT_EQ(lock.release(), mcl::Release::released);

  // Taken out before it confirms: it learns that when it does.
  put_holder();
  std::jthread again([&] { lock.lock(); });
  ASSERT_TRUE(eventually([&] { return port() != 0; }));
  const std::string second = waiting_token();
  const int again_at = port();
  const std::string said_again = message(second);
  append(" -held.1 !" + second + ":0");
  send(again_at, said_again);
  again.join();
  const auto lost = lock.lost();
  EXPECT_TRUE(eventually([&] { return lost.stop_requested() || lock.remaining() > 50min; }));
}

}  // namespace
