// Calls an observer; its exceptions are swallowed.
#pragma once

#include "memcachedlock/client_options.hpp"

namespace memcachedlock::detail {

/// Calls `tell(observer)` where there is one, and swallows what it throws.
template <class Tell>
void notify_observer(const ClientOptions& options, const Tell& tell) noexcept {
  if (!options.observer) return;
  try {
    tell(*options.observer);
  } catch (...) {  // an observer breaks nothing
  }
}

}  // namespace memcachedlock::detail
