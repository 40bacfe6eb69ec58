// What a holder must know of a waiter to write the lock's record in the waiter's name.
#pragma once

#include <string>

#include "memcachedlock/options.hpp"
#include "waiting/lock_spec.hpp"

namespace memcachedlock::detail {

struct Bid {
  SharedSpec spec;
  OwnerId owner;
  std::string thread_label;  ///< of the thread that will hold it, for people who look at the record
};

/// A place in the record's queue, which its waiter may leave to another of its process.
struct Seat {
  SharedSpec spec;
  std::string token;
};

}  // namespace memcachedlock::detail
