// Host names as addresses, within a limit.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace memcachedlock::detail {

/// The numeric addresses of a host, in one order for all callers. The system's
/// resolver knows no limit, so it is asked in a thread of its own, one for all callers that need
/// one name; one that is numeric already needs none. Throws Failure.
std::vector<std::string> resolve(const std::string& host, std::chrono::milliseconds limit);

}  // namespace memcachedlock::detail
