// "host:port,[::1]:port,/path/to.sock" -> addresses.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace memcachedlock {

/// Where one memcached listens.
struct MEMCACHEDLOCK_EXPORT ServerAddress {
  std::string host;        ///< name, IPv4 or IPv6 address without brackets; or a socket's path
  std::uint16_t port = 0;  ///< 0 for a Unix socket

  /// Whether `host` is a socket's path.
  [[nodiscard]] bool is_unix_socket() const noexcept { return port == 0; }
  /// As it would be written in the list: "host:port", "[::1]:port" or "/path".
  [[nodiscard]] std::string to_string() const;

  /// By host, then by port.
  friend auto operator<=>(const ServerAddress&, const ServerAddress&) = default;
};

/// Reads a list separated by commas; spaces around entries do not matter. An entry is `host`,
/// `host:port`, `[ipv6]`, `[ipv6]:port` or an absolute path of a Unix socket; the port is 11211
/// where none is given. The result is sorted, so that the order of the list changes nothing.
/// Throws InvalidServers, naming the entry, when one is empty, malformed or listed twice.
[[nodiscard]] MEMCACHEDLOCK_EXPORT std::vector<ServerAddress> parse_servers(std::string_view list);

/// The list in the environment variable MEMCACHEDLOCK_SERVERS, or `127.0.0.1:11211` without it.
[[nodiscard]] MEMCACHEDLOCK_EXPORT std::string servers_from_environment();

}  // namespace memcachedlock
