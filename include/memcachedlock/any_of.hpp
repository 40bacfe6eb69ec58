// Several exceptions under one name.
#pragma once

#include "memcachedlock/detail/export.hpp"

namespace memcachedlock {

/// Several exceptions under one name, wherever a ConflictError is asked for. The first is what this
/// library throws itself.
template <class... Exceptions>
struct AnyOf {};

}  // namespace memcachedlock
