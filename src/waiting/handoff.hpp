// A lock as its holder in this process hands it to the next.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.hpp"
#include "server/server.hpp"

namespace memcachedlock::detail {

/// How often and since when threads of this process have handed a lock to each other.
struct Cohort {
  unsigned passes = 0;
  Clock::time_point since = Clock::now();
};

/// The record is already written in the receiver's name.
struct Handoff {
  Server* server = nullptr;  ///< at which it is
  std::string token;
  Snapshot snapshot;
  Clock::time_point started{};  ///< before it was written
  std::int64_t end = 0;         ///< END as it was written
  bool with_expiry = false;     ///< the item's expiry too
  Cohort cohort;
};

}  // namespace memcachedlock::detail
