// MemcachedClient: the servers, and how to speak to them.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "memcachedlock/observer.hpp"
#include "memcachedlock/servers.hpp"

namespace memcachedlock {

namespace detail {
class Cluster;
}

/// How requests are written. Both do the same.
enum class Protocol {
  text,   ///< people can read it on the wire; no login
  binary  ///< needed for a login (SASL)
};

/// How to reach the servers. Checked by MemcachedClient, which throws InvalidOption.
struct ClientOptions {
  /// Longest wait for a connection, and before it for the look-up of the host's name; more than 0.
  std::chrono::milliseconds connect_timeout{1'000};
  /// Longest wait for the answer to a request, and before it for a free connection of the pool;
  /// more than 0. A server that sends its answer byte by byte can stretch it to twice that. No
  /// signal is delivered to the waiting thread meanwhile.
  std::chrono::milliseconds operation_timeout{1'000};
  /// For how long at least RestartGuard waits after a server has lost its memory. It waits for the
  /// longest lease that this client has seen there; but others may have taken a longer one since,
  /// or before it first asked. Where all leases are shorter, the longest of them is enough; 0 or
  /// more.
  std::chrono::milliseconds restart_window{30'000};
  /// In front of every key; printable ASCII without spaces and '^', at most 64 bytes.
  std::string prefix = "memcachedlock:";
  /// All clients of a server may choose as they like.
  Protocol protocol = Protocol::text;
  /// Log in with SASL, which needs Protocol::binary and TCP; no login where it is empty.
  std::string sasl_user = {};
  /// Of sasl_user; no error and no log line tells it.
  std::string sasl_password = {};
  /// Most connections to one server; at least 1. The background threads have up to four more.
  std::size_t connections = 8;
  /// Is told of every event; shared with the client's copies and with what it does in the
  /// background.
  std::shared_ptr<Observer> observer = {};
};

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
  explicit MemcachedClient(std::string_view servers, ClientOptions options = {});
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
