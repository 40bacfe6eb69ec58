// Hostile texts and hostile neighbours: what anybody on the same memcached may write harms nobody
// beyond the key it is written to, no text becomes protocol, no credential is shown.
#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"
#include "support/message_of.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

class Hostile : public testing::TestWithParam<mcl::Protocol> {
 protected:
  Hostile() {
    options.protocol = GetParam();
    options.observer =
        std::make_shared<mcl::LogObserver>([this](std::string_view line) { log.append(line); });
  }
  [[nodiscard]] mcl::MemcachedClient client() const {
    return mcl::MemcachedClient(server.address(), options);
  }
  [[nodiscard]] std::string statistic(const std::string& name) const {
    const std::string stats = server.ask("stats", "END\r\n");
    const auto start = stats.find("STAT " + name + " ");
    return stats.substr(start, stats.find('\r', start) - start);
  }
  void put(const std::string& item, const std::string& value) const {
    ASSERT_EQ(server.ask("set " + item + " 0 0 " + std::to_string(value.size()) + "\r\n" + value),
              "STORED\r\n");
  }
  void expect_others_undisturbed() const {
    mcl::Lock other(client(), "another key");
    other.lock();
    EXPECT_FALSE(mcl::Lock(client(), "another key").try_lock());
    EXPECT_EQ(other.release(), mcl::Release::released);
  }
  LocalServer server{{"-I", "2m"}};
  mcl::ClientOptions options;
  std::string log;
};

// Every byte value, alone and within a text.
TEST_P(Hostile, NoByteOfAKeyBecomesProtocol) {
  const auto shared = client();
  { lock_once(mcl::Lock(shared, "first")); }
  const std::string flushes = statistic("cmd_flush");
  int count = 0;
  for (int byte = 0; byte < 256; ++byte) {
    for (std::string text : {std::string("?"), std::string("a?\r\nflush_all\r\n?b")}) {
      for (char& c : text) {
        if (c == '?') c = static_cast<char>(byte);
      }
      mcl::Lock lock(shared, text);
      ASSERT_TRUE(lock.try_lock()) << byte;
      ASSERT_FALSE(mcl::Lock(shared, text).try_lock()) << byte;
      ASSERT_EQ(lock.release(), mcl::Release::released) << byte;
      mcl::Lock scoped(shared, "text", {.scope = text});
      ASSERT_TRUE(scoped.try_lock()) << byte;
      ++count;
    }
  }
  EXPECT_EQ(statistic("cmd_flush"), flushes);
  EXPECT_EQ(count, 512);
}

// Every length around memcached's limit of 250 bytes, prefix included or not.
TEST_P(Hostile, EveryLengthOfAKeyLocks) {
  const auto shared = client();
  std::set<std::string> items;
  std::vector<std::unique_ptr<mcl::Lock>> held;
  for (std::size_t length = 200; length <= 300; ++length) {
    for (const std::string& scope : {std::string(), std::string(63, 's'), std::string(65, 's')}) {
      const std::string text(length, 'k');
      held.push_back(std::make_unique<mcl::Lock>(shared, text, mcl::LockOptions{.scope = scope}));
      ASSERT_TRUE(held.back()->try_lock()) << length;
      const std::string item = mcl::Key(options.prefix, scope, text).item();
      EXPECT_LE(item.size(), 250U);
      EXPECT_TRUE(items.insert(item).second) << "shared with another text";
    }
  }
  for (const auto& lock : held) EXPECT_EQ(lock->release(), mcl::Release::released);
}

// What a hostile client may put in the place of a lock's record.
TEST_P(Hostile, ARecordOfSomebodyElseHarmsOnlyItsKey) {
  const std::string token(32, 'f');
  const std::string rest = ":x:1000:0:0:1:-:-@h:1:1";
  std::string members;
  std::string many;
  for (int i = 0; members.size() < 1'000'000; ++i) {
    members += " ?" + token + ".1:x:1000:0:0:1:n:owner@h:1:1";
    many += " ?" + token + "." + std::to_string(i) + ":x:1000:0:0:1:n:owner@h:1:1";
  }
  const std::vector<std::string> not_ours{
      "",
      " ",
      "mcl1 held 1000 s 0 - " + token + ".1@h:1",  // another version's
      "mcl2",
      "mcl2 ",
      "mcl2 x",
      "mcl2 -1",
      "mcl2 1  ?" + token + rest,
      "mcl3 1 ?" + token + rest,
      "mcl2 99999999999999999999999 ?" + token + rest,
      "mcl2 1 " + token + rest,
      "mcl2 1 $" + token + rest,
      "mcl2 1 ?" + token + ":s:1000:0:0:1:-:-@h:1:1",
      "mcl2 1 ?" + token + ":x:-1:0:0:1:-:-@h:1:1",
      "mcl2 1 ?" + token + ":x:1e3:0:0:1:-:-@h:1:1",
      "mcl2 1 ?" + token + ":x:18446744073709551615:0:0:1:-:-@h:1:1",
      "mcl2 1 ?" + token + ":x:1000:-1:0:1:-:-@h:1:1",
      "mcl2 1 ?" + token + ":x:1000:99999999999999999999:0:1:-:-@h:1:1",
      "mcl2 1 ?" + token + ":x:1000:0:0:1:-",
      "mcl2 1 ?" + token + rest + " #" + token + ":-1:7",
      std::string("mcl2\0001", 6),
      "mcl2 1" + many,
      std::string(1'500'000, 'x'),
      std::string(1'500'000, ' '),
  };
  const std::vector<std::string> held_by_nobody{
      "mcl2 0 ?" + token + rest,
      "mcl2 0 ?x" + rest,
      "mcl2 0 ?" + token + rest + " #" + token + ":18446744073709551615:18446744073709551615",
      "mcl2 0 ?" + token + rest + "\r\nflush_all\r\n",
      "mcl2 0" + members,
      "mcl2 1099511627776 +" + token + ":x:1000:1099511627776:18446744073709551615:1:-:-@h:1:1",
  };
  const mcl::LockOptions named{.timeout = 1s, .owner = mcl::OwnerId::named("owner")};
  const auto shared = client();
  for (const std::string& value : not_ours) {
    put("memcachedlock:key", value);
    EXPECT_THROW((void)mcl::Lock(shared, "key").try_lock(), mcl::ServerError)
        << value.substr(0, 80);
    EXPECT_THROW((void)mcl::RLock(shared, "key", named).try_lock(), mcl::ServerError);
    EXPECT_EQ(server.get("memcachedlock:key"), value);
    expect_others_undisturbed();
  }
  for (const std::string& value : held_by_nobody) {
    put("memcachedlock:key", value);
    EXPECT_FALSE(mcl::Lock(shared, "key").try_lock()) << value.substr(0, 80);
    EXPECT_EQ(server.get("memcachedlock:key"), value);
    EXPECT_FALSE(mcl::Lock(shared, "key").try_lock_for(20ms));
    mcl::RLock owner(shared, "key", named);
    if (owner.try_lock()) {
      EXPECT_EQ(owner.release(), mcl::Release::released);
    }
    expect_others_undisturbed();
  }
}

// A holder whose record is put back as it was, or replaced by that of another.
TEST_P(Hostile, AHolderMeetsAForgedRecord) {
  const auto shared = client();
  mcl::Lock lock(shared, "key");
  lock.lock();
  const std::string mine = server.get("memcachedlock:key");
  put("memcachedlock:key", mine);
  EXPECT_TRUE(lock.extend());
  EXPECT_EQ(lock.release(), mcl::Release::released);

  lock.lock();
  put("memcachedlock:key", mine);  // of an earlier holding
  EXPECT_FALSE(lock.extend());
  EXPECT_EQ(lock.release(), mcl::Release::lost);
  EXPECT_EQ(server.get("memcachedlock:key"), mine);
}

// What a hostile client may put in the place of the server's item: it is left alone, and shown.
TEST_P(Hostile, AForgedServerItemIsNotOverwritten) {
  for (const std::string item :
       {"mcl-server1 ab 18446744073709551615 1000 9 *a:1", "mcl-server2 ab 1 1000 9 *a:1",
        "mcl-server1 ab 1 18446744073709551615 9 *a:1", "mcl-epoch2 ab 1 1 1", "x\x1b[2J", ""}) {
    SCOPED_TRACE(item);
    put("memcachedlock:^server", item);
    mcl::Lock lock(client(), "key");
    const std::string said = message_of<mcl::ServerError>([&] { (void)lock.try_lock(); });
    EXPECT_NE(said.find("is not what this version of memcachedlock keeps there"), std::string::npos)
        << said;
    EXPECT_EQ(said.find('\x1b'), std::string::npos);
    EXPECT_EQ(server.get("memcachedlock:^server"), item);
  }
}

TEST_P(Hostile, OwnerTokensAreNotGuessed) {
  std::set<std::string> tokens;
  const std::regex form(
      "mcl2 \\d+ \\+([0-9a-f]{32})\\.\\d+:x:30000:\\d+:0:\\d+:-:-@\\S+:\\d+:\\d+");
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(ended_well(in_child([&]() -> bool {
      mcl::Lock lock(client(), "key" + std::to_string(i));
      lock.lock();
      _exit(0);
    })));
    std::smatch match;
    const std::string record = server.get("memcachedlock:key" + std::to_string(i));
    ASSERT_TRUE(std::regex_match(record, match, form)) << record;
    tokens.insert(match[1]);
  }
  EXPECT_EQ(tokens.size(), 8U);  // of each process its own
}

INSTANTIATE_TEST_SUITE_P(, Hostile, testing::Values(mcl::Protocol::text, mcl::Protocol::binary),
                         [](const auto& setting) {
                           return setting.param == mcl::Protocol::text ? "Text" : "Binary";
                         });

TEST(Credentials, AreNeverTold) {
  const std::string secret = "pA55-w0rd-of-the-test";
  std::string told;
  mcl::ClientOptions options;
  options.protocol = mcl::Protocol::binary;
  options.sasl_user = "user";
  options.sasl_password = secret;
  options.operation_timeout = 200ms;
  options.observer =
      std::make_shared<mcl::LogObserver>([&](std::string_view line) { told.append(line); });
  LocalServer server;  // knows of no login
  const mcl::MemcachedClient client(server.address(), options);
  const auto try_all = [&] {
    try {
      mcl::Lock lock(client, "key", {.on_unavailable = mcl::OnUnavailable::proceed});
      lock.lock();
      mcl::Lock failing(client, "key");
      (void)failing.try_lock();
    } catch (const mcl::Error& error) {
      told += error.what() + error.key() + error.server();
    }
  };
  try_all();
  server.pause();
  try_all();
  server.stop();
  try_all();
  EXPECT_FALSE(told.empty());
  EXPECT_EQ(told.find(secret), std::string::npos) << told;

  options.sasl_password = std::string("a\0b", 3);
  EXPECT_THROW((void)mcl::MemcachedClient("127.0.0.1", options), mcl::InvalidOption);
}

}  // namespace
