// The keys on a server. libmemcached has no command for it that knows of recent items, so this
// speaks the text protocol itself.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "memcachedlock/client_options.hpp"
#include "memcachedlock/servers.hpp"

namespace memcachedlock::detail {

/// The names of the items that begin with `prefix`. Each wait is limited by `options`, and all
/// together by `limit`. Throws Unavailable, ServerError.
std::vector<std::string> list_items(const ServerAddress& server, const ClientOptions& options,
                                    std::string_view prefix, std::chrono::milliseconds limit);

}  // namespace memcachedlock::detail
