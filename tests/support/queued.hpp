// How many wait in the queue of a lock's record.
#pragma once

#include <string_view>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"

inline int queued(const LocalServer& server, std::string_view key = "key") {
  const auto status = memcachedlock::inspect(memcachedlock::MemcachedClient(server.address()), key);
  return status ? static_cast<int>(status->waiters.size()) : 0;
}
