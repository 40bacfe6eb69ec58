#include "lock/own_entry.hpp"

namespace memcachedlock::detail {

namespace {

void fill_in(Entry& entry, const Bid& bid, const std::string& token) {
  entry.token = token;
  entry.lease = bid.spec->options.timeout;
  entry.end = 0;
  entry.count = 0;
  entry.since = wall_clock_now();
  entry.told_at.assign(1, '-');
  entry.place = bid.owner.word();
  entry.place += '@';
  entry.place += bid.thread_label;
  entry.confirmed = entry.reserved = false;
  entry.fence = {};
}

}  // namespace

Entry entry_of(const Bid& bid, const std::string& token) {
  Entry entry;
  fill_in(entry, bid, token);
  return entry;
}

Record record_of(const Bid& bid, const std::string& token) {
  Record record = bid.spec->take_spare();  // its memory serves again
  record.expiry = 0;
  record.words = 0;
  record.entries.resize(1);
  fill_in(record.entries.front(), bid, token);
  record.entries.front().confirmed = true;
  record.hold = bid.spec->history.hold();
  return record;
}

}  // namespace memcachedlock::detail
