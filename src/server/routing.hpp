// Which server of a list keeps which key.
#pragma once

#include <string>
#include <vector>

#include "memcachedlock/key.hpp"
#include "memcachedlock/servers.hpp"
#include "server/server.hpp"

struct memcached_st;

namespace memcachedlock::detail {

/// A list as all clients write it: sorted, with ports, separated by commas.
std::string list_text(const std::vector<ServerAddress>& servers);

/// Immutable; thread safe. Refers to the servers, which are in the order of their addresses.
class Routing {
 public:
  Routing(std::vector<ServerAddress> addresses, std::vector<Server*> servers);
  ~Routing();
  Routing(const Routing&) = delete;
  Routing& operator=(const Routing&) = delete;

  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  [[nodiscard]] const std::vector<ServerAddress>& addresses() const noexcept { return addresses_; }
  [[nodiscard]] const std::vector<Server*>& servers() const noexcept { return servers_; }
  [[nodiscard]] Server& server_of(const Key& key) const;

 private:
  const std::vector<ServerAddress> addresses_;
  const std::string text_;
  const std::vector<Server*> servers_;
  memcached_st* ring_;  // only hashes; never connects
};

}  // namespace memcachedlock::detail
