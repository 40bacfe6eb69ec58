#include "lock/record_changes.hpp"

namespace memcachedlock::detail {

Record taken_by(const Bid& bid, const Record& before, const std::string& token,
                const std::string& stamp, const std::string& seat) {
  Record record = before;
  record.reserved = false;
  record.lease = bid.spec->options.timeout;
  record.stamp = stamp;
  record.fence = {};
  record.owner = bid.owner.word();
  record.holders.clear();
  record.add_holder(token, bid.thread_label);
  record.since = {};
  record.stamp_times();
  // A waiter that has not held it yet passes on what others have found.
  const auto hold = bid.spec->history.hold();
  if (hold.usual.count() != 0) record.hold = hold;
  record.remove_waiter(seat);
  return record;
}

}  // namespace memcachedlock::detail
