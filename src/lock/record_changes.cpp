#include "lock/record_changes.hpp"

#include <utility>
#include <vector>

namespace memcachedlock::detail {

Record taken_by(const Bid& bid, const Record& before, const std::string& token,
                const std::string& stamp, const std::string& seat) {
  // Its memory serves again.
  Record record = bid.spec->take_spare();
  std::vector<Member> holders = std::move(record.holders);
  record = before;
  record.holders = std::move(holders);
  record.reserved = false;
  record.lease = bid.spec->options.timeout;
  record.stamp = stamp;
  record.fence = {};
  record.owner = bid.owner.word();
  record.set_holder(token, bid.thread_label);
  record.since = {};
  record.stamp_times();
  // A waiter that has not held it yet passes on what others have found.
  const auto hold = bid.spec->history.hold();
  if (hold.usual.count() != 0) record.hold = hold;
  record.remove_waiter(seat);
  return record;
}

}  // namespace memcachedlock::detail
