// The datagram by which a waiter is told that it holds a lock.
#include "wire/grant_message.hpp"

#include <gtest/gtest.h>

#include <string>

namespace memcachedlock::detail {
namespace {

const std::string process = "0123456789abcdef0123456789abcdef";

Grant some() {
  return {.record = "mcl2 0 *" + process + ".0:x:1000:0:0:1:-:-@h:1:1",
          .cas = 7,
          .item_id = 8,
          .item_cas = 9,
          .alone = false};
}

TEST(GrantMessages, AreReadAsTheyWereWritten) {
  const std::string text = GrantMessage::encode(process + ".0", some());
  EXPECT_EQ(text, "mcl-grant1 " + process + ".0 8 9 7 others " + some().record);
  const auto message = GrantMessage::decode(text, process);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->token, process + ".0");
  EXPECT_EQ(message->grant.cas, 7U);
  EXPECT_EQ(message->grant.item_id, 8U);
  EXPECT_EQ(message->grant.item_cas, 9U);
  EXPECT_FALSE(message->grant.alone);
  EXPECT_TRUE(message->grant.by_datagram);
  EXPECT_EQ(message->grant.record, some().record);
}

TEST(GrantMessages, OfOthersAreNotRead) {
  const std::string good = GrantMessage::encode(process + ".0", some());
  for (std::size_t at = 0; at < std::string("mcl-grant1 ").size() + process.size(); ++at) {
    std::string other = good;
    other[at] = other[at] == 'f' ? 'e' : 'f';
    EXPECT_FALSE(GrantMessage::decode(other, process)) << other;
    EXPECT_FALSE(GrantMessage::decode(good.substr(0, at), process));
  }
  EXPECT_FALSE(GrantMessage::decode(good + std::string(GrantMessage::max_size, ' '), process));
  EXPECT_FALSE(GrantMessage::decode("mcl-grant1 " + process + ".0 8 9 x alone mcl2 0", process));
  EXPECT_FALSE(GrantMessage::decode("mcl-grant1 " + process + ".0 8 9 7 whole mcl2 0", process));
}

}  // namespace
}  // namespace memcachedlock::detail
