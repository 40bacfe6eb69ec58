// The words by which an acquire enters a lock's record. Reads the wall clock and KeyHistory.
#pragma once

#include <string>

#include "waiting/bid.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

/// What stands for `bid` in a record; its END is set when it is sent.
[[nodiscard]] Entry entry_of(const Bid& bid, const std::string& token);

/// The record in which `bid` is alone, and holds the lock.
[[nodiscard]] Record record_of(const Bid& bid, const std::string& token);

}  // namespace memcachedlock::detail
