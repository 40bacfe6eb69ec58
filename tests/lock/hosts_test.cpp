// Waiters on several hosts: network namespaces that the test makes itself, with links between them
// over which it can do what it likes. Only root can make them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include "memcachedlock/memcachedlock.hpp"
#include "support/between_processes.hpp"
#include "support/local_server.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

/// The server stands between two hosts, and passes on what they send each other:
///   one 10.77.1.2, fd77:1::2 - 10.77.1.1 server 10.77.2.1 - 10.77.2.2, fd77:2::2 two
/// Host two has another address besides, 192.168.77.2, which host one has no way to.
class Hosts : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0 || !run("ip netns add " + server)) {
      GTEST_SKIP() << "no network namespaces: this needs root, and iproute2";
    }
    made = true;
    for (const auto& [host, net] : {std::pair(one, "1"), std::pair(two, "2")}) {
      const std::string link = "l" + std::string(net);
      must("ip netns add " + host);
      must("ip -n " + server + " link add " + link + " type veth peer name eth netns " + host);
      must("ip -n " + host + " link set lo up");
      for (const auto& [end, interface, number] :
           {std::tuple(server, link, "1"), std::tuple(host, std::string("eth"), "2")}) {
        must("ip -n " + end + " addr add 10.77." + net + "." + number + "/24 dev " + interface);
        must("ip -n " + end + " -6 addr add fd77:" + net + "::" + number + "/64 dev " + interface +
             " nodad");
        must("ip -n " + end + " link set " + interface + " up");
      }
      must("ip -n " + host + " route add 10.77.0.0/16 via 10.77." + net + ".1");
      must("ip -n " + host + " -6 route add fd77::/16 via fd77:" + net + "::1");
    }
    must("ip -n " + server + " link set lo up");
    must("ip -n " + server + " addr add 192.168.77.1/24 dev l2");
    must("ip -n " + two + " addr add 192.168.77.2/24 dev eth");
    pass_on(true);
    // Its own port in a network of its own.
    memcached = in_host(server, [] {
      execlp("memcached", "memcached", "-u", "root", "-l", "0.0.0.0,::", "-p", "11211", nullptr);
      return false;
    });
    ASSERT_TRUE(reaches(one, "10.77.1.1:11211"));
  }
  void TearDown() override {
    if (memcached > 0) {
      kill(memcached, SIGTERM);
      (void)ended_well(memcached);
    }
    if (!made) return;
    for (const std::string& host : {server, one, two}) run("ip netns del " + host);
    if (!made_too.empty()) run("ip netns del " + made_too);
  }
  static bool run(const std::string& command) {
    return std::system((command + " 2>/dev/null").c_str()) == 0;
  }
  static void must(const std::string& command) {
    if (!run(command)) throw std::runtime_error("failed: " + command);
  }
  void pass_on(bool on) const {
    const std::string value = on ? "1" : "0";
    for (const char* const what : {"ipv4/ip_forward", "ipv6/conf/all/forwarding"}) {
      must("ip netns exec " + server + " sh -c 'echo " + value + " >/proc/sys/net/" + what + "'");
    }
  }
  static pid_t in_host(const std::string& host, const std::function<bool()>& body) {
    return in_child([&] {
      const int space = open(("/run/netns/" + host).c_str(), O_RDONLY | O_CLOEXEC);
      if (space < 0 || setns(space, CLONE_NEWNET) != 0) return false;
      close(space);
      return body();
    });
  }

  static bool reaches(const std::string& host, const std::string& address) {
    return eventually([&] {
      return ended_well(in_host(host, [&] {
        try {
          return mcl::Lock(mcl::MemcachedClient(address), "reached").try_lock();
        } catch (const mcl::Unavailable&) {
          return false;
        }
      }));
    });
  }

  /// What a process of one of the hosts is asked to do, and has seen.
  struct Seen {
    std::atomic<bool> waits{false};
    std::atomic<bool> holds{false};
    std::atomic<bool> leave{false};
    std::atomic<int> told{0};
    std::atomic<int> found{0};
    std::atomic<bool> lost{false};
  };
  /// Takes the lock, keeps it until it is to leave, and says how it got it.
  static pid_t user(const std::string& host, const std::string& address, Seen& seen,
                    std::chrono::milliseconds lease = 30s) {
    return in_host(host, [&, address, lease] {
      const auto recorder = std::make_shared<Recorder>();
      const mcl::MemcachedClient client(address,
                                        {.operation_timeout = 300ms, .observer = recorder});
      mcl::Lock lock(client, "key", {.timeout = lease});
      seen.waits = true;
      lock.lock();
      seen.told = recorder->count(mcl::GrantKind::told);
      seen.found = recorder->count(mcl::GrantKind::found);
      seen.holds = true;
      const auto lost = lock.lost();
      const bool left = eventually([&] {
        seen.lost = lost.stop_requested();
        return seen.leave.load();
      });
      return left && (lock.release() == mcl::Release::released || seen.lost);
    });
  }
  /// How many wait, as the server says.
  bool waits_for(int count) const {
    Shared<std::atomic<int>> waiters;
    return eventually([&] {
      const pid_t looks = in_host(one, [&] {
        const auto status = mcl::inspect(mcl::MemcachedClient("10.77.1.1:11211"), "key");
        *waiters = status ? static_cast<int>(status->waiters.size()) : 0;
        return true;
      });
      return ended_well(looks) && *waiters == count;
    });
  }
  static void leave(Seen& seen, pid_t pid) {
    seen.leave = true;
    EXPECT_TRUE(ended_well(pid));
  }

  const std::string name = "mcl" + std::to_string(getpid());
  const std::string server = name + "s";
  const std::string one = name + "a";
  const std::string two = name + "b";
  bool made = false;
  std::string made_too;
  pid_t memcached = -1;
};

TEST_F(Hosts, TellEachOtherOverBothProtocols) {
  int told = 0;
  for (const auto& [first, second] : {std::pair("10.77.1.1:11211", "10.77.2.1:11211"),
                                      std::pair("[fd77:1::1]:11211", "[fd77:2::1]:11211"),
                                      std::pair("10.77.1.1:11211", "[fd77:2::1]:11211")}) {
    // The first in the queue may look just when it is let in, so more than once.
    Shared<Seen> a;
    Shared<Seen> b;
    const pid_t holder = user(one, first, *a);
    ASSERT_TRUE(eventually([&] { return a->holds.load(); }));
    const pid_t waiter = user(two, second, *b);
    ASSERT_TRUE(waits_for(1));
    leave(*a, holder);
    ASSERT_TRUE(eventually([&] { return b->holds.load(); }));
    EXPECT_EQ(b->told + b->found, 1) << first;
    told += b->told;
    leave(*b, waiter);
  }
  EXPECT_GE(told, 2);
}

// Fault: hosts reach the server, but not each other. Promise: waiters find out.
TEST_F(Hosts, NeedNotReachEachOther) {
  pass_on(false);
  Shared<Seen> a;
  Shared<Seen> b;
  const pid_t holder = user(one, "10.77.1.1:11211", *a);
  ASSERT_TRUE(eventually([&] { return a->holds.load(); }));
  const pid_t waiter = user(two, "10.77.2.1:11211", *b);
  ASSERT_TRUE(waits_for(1));
  leave(*a, holder);
  EXPECT_TRUE(eventually([&] { return b->holds.load(); }));
  EXPECT_EQ(b->found, 1);
  leave(*b, waiter);
}

// Fault: a host has an address that others do not know, as in a container. Promise: its waiters
// find out, and it tells others.
TEST_F(Hosts, MayHaveAnAddressThatOthersDoNotKnow) {
  for (const bool hidden_waits : {true, false}) {
    Shared<Seen> a;
    Shared<Seen> b;
    const std::string hidden = "192.168.77.1:11211";
    const pid_t holder = hidden_waits ? user(one, "10.77.1.1:11211", *a) : user(two, hidden, *a);
    ASSERT_TRUE(eventually([&] { return a->holds.load(); }));
    const pid_t waiter = hidden_waits ? user(two, hidden, *b) : user(one, "10.77.1.1:11211", *b);
    ASSERT_TRUE(waits_for(1));
    leave(*a, holder);
    EXPECT_TRUE(eventually([&] { return b->holds.load(); }));
    EXPECT_EQ(b->told + b->found, 1);
    if (hidden_waits) {
      EXPECT_EQ(b->found, 1);
    }
    leave(*b, waiter);
  }
}

// Fault: a host stands behind address translation, here by host two. Promise: as above.
TEST_F(Hosts, MayStandBehindAddressTranslation) {
  const std::string inner = name + "c";
  must("ip netns add " + inner);
  made_too = inner;
  must("ip -n " + two + " link add inner type veth peer name eth netns " + inner);
  for (const auto& [end, interface, number] :
       {std::tuple(two, "inner", "1"), std::tuple(inner, "eth", "2")}) {
    must("ip -n " + end + " addr add 10.88.0." + number + "/24 dev " + interface);
    must("ip -n " + end + " link set " + interface + " up");
  }
  must("ip -n " + inner + " link set lo up");
  must("ip -n " + inner + " route add default via 10.88.0.1");
  const std::string in_two = "ip netns exec " + two + " ";
  must(in_two + "sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'");
  must(in_two + "nft add table ip nat");
  must(in_two + "nft 'add chain ip nat post { type nat hook postrouting priority 100; }'");
  must(in_two + "nft add rule ip nat post oifname eth masquerade");
  ASSERT_TRUE(reaches(inner, "10.77.2.1:11211"));
  int told = 0;
  for (int round = 0; round < 3; ++round) {
    for (const bool inner_waits : {true, false}) {
      Shared<Seen> a;
      Shared<Seen> b;
      const auto in_inner = [&](Seen& seen) { return user(inner, "10.77.2.1:11211", seen); };
      const auto outside = [&](Seen& seen) { return user(one, "10.77.1.1:11211", seen); };
      const pid_t holder = inner_waits ? outside(*a) : in_inner(*a);
      ASSERT_TRUE(eventually([&] { return a->holds.load(); }));
      const pid_t waiter = inner_waits ? in_inner(*b) : outside(*b);
      ASSERT_TRUE(waits_for(1));
      leave(*a, holder);
      EXPECT_TRUE(eventually([&] { return b->holds.load(); }));
      if (inner_waits) {
        EXPECT_EQ(b->found, 1);
      } else {
        told += b->told;  // unless it looks at that very moment
      }
      leave(*b, waiter);
    }
  }
  EXPECT_GT(told, 0);
}

// Fault: the host of the next in the queue, or of the holder, goes away. Promise: the others get
// the lock, and the holder is told that it has lost it.
TEST_F(Hosts, MayGoAway) {
  Shared<Seen> a;
  Shared<Seen> b;
  Shared<Seen> c;
  const pid_t first = user(one, "10.77.1.1:11211", *a);
  ASSERT_TRUE(eventually([&] { return a->holds.load(); }));
  const pid_t gone = user(two, "10.77.2.1:11211", *b);
  ASSERT_TRUE(waits_for(1));
  const pid_t behind = user(one, "10.77.1.1:11211", *c);
  ASSERT_TRUE(waits_for(2));
  must("ip -n " + server + " link set l2 down");
  leave(*a, first);
  EXPECT_TRUE(eventually([&] { return c->holds.load(); }));
  leave(*c, behind);
  kill(gone, SIGKILL);
  (void)ended_well(gone);
  must("ip -n " + server + " link set l2 up");
  ASSERT_TRUE(reaches(two, "10.77.2.1:11211"));

  Shared<Seen> d;
  Shared<Seen> e;
  const pid_t holder = user(two, "10.77.2.1:11211", *d, 1s);
  ASSERT_TRUE(eventually([&] { return d->holds.load(); }));
  const pid_t next = user(one, "10.77.1.1:11211", *e);
  ASSERT_TRUE(waits_for(1));
  must("ip -n " + server + " link set l2 down");
  EXPECT_TRUE(eventually([&] { return d->lost && e->holds; }));
  leave(*e, next);
  leave(*d, holder);
}

}  // namespace
