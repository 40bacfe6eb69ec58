// The values of lock and epoch items: what is written is read again, and nothing else is.
#include "wire/record.hpp"

#include <gtest/gtest.h>

#include <string>

#include "wire/epoch_item.hpp"

namespace memcachedlock::detail {
namespace {

using namespace std::chrono_literals;

Record full() {
  Record record;
  record.reserved = true;
  record.lease = 1500ms;
  record.stamp = "stamp";
  record.fence = {7, 9};
  record.owner = "n:owner";
  record.holders = {{"token.1@host:2:3", 1795723986}, {"token.2@host/4:5:6", 0}};
  record.since = 1000ms;
  record.written = 1250ms;
  record.hold = {30us, 4us};
  record.waiters = {{"token.3@h:7:8"}, {"token.4@h:7:9"}};
  return record;
}

TEST(Record, IsReadAsItWasWritten) {
  EXPECT_EQ(full().encode(),
            "mcl1 reserved 1500 stamp 7:9 n:owner 1795723986/token.1@host:2:3 token.2@host/4:5:6"
            " +1000:250 ~30:4 ?token.3@h:7:8 ?token.4@h:7:9");
  const auto found = Record::parse(full().encode());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->encode(), full().encode());
  EXPECT_EQ(found->fence, full().fence);
  EXPECT_EQ(found->holders, full().holders);
  EXPECT_EQ(found->waiters, full().waiters);
  EXPECT_EQ(found->hold, full().hold);
  EXPECT_EQ(found->written, 1250ms);
  Record least;
  least.lease = 1ms;
  least.stamp = "s";
  least.holders = {{"t@p"}};
  EXPECT_EQ(least.encode(), "mcl1 held 1 s 0 - t@p");
  EXPECT_EQ(Record::parse(least.encode())->encode(), least.encode());
}

TEST(Record, RefusesWhatItNeverWrites) {
  for (const char* const text : {"",
                                 "mcl1",
                                 "mcl2 held 1 s 0 - t@p",
                                 "mcl1 free 1 s 0 - t@p",
                                 "mcl1 held x s 0 - t@p",
                                 "mcl1 held 2592000001 s 0 - t@p",
                                 "mcl1 held 1  0 - t@p",
                                 "mcl1 held 1 s x - t@p",
                                 "mcl1 held 1 s 0: - t@p",
                                 "mcl1 held 1 s 0:1 - t@p",
                                 "mcl1 held 1 s 1 - t@p",
                                 "mcl1 held 1 s 1:-1 - t@p",
                                 "mcl1 held 1 s 1:99999999999999999999 - t@p",
                                 "mcl1 held 1 s 0  t@p",
                                 "mcl1 held 1 s 0 -",
                                 "mcl1 held 1 s 0 - ",
                                 "mcl1 held 1 s 0 - ?t@p",
                                 "mcl1 held 1 s 0 - t@p ?",
                                 "mcl1 held 1 s 0 - t@p +1",
                                 "mcl1 held 1 s 0 - t@p +0:1",
                                 "mcl1 held 1 s 0 - t@p +1:1 +1:1",
                                 "mcl1 held 1 s 0 - t@p ~1",
                                 "mcl1 held 1 s 0 - t@p ~1:1 ~1:1",
                                 "mcl1 held 1 s 0 - t@p ~3600000001:1",
                                 "mcl1 held 1 s 0 - /t@p",
                                 "mcl1 held 1 s 0 - 0/t@p",
                                 "mcl1 held 1 s 0 - x/t@p",
                                 "mcl1 held 1 s 0 - -1/t@p",
                                 "mcl1 held 1 s 0 - 1/",
                                 "mcl1 held 1 s 0 - 1099511627777/t@p"}) {
    EXPECT_FALSE(Record::parse(text)) << text;
  }
  EXPECT_TRUE(Record::parse("mcl1 held 2592000000 s 18446744073709551615:0 - 1099511627776/t@p"));
}

TEST(Record, KnowsItsMembers) {
  Record record = full();
  EXPECT_TRUE(record.holds("token.1"));
  EXPECT_FALSE(record.holds("token.3"));
  EXPECT_FALSE(record.holds("token"));
  EXPECT_EQ(record.queue_position("token.4"), 1U);
  EXPECT_FALSE(record.queue_position("token.1"));
  EXPECT_TRUE(record.includes("token.1") && record.includes("token.3"));
  record.set_end("token.2", 5);
  EXPECT_EQ(record.holders[0].end, 1795723986);
  EXPECT_EQ(record.holders[1].end, 5);
  record.remove_holder("token.1");
  record.remove_waiter("token.3");
  EXPECT_EQ(record.holders.size(), 1U);
  EXPECT_EQ(record.waiters.size(), 1U);
  EXPECT_FALSE(record.includes("token.1") || record.includes("token.3"));
  record.add_holder("new.1", "h:1:2");
  EXPECT_EQ(record.holders.back(), (Member{"new.1@h:1:2", 0}));
  EXPECT_EQ(Record::waiter_word("new.1", "h:1:2"), " ?new.1@h:1:2");
}

TEST(Record, LeasesEndByTheServersClock) {
  Record record = full();
  record.set_end("token.1", 100);
  EXPECT_FALSE(record.has_dead(99));
  EXPECT_TRUE(record.has_dead(100));
  record.remove_dead(99);
  EXPECT_EQ(record.holders.size(), 2U);
  record.remove_dead(100);  // who has no end stays
  ASSERT_EQ(record.holders.size(), 1U);
  EXPECT_EQ(record.holders[0].token(), "token.2");
  EXPECT_FALSE(record.has_dead(1'000'000));
}

TEST(Record, GrantsToTheFirstInTheQueue) {
  Record record = full();
  record.waiters.push_back(record.waiters.front());  // a request was sent twice
  record.grant_to_first(2s);
  EXPECT_FALSE(record.reserved);
  EXPECT_EQ(record.lease, 2s);
  EXPECT_EQ(record.owner, "-");
  EXPECT_FALSE(record.fence);
  ASSERT_EQ(record.holders.size(), 1U);
  EXPECT_EQ(record.holders[0].token(), "token.3");
  ASSERT_EQ(record.waiters.size(), 1U);
  EXPECT_EQ(record.waiters[0].token(), "token.4");
  EXPECT_EQ(record.since.count(), 0);
  EXPECT_EQ(record.written.count(), 0);
}

TEST(Record, IsDatedByTheFirstAndTheLatestLease) {
  Record record = full();
  record.since = 0ms;
  record.stamp_times();
  EXPECT_GT(record.since, 0ms);
  EXPECT_EQ(record.since, record.written);
  record.since = 24h * 365 * 1000;  // that clock was set back
  record.stamp_times();
  EXPECT_EQ(record.written, record.since);
  record.since = 1000ms;
  record.stamp_times();
  EXPECT_EQ(record.since, 1000ms);
  EXPECT_GT(record.written, 1000ms);
}

TEST(EpochItem, IsReadAsItWasWritten) {
  const EpochItem epoch{0xabcULL, 17, 30s, 99};
  EXPECT_EQ(epoch.encode(), "mcl-epoch2 0000000000000abc 17 30000 99");
  const auto found = EpochItem::parse(epoch.encode());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->id, epoch.id);
  EXPECT_EQ(found->number, epoch.number);
  EXPECT_EQ(found->max_lease, epoch.max_lease);
  EXPECT_EQ(found->made, 99);
  EXPECT_TRUE(EpochItem::parse("mcl-epoch2 abc 17 30000 9"));
  for (const char* const text :
       {"", "mcl-epoch1 abc 17 30000 9", "mcl-epoch2 abc 17 30000", "mcl-epoch2 0 17 30000 9",
        "mcl-epoch2 xyz 17 30000 9", "mcl-epoch2 abcx 17 30000 9", "mcl-epoch2 abc 0 30000 9",
        "mcl-epoch2 abc x 30000 9", "mcl-epoch2 abc 9223372036854775807 30000 9",
        "mcl-epoch2 abc 17 2592000001 9", "mcl-epoch2 abc 17 30000 9 x",
        "mcl-epoch2 abc 17 30000 -9", "mcl-epoch2 abc 17 30000 1099511627777",
        "mcl-epoch2 1ffffffffffffffff 17 30000 9"}) {
    EXPECT_FALSE(EpochItem::parse(text)) << text;
  }
}

}  // namespace
}  // namespace memcachedlock::detail
