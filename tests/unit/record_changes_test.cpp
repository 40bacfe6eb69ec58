// Records as acquires and releases write them.
#include "lock/record_changes.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "server/cluster.hpp"

namespace memcachedlock::detail {
namespace {

using namespace std::chrono_literals;

class TakenBy : public testing::Test {
 protected:
  [[nodiscard]] Bid bid(const OwnerId& owner) const {
    return {std::make_shared<const LockSpec>(cluster, Key("changes:", "", "key"),
                                             LockOptions{.timeout = 7s}, LockType::lock),
            owner, "h:1:2"};
  }
  const std::shared_ptr<Cluster> cluster =
      std::make_shared<Cluster>("127.0.0.1:1", ClientOptions{});
};

TEST_F(TakenBy, ABidOfNothingBefore) {
  const Record record = taken_by(bid(OwnerId::unique()), {}, "token", "stamp", "token");
  ASSERT_EQ(record.holders.size(), 1U);
  EXPECT_EQ(record.holders.front().word, "token@h:1:2");
  EXPECT_EQ(record.lease, 7s);
  EXPECT_EQ(record.stamp, "stamp");
  EXPECT_EQ(record.owner, "-");
  EXPECT_FALSE(record.fence);
  EXPECT_GT(record.since.count(), 0);
  EXPECT_EQ(record.written, record.since);
  EXPECT_EQ(record.hold, HoldTime{});
}

TEST_F(TakenBy, ABidInPlaceOfAnother) {
  Record before;
  before.reserved = true;
  before.fence = {1, 2};
  before.owner = "n:other";
  before.since = 5ms;
  before.hold = {30us, 3us};
  before.add_holder("old", "h:3:4");
  before.waiters = {{"seat@h:1:2", 0}, {"next@h:5:6", 0}};
  const Record record = taken_by(bid(OwnerId::named("we")), before, "token", "stamp", "seat");
  EXPECT_FALSE(record.reserved);
  EXPECT_FALSE(record.fence);
  EXPECT_EQ(record.owner, OwnerId::named("we").word());
  EXPECT_FALSE(record.holds("old"));
  EXPECT_TRUE(record.holds("token"));
  EXPECT_GT(record.since, 5ms);
  ASSERT_EQ(record.waiters.size(), 1U);
  EXPECT_EQ(record.waiters.front().token(), "next");
  // What is known of earlier holders is kept, unless it is known better.
  EXPECT_EQ(record.hold, (HoldTime{30us, 3us}));
  const Bid knows = bid(OwnerId::unique());
  knows.spec->history.learn({40us, 4us});
  EXPECT_EQ(taken_by(knows, before, "t", "s", "t").hold, (HoldTime{40us, 4us}));
  EXPECT_EQ(taken_by(knows, before, "t", "s", "t").waiters.size(), 2U);
}

}  // namespace
}  // namespace memcachedlock::detail
