// The datagram by which a waiter is told that it holds a lock.
#include "wire/grant_message.hpp"

#include <gtest/gtest.h>

#include <string>

namespace memcachedlock::detail {
namespace {

const std::string process = "0123456789abcdef0123456789abcdef";

Record record_of(int entries) {
  Record record;
  record.expiry = 1795723986;
  for (int number = 0; number < entries; ++number) {
    Entry entry;
    entry.token = process + "." + std::to_string(number);
    entry.lease = std::chrono::milliseconds(1'000);
    entry.place = "-@host:2:3";
    record.entries.push_back(entry);
  }
  return record;
}

TEST(GrantMessages, AreReadAsTheyWereWritten) {
  const Record record = record_of(2);
  const auto text = GrantMessage::encode(process + ".0", record, 7);
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, "mcl-grant1 " + process + ".0 7 whole " + record.encode());
  const auto message = GrantMessage::decode(*text, process);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->token, process + ".0");
  EXPECT_EQ(message->grant.cas, 7U);
  EXPECT_TRUE(message->grant.whole);
  EXPECT_EQ(message->grant.record, record.encode());
}

TEST(GrantMessages, LeaveOutWhatDoesNotFit) {
  const Record record = record_of(100);
  const auto text = GrantMessage::encode(process + ".0", record, 7);
  ASSERT_TRUE(text);
  EXPECT_LE(text->size(), GrantMessage::max_size);
  const auto message = GrantMessage::decode(*text, process);
  ASSERT_TRUE(message);
  EXPECT_FALSE(message->grant.whole);
  const auto part = Record::parse(message->grant.record);
  ASSERT_TRUE(part);
  EXPECT_GT(part->entries.size(), 3U);
  for (std::size_t at = 0; at < part->entries.size(); ++at) {
    EXPECT_EQ(part->entries[at], record.entries[at]);
  }
  EXPECT_FALSE(GrantMessage::encode(process + ".50", record, 7));
}

TEST(GrantMessages, OfOthersAreNotRead) {
  const std::string good = *GrantMessage::encode(process + ".0", record_of(1), 7);
  for (std::size_t at = 0; at < std::string("mcl-grant1 ").size() + process.size(); ++at) {
    std::string other = good;
    other[at] = other[at] == 'f' ? 'e' : 'f';
    EXPECT_FALSE(GrantMessage::decode(other, process)) << other;
    EXPECT_FALSE(GrantMessage::decode(good.substr(0, at), process));
  }
  EXPECT_FALSE(GrantMessage::decode(good + std::string(GrantMessage::max_size, ' '), process));
  EXPECT_FALSE(GrantMessage::decode("mcl-grant1 " + process + ".0 x whole mcl2 0", process));
  EXPECT_FALSE(GrantMessage::decode("mcl-grant1 " + process + ".0 7 all mcl2 0", process));
}

}  // namespace
}  // namespace memcachedlock::detail
