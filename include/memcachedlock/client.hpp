// MemcachedClient: the servers, and how to speak to them.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "memcachedlock/client_options.hpp"
#include "memcachedlock/servers.hpp"

namespace memcachedlock {

namespace detail {
class Cluster;
}

/// A handle to one or more memcached servers. Thread safe; a copy is cheap and shares the
/// connections. Usable in a child after fork: the child makes its own connections and leaves the
/// parent's alone.
///
/// Several servers share the keys by ketama consistent hashing, whatever the order of the list. A
/// server that is down is never left out: its keys are unavailable, not moved.
class MEMCACHEDLOCK_EXPORT MemcachedClient {
 public:
  /// `servers` as parse_servers() takes them. Connects at first use, so making one costs no
  /// request. Throws InvalidServers or InvalidOption.
  [[nodiscard]] explicit MemcachedClient(std::string_view servers, ClientOptions options = {});
  /// nullptr is no list.
  explicit MemcachedClient(std::nullptr_t, ClientOptions = {}) = delete;
  ~MemcachedClient();
  /// Shares the connections.
  MemcachedClient(const MemcachedClient&) noexcept;
  /// Shares the other's connections from now on.
  MemcachedClient& operator=(const MemcachedClient&) noexcept;

  /// Of servers_from_environment(), with the default options. Calls that find the same text
  /// share one client. Throws InvalidServers.
  [[nodiscard]] static MemcachedClient from_environment();

  /// Sorted; valid as long as a copy of this client.
  [[nodiscard]] const std::vector<ServerAddress>& servers() const noexcept;
  /// As they were given; valid as long as a copy of this client.
  [[nodiscard]] const ClientOptions& options() const noexcept;
  /// The server that keeps this key's lock. Makes no request. Throws InvalidKey.
  [[nodiscard]] const ServerAddress& server_of(std::string_view key,
                                               std::string_view scope = {}) const;

 private:
  friend class BasicLock;
  friend class detail::Cluster;
  std::shared_ptr<detail::Cluster> cluster_;
};

}  // namespace memcachedlock
