// Any text as a key of memcached.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"

namespace mcl = memcachedlock;

namespace {

TEST(Keys, StayReadableWhereMemcachedTakesThem) {
  EXPECT_EQ(mcl::Key("p:", "", "/site/catalog").item(), "p:/site/catalog");
  EXPECT_EQ(mcl::Key("p:", "page", "1").item(), "p:page^1");
}

TEST(Keys, AnyTextIsAKeyAndNoTwoShareOne) {
  const std::string sha_of_a_b = mcl::Key("", "", "a b").item();
  const std::vector<std::string> texts{"a b",
                                       "a\r\nb",
                                       std::string("a\0b", 3),
                                       "a^b",
                                       "^epoch",
                                       "\xc3\xa9",
                                       "e",
                                       std::string(1 << 20, 'x'),
                                       std::string(251, 'x'),
                                       std::string(240, 'x'),
                                       sha_of_a_b};
  std::set<std::string> items{mcl::Key::server_item("")};
  std::size_t count = 1;
  for (const std::string& text : texts) {
    for (const std::string& scope : {std::string(), std::string("a"), std::string("a^b")}) {
      const std::string item = mcl::Key("", scope, text).item();
      EXPECT_LE(item.size(), 250U);
      EXPECT_EQ(item.find_first_of(std::string(" \r\n\0", 4)), std::string::npos);
      items.insert(item);
      ++count;
    }
  }
  EXPECT_EQ(items.size(), count);
  EXPECT_EQ(sha_of_a_b, "c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c2034ae8c38e6fcc6d65");
}

TEST(Keys, EmptyIsAnError) { EXPECT_THROW(mcl::Key("p", "s", ""), mcl::InvalidKey); }

}  // namespace
