// Records as acquires and releases write them. Reads the wall clock and KeyHistory.
#pragma once

#include <string>

#include "waiting/bid.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

/// The record in which `bid` is the only holder, with this token, after `before`. `seat` leaves its
/// queue.
[[nodiscard]] Record taken_by(const Bid& bid, const Record& before, const std::string& token,
                              const std::string& stamp, const std::string& seat);

}  // namespace memcachedlock::detail
