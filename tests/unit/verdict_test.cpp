// What an acquire does about the record that it has found.
#include "lock/verdict.hpp"

#include <gtest/gtest.h>

namespace memcachedlock::detail {
namespace {

struct Case {
  const char* what;
  bool held_by_us;
  bool our_stamp;
  bool named;
  bool same_owner;
  bool has_fence;
  bool epoch_known;
  Verdict verdict;
};

TEST(Verdicts, AreOneForEachRecord) {
  const Case cases[]{
      {"just written", true, true, false, false, false, true, Verdict::settle},
      {"just written, with a token", true, true, false, false, true, true, Verdict::settle},
      {"granted out of the queue", true, false, false, false, false, false, Verdict::confirm},
      {"granted to a named owner", true, false, true, false, false, false, Verdict::confirm},
      {"a named owner's first", true, true, true, true, false, true, Verdict::publish_fence},
      {"written by another member since", true, false, true, true, true, true, Verdict::settle},
      {"by another member, no token", true, false, true, true, false, true, Verdict::publish_fence},
      {"another's", false, false, false, false, true, true, Verdict::contended},
      {"another named owner's", false, false, true, false, true, true, Verdict::contended},
      {"our owner's", false, false, true, true, true, false, Verdict::join},
      {"our owner's, token not written", false, false, true, true, false, true, Verdict::join},
      {"our owner's, epoch not read", false, false, true, true, false, false, Verdict::read_epoch}};
  for (const Case& one : cases) {
    const OwnerId owner = one.named ? OwnerId::named("we") : OwnerId::unique();
    Record record;
    record.stamp = one.our_stamp ? "ours" : "other";
    if (one.has_fence) record.fence = {1, 2};
    record.owner = one.same_owner ? owner.word() : "-";
    record.add_holder(one.held_by_us ? "token" : "another", "h:1:2");
    EXPECT_EQ(judge(record, "token", "ours", owner, one.epoch_known), one.verdict) << one.what;
  }
}

// "-" is what stands there for all that have no name.
TEST(Verdicts, AnOwnerWithoutANameSharesNothing) {
  Record record;
  record.owner = OwnerId::unique().word();
  record.add_holder("another", "h:1:2");
  EXPECT_EQ(judge(record, "token", "ours", OwnerId::unique(), true), Verdict::contended);
}

}  // namespace
}  // namespace memcachedlock::detail
