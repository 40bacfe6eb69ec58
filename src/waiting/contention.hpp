// What a look at a lock that another holds has shown.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

#include "wire/record.hpp"

namespace memcachedlock::detail {

struct Contention {
  std::string holder;     ///< the same as long as it is held by the same
  bool confirmed = true;  ///< false: it was granted to the holder, who has not noticed yet
  HoldTime hold;
  std::chrono::nanoseconds round_trip{0};     ///< what it took to ask
  std::optional<std::size_t> queue_position;  ///< how many are before it in the record's queue
  bool local = false;                         ///< held by this process, which wakes who waits in it
  std::chrono::milliseconds lease{0};         ///< of the holder
};

}  // namespace memcachedlock::detail
