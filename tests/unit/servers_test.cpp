// Lists of servers, and which of them a key lives on.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"
#include "support/message_of.hpp"

namespace mcl = memcachedlock;

namespace {

TEST(Servers, AreReadInEveryForm) {
  const auto servers = mcl::parse_servers(" b.example:1 , [::1]:2,a-b ,/tmp/m.sock,[fe80::1]");
  ASSERT_EQ(servers.size(), 5U);
  std::vector<std::string> texts;
  for (const auto& server : servers) texts.push_back(server.to_string());
  EXPECT_EQ(texts, (std::vector<std::string>{"/tmp/m.sock", "[::1]:2", "a-b:11211", "b.example:1",
                                             "[fe80::1]:11211"}));
}

TEST(Servers, BadEntriesAreNamed) {
  for (const std::string entry : {"", "h:0", "h:70000", "h:", "h:1x", ":1", "[::1", "[::1]x",
                                  "[h]:1", "h p:1", "h:1:2", "h\n:1", "[]:1"}) {
    const std::string message = message_of<mcl::InvalidServers>(
        [&] { (void)mcl::MemcachedClient("127.0.0.1:1, " + entry + " ,127.0.0.1:2"); });
    EXPECT_NE(message.find('"' + entry + '"'), std::string::npos) << message;
  }
  EXPECT_THROW((void)mcl::MemcachedClient(""), mcl::InvalidServers);
  EXPECT_THROW((void)mcl::MemcachedClient("h,H:11211"), mcl::InvalidServers);
  EXPECT_THROW((void)mcl::MemcachedClient("/" + std::string(200, 'x')), mcl::InvalidServers);
}

TEST(Servers, TheOrderOfTheListChangesNoRoute) {
  const mcl::MemcachedClient one("a:1,b:2,[::1]:3,/tmp/s");
  const mcl::MemcachedClient two("/tmp/s,[::1]:3,b:2,a:1");
  std::set<std::string> used;
  for (int i = 0; i < 200; ++i) {
    const std::string key = "key" + std::to_string(i);
    EXPECT_EQ(one.server_of(key), two.server_of(key));
    used.insert(one.server_of(key).to_string());
  }
  EXPECT_EQ(used.size(), 4U);
}

}  // namespace
