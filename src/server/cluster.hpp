// What copies of a MemcachedClient share: its options, and where it locks.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "memcachedlock/client_options.hpp"
#include "memcachedlock/servers.hpp"
#include "server/agreement.hpp"
#include "server/server.hpp"

namespace memcachedlock {
class MemcachedClient;
}

namespace memcachedlock::detail {

class Cluster {
 public:
  Cluster(std::string_view servers, ClientOptions options);
  Cluster(const Cluster&) = delete;
  [[nodiscard]] static Cluster& of(const MemcachedClient& client);
  Cluster& operator=(const Cluster&) = delete;

  [[nodiscard]] const ClientOptions& options() const noexcept { return options_; }
  /// As they were given.
  [[nodiscard]] const std::vector<ServerAddress>& addresses() const noexcept {
    return agreement_.configured().addresses();
  }
  [[nodiscard]] Agreement& agreement() noexcept { return agreement_; }
  /// For the tables of a process: the same for all clients of one list.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// Where a key is locked, as far as is known.
  [[nodiscard]] Server& server_of(const Key& key) { return agreement_.first_server_of(key); }
  /// Throws InvalidServers when it is none of these.
  [[nodiscard]] Server& server_at(const ServerAddress& address);
  /// Swallows what the observer throws.
  void notify(const Event& event) const noexcept;

 private:
  const ClientOptions options_;
  Agreement agreement_;
  const std::string name_;
};

}  // namespace memcachedlock::detail
