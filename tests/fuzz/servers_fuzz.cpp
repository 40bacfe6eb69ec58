// Lists of servers: refused with InvalidServers, or read so that they read the same when written.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "memcachedlock/error.hpp"
#include "memcachedlock/servers.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    std::string again;
    const auto servers = memcachedlock::parse_servers({reinterpret_cast<const char*>(data), size});
    for (const auto& server : servers) again += (again.empty() ? "" : ",") + server.to_string();
    if (memcachedlock::parse_servers(again) != servers) std::abort();
  } catch (const memcachedlock::InvalidServers&) {
  }
  return 0;
}
