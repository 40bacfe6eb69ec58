// What a look at a lock that another holds has shown.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

#include "wire/record.hpp"

namespace memcachedlock::detail {

struct Contention {
  std::string holder;     ///< unchanged as long as the holder and its lease are
  bool confirmed = true;  ///< false: granted to a holder that has not confirmed it yet
  HoldTime hold;
  std::chrono::nanoseconds round_trip{0};     ///< what it took to ask
  std::optional<std::size_t> queue_position;  ///< how many waiters precede it in the queue
  bool local = false;                         ///< held by this process, which wakes its waiters
  bool told = false;                          ///< it is told when it holds the lock
  std::chrono::milliseconds lease{0};         ///< of the holder
};

}  // namespace memcachedlock::detail
