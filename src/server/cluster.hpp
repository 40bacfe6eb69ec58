// What copies of a MemcachedClient share: its options, its servers, and which key lives where.
#pragma once

#include <deque>
#include <memory>
#include <string_view>
#include <vector>

#include "memcachedlock/client_options.hpp"
#include "memcachedlock/servers.hpp"
#include "server/server.hpp"

struct memcached_st;

namespace memcachedlock {
class MemcachedClient;
}

namespace memcachedlock::detail {

class Cluster {
 public:
  Cluster(std::string_view servers, ClientOptions options);
  ~Cluster();
  Cluster(const Cluster&) = delete;
  [[nodiscard]] static Cluster& of(const MemcachedClient& client);
  Cluster& operator=(const Cluster&) = delete;

  [[nodiscard]] const ClientOptions& options() const noexcept { return options_; }
  [[nodiscard]] const std::vector<ServerAddress>& addresses() const noexcept { return addresses_; }
  [[nodiscard]] Server& server_of(const Key& key);
  /// Throws InvalidServers when it is none of these.
  [[nodiscard]] Server& server_at(const ServerAddress& address);
  /// Swallows what the observer throws.
  void notify(const Event& event) const noexcept;

 private:
  const ClientOptions options_;
  const std::vector<ServerAddress> addresses_;
  std::deque<Server> servers_;  // never moved: others point to them
  memcached_st* ring_;          // only hashes; never connects
};

}  // namespace memcachedlock::detail
