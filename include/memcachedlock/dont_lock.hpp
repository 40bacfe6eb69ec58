// What a key function throws.
#pragma once

#include "memcachedlock/detail/export.hpp"

namespace memcachedlock {

/// Thrown by a key function: run this call unlocked. Returning std::nullopt says the same.
struct DontLock {};

}  // namespace memcachedlock
