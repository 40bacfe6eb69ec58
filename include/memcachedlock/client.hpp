// MemcachedClient: the servers, and how to speak to them.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "memcachedlock/detail/export.hpp"
#include "memcachedlock/observer.hpp"
#include "memcachedlock/servers.hpp"

namespace memcachedlock {

namespace detail {
class Backend;
}

enum class Protocol { text, binary };

struct ClientOptions {
  /// Longest wait for a connection; more than 0.
  std::chrono::milliseconds connect_timeout{1'000};
  /// Longest wait for the answer to a request, and before it for a free connection of the pool;
  /// more than 0. A server that sends its answer byte by byte can stretch it to twice that.
  std::chrono::milliseconds operation_timeout{1'000};
  /// In front of every key; printable ASCII without spaces and '^', at most 64 bytes.
  std::string prefix = "memcachedlock:";
  Protocol protocol = Protocol::text;
  /// SASL needs Protocol::binary and TCP.
  std::string sasl_user = {};
  std::string sasl_password = {};
  /// Most connections to one server; at least 1.
  std::size_t connections = 8;
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
  MemcachedClient(const MemcachedClient&) noexcept;
  MemcachedClient& operator=(const MemcachedClient&) noexcept;

  /// The servers of MEMCACHEDLOCK_SERVERS, or 127.0.0.1:11211. Calls that find the same text
  /// share one client. Throws InvalidServers.
  [[nodiscard]] static MemcachedClient from_environment();

  [[nodiscard]] const std::vector<ServerAddress>& servers() const noexcept;
  [[nodiscard]] const ClientOptions& options() const noexcept;
  /// The server that keeps this key's lock. Makes no request. Throws InvalidKey.
  [[nodiscard]] const ServerAddress& server_of(std::string_view key,
                                               std::string_view scope = {}) const;

 private:
  friend class BasicLock;
  friend class detail::Backend;
  std::shared_ptr<detail::Backend> backend_;
};

}  // namespace memcachedlock
