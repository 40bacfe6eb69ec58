// What is sent to memcached, byte for byte, except tokens, stamps, times and numbers of items.
#include <gtest/gtest.h>

#include <regex>
#include <string>
#include <thread>
#include <utility>

#include "memcachedlock/memcachedlock.hpp"
#include "support/fault_proxy.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"
#include "support/queued.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

class Wire : public testing::Test {
 protected:
  /// What `action` sends.
  template <class Action>
  std::string sent_by(const Action& action) {
    proxy.arm({});
    action();
    std::string text = proxy.requests();
    const std::pair<const char*, const char*> changing[]{
        {"[0-9a-f]{32}\\.[0-9]+", "TOKEN"},
        {":x:([0-9]+):[0-9]+:([0-9]+):[0-9]+:", ":x:$1:END:$2:SINCE:"},
        {"SINCE:[0-9a-f]{8}\\.[0-9]+:", "SINCE:ADDRESS:"},
        {"@[^ \\r]+", "@PLACE"},
        {"=TOKEN:[0-9]+", "=TOKEN:END"},
        {"%TOKEN:([0-9]+):[0-9]+", "%TOKEN:$1:END"},
        {"#TOKEN:[0-9]+:[0-9]+", "#TOKEN:FENCE"},
        {"mcl2 [0-9]+", "mcl2 EXPIRY"},
        {" ~[0-9]+:[0-9]+:[0-9]+", ""},
        {"(add|cas|append) ([^ ]+) ([0-9]+) [0-9]+ [0-9]+", "$1 $2 $3 TTL SIZE"},
        {"(SIZE) [0-9]+", "$1 CAS"},
        {"\\r\\n", "\n"}};
    for (const auto& [from, to] : changing) text = std::regex_replace(text, std::regex(from), to);
    return text;
  }
  LocalServer server;
  FaultProxy proxy{server.port()};
  const mcl::MemcachedClient client{proxy.address(), {.connections = 1}};
};

TEST_F(Wire, AnAcquireAnExtensionAndARelease) {
  { lock_once(mcl::Lock(client, "warm")); }
  mcl::Lock lock(client, "key");
  EXPECT_EQ(sent_by([&] { lock.lock(); }),
            "add memcachedlock:key 0 TTL SIZE noreply\n"
            "mcl2 EXPIRY +TOKEN:x:30000:END:0:SINCE:-:-@PLACE\n"
            "gets memcachedlock:key memcachedlock:^server\n");
  const auto extend = [&] { EXPECT_TRUE(lock.extend()); };
  EXPECT_EQ(sent_by(extend),
            "cas memcachedlock:key 0 TTL SIZE CAS noreply\n"
            "mcl2 EXPIRY +TOKEN:x:30000:END:1:SINCE:-:-@PLACE #TOKEN:FENCE\n"
            "gets memcachedlock:key memcachedlock:^server\n");
  EXPECT_EQ(sent_by([&] { lock.unlock(); }),
            "cas memcachedlock:key 0 TTL SIZE CAS\n"
            "\n");
}

TEST_F(Wire, AnAcquireInVainAndItsLooks) {
  const mcl::MemcachedClient other(server.address());
  mcl::Lock holder(other, "key");
  holder.lock();
  { lock_once(mcl::Lock(client, "warm")); }
  mcl::Lock lock(client, "key");
  const auto wait = [&] { EXPECT_FALSE(lock.try_lock_for(20ms)); };
  // Each look costs one `gets`; a slow machine has no time for any.
  const std::regex looks("(gets memcachedlock:key\n)+");
  EXPECT_EQ(std::regex_replace(sent_by(wait), looks, ""),
            "add memcachedlock:key 0 TTL SIZE noreply\n"
            "mcl2 EXPIRY +TOKEN:x:30000:END:0:SINCE:-:-@PLACE\n"
            "gets memcachedlock:key memcachedlock:^server\n");
}

TEST_F(Wire, ANamedOwner) {
  { lock_once(mcl::Lock(client, "warm")); }
  const mcl::OwnerId owner = mcl::OwnerId::named("owner");
  mcl::RLock lock(client, "key", {.owner = owner});
  // The token of a named owner is written, as others will join it.
  EXPECT_EQ(sent_by([&] { lock.lock(); }),
            "add memcachedlock:key 0 TTL SIZE noreply\n"
            "mcl2 EXPIRY +TOKEN:x:30000:END:0:SINCE:-:n:owner@PLACE\n"
            "gets memcachedlock:key memcachedlock:^server\n"
            "append memcachedlock:key 0 TTL SIZE noreply\n"
            " #TOKEN:FENCE\n"
            "gets memcachedlock:key memcachedlock:^server\n");
  // Entering again costs nothing.
  mcl::RLock inner(client, "key", {.owner = owner});
  EXPECT_EQ(sent_by([&] { inner.lock(); }), "");
  EXPECT_EQ(sent_by([&] { inner.unlock(); }), "");
}

TEST_F(Wire, AReservation) {
  struct Conflict {};
  { lock_once(mcl::Lock(client, "warm")); }
  const auto owner = mcl::OwnerId::unique();
  mcl::ZLock<Conflict> lock(client, "key",
                            {.owner = owner, .transaction = mcl::Transaction::outside});
  const auto run = [&] {
    EXPECT_THROW(lock.run([](const mcl::Lease&, bool) { throw Conflict(); }), Conflict);
  };
  EXPECT_EQ(sent_by(run),
            "add memcachedlock:key 0 TTL SIZE noreply\n"
            "mcl2 EXPIRY +TOKEN:x:30000:END:0:SINCE:-:-@PLACE\n"
            "gets memcachedlock:key memcachedlock:^server\n"
            "cas memcachedlock:key 0 TTL SIZE CAS noreply\n"
            "mcl2 EXPIRY +TOKEN:x:30000:END:0:SINCE:-:-@PLACE %TOKEN:0:END #TOKEN:FENCE\n"
            "gets memcachedlock:key memcachedlock:^server\n");
  EXPECT_EQ(sent_by([&] { lock.run([](const mcl::Lease&, bool) {}); }),
            "cas memcachedlock:key 0 TTL SIZE CAS noreply\n"
            "mcl2 EXPIRY +TOKEN:x:30000:END:2:SINCE:-:-@PLACE #TOKEN:FENCE\n"
            "gets memcachedlock:key memcachedlock:^server\n"
            "cas memcachedlock:key 0 TTL SIZE CAS\n"
            "\n");
}

// A waiter, its turn, a renewal while others wait, and a release to the next.
TEST_F(Wire, AQueue) {
  const mcl::MemcachedClient other(server.address());
  const mcl::LockOptions mine{.owner = mcl::OwnerId::unique()};
  mcl::Lock holder(other, "key");
  mcl::RLock lock(client, "key", mine);
  { lock_once(mcl::Lock(client, "warm")); }
  holder.lock();
  const auto wait = [&] {
    std::jthread waiter([&] { lock.lock(); });
    // It has done all that and waits, once it looks.
    EXPECT_TRUE(eventually([&] {
      return proxy.requests().find("\r\ngets memcachedlock:key\r\n") != std::string::npos;
    }));
    holder.unlock();
    waiter.join();
    // Unless it is done before, it begins its whole lease after a while.
    EXPECT_TRUE(eventually([&] { return lock.remaining() > 2s; }));
  };
  const std::string sent =
      std::regex_replace(sent_by(wait), std::regex("(gets memcachedlock:key\n)+"), "");
  // It puts the item's expiry off, is told that it holds the lock, and asks nothing.
  const std::string waiting =
      "add memcachedlock:key 0 TTL SIZE noreply\n"
      "mcl2 EXPIRY +TOKEN:x:30000:END:0:SINCE:-:-@PLACE\n"
      "gets memcachedlock:key memcachedlock:^server\n"
      "append memcachedlock:key 0 TTL SIZE noreply\n"
      " ?TOKEN:x:30000:END:0:SINCE:ADDRESS:-@PLACE\n"
      "gets memcachedlock:key memcachedlock:^server\n"
      "cas memcachedlock:key 0 TTL SIZE CAS noreply\n"
      "mcl2 EXPIRY +TOKEN:x:30000:END:0:SINCE:-:-@PLACE"
      " *TOKEN:x:30000:END:0:SINCE:ADDRESS:-@PLACE\n"
      "gets memcachedlock:key memcachedlock:^server\n";
  EXPECT_EQ(sent.substr(0, waiting.size()), waiting);
  // By the second where it looks at the very moment that it is told.
  const std::regex confirmation(
      "cas [^\n]+\nmcl2 EXPIRY \\+TOKEN:x:30000:END:1:SINCE:ADDRESS:-@PLACE #TOKEN:FENCE\n"
      "|append [^\n]+\n =TOKEN:END\n");
  EXPECT_TRUE(std::regex_search(sent.substr(waiting.size()), confirmation)) << sent;
  std::jthread next(
      [&] { lock_once(mcl::RLock(other, "key", {.owner = mcl::OwnerId::unique()})); });
  EXPECT_TRUE(eventually([&] { return queued(server) == 1; }));
  EXPECT_TRUE(lock.extend());  // which learns of the waiter
  const auto extend = [&] { EXPECT_TRUE(lock.extend()); };
  EXPECT_EQ(sent_by(extend),
            "append memcachedlock:key 0 TTL SIZE noreply\n"
            " =TOKEN:END\n"
            "gets memcachedlock:key memcachedlock:^server\n");
  EXPECT_EQ(sent_by([&] { lock.unlock(); }),
            "append memcachedlock:key 0 TTL SIZE noreply\n"
            " -TOKEN\n"
            "gets memcachedlock:key memcachedlock:^server\n");
}

}  // namespace
