// What is sent to memcached, byte for byte, except tokens, stamps, times and numbers of items.
#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <string>
#include <utility>

#include "memcachedlock/memcachedlock.hpp"
#include "support/fault_proxy.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"

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
        {"[0-9a-f]{32}\\.[0-9]+@[^ \\r]+", "TOKEN@PLACE"},
        {"[0-9]+/TOKEN", "END/TOKEN"},
        {" [0-9a-f]{15} ", " STAMP "},
        {"STAMP [0-9]+:[0-9]+ ", "STAMP FENCE "},
        {"\\+[0-9]+:[0-9]+", "+SINCE:AGE"},
        {" ~[0-9]+:[0-9]+", ""},
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
            "mcl1 held 30000 STAMP 0 - END/TOKEN@PLACE +SINCE:AGE\n"
            "gets memcachedlock:key memcachedlock:^epoch\n");
  const auto extend = [&] { EXPECT_TRUE(lock.extend()); };
  EXPECT_EQ(sent_by(extend),
            "cas memcachedlock:key 0 TTL SIZE CAS noreply\n"
            "mcl1 held 30000 STAMP FENCE - END/TOKEN@PLACE +SINCE:AGE\n"
            "gets memcachedlock:key\n");
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
            "mcl1 held 30000 STAMP 0 - END/TOKEN@PLACE +SINCE:AGE\n"
            "gets memcachedlock:key memcachedlock:^epoch\n");
}

TEST_F(Wire, ANamedOwner) {
  { lock_once(mcl::Lock(client, "warm")); }
  const mcl::OwnerId owner = mcl::OwnerId::named("owner");
  mcl::RLock lock(client, "key", {.owner = owner});
  // The token of a named owner is written, as others will join it.
  EXPECT_EQ(sent_by([&] { lock.lock(); }),
            "add memcachedlock:key 0 TTL SIZE noreply\n"
            "mcl1 held 30000 STAMP 0 n:owner END/TOKEN@PLACE +SINCE:AGE\n"
            "gets memcachedlock:key memcachedlock:^epoch\n"
            "cas memcachedlock:key 0 TTL SIZE CAS noreply\n"
            "mcl1 held 30000 STAMP FENCE n:owner END/TOKEN@PLACE +SINCE:AGE\n"
            "gets memcachedlock:key memcachedlock:^epoch\n");
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
            "mcl1 held 30000 STAMP 0 - END/TOKEN@PLACE +SINCE:AGE\n"
            "gets memcachedlock:key memcachedlock:^epoch\n"
            "cas memcachedlock:key 0 TTL SIZE CAS noreply\n"
            "mcl1 reserved 1000 STAMP FENCE - END/TOKEN@PLACE +SINCE:AGE\n"
            "gets memcachedlock:key\n");
  EXPECT_EQ(sent_by([&] { lock.run([](const mcl::Lease&, bool) {}); }),
            "cas memcachedlock:key 0 TTL SIZE CAS noreply\n"
            "mcl1 held 30000 STAMP FENCE - END/TOKEN@PLACE +SINCE:AGE\n"
            "gets memcachedlock:key\n"
            "cas memcachedlock:key 0 TTL SIZE CAS\n"
            "\n");
}

// Fault: an acquire that the restart guard held back adds again with the stamp of its first record.
// A waiter that saw that one counts its lease from then. Promise: each writing has its own stamp.
TEST(Stamps, AreNewForEachWriting) {
  const LocalServer server;
  FaultProxy proxy(server.port());
  const mcl::MemcachedClient client(proxy.address(), {.restart_window = 300ms});
  const mcl::LockOptions options{.timeout = 300ms};
  lock_once(mcl::Lock(client, "key", options));
  (void)server.ask("flush_all");
  proxy.arm({});
  lock_once(mcl::Lock(client, "key", options));
  const std::string text = proxy.requests();
  const std::regex stamp("mcl1 held 300 ([0-9a-f]{15}) ");
  std::multiset<std::string> stamps;
  for (std::sregex_iterator found(text.begin(), text.end(), stamp), none; found != none; ++found) {
    stamps.insert((*found)[1]);
  }
  EXPECT_GE(stamps.size(), 2U) << text;
  EXPECT_EQ(stamps.size(), std::set<std::string>(stamps.begin(), stamps.end()).size()) << text;
}

}  // namespace
