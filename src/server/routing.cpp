#include "server/routing.hpp"

#include <libmemcached-1.0/memcached.h>

#include <new>
#include <utility>

namespace memcachedlock::detail {

std::string list_text(const std::vector<ServerAddress>& servers) {
  std::string text;
  for (const ServerAddress& server : servers) {
    if (!text.empty()) text += ',';
    text += server.to_string();
  }
  return text;
}

Routing::Routing(std::vector<ServerAddress> addresses, std::vector<Server*> servers)
    : addresses_(std::move(addresses)),
      text_(list_text(addresses_)),
      servers_(std::move(servers)),
      ring_(memcached_create(nullptr)) {
  if (ring_ == nullptr) throw std::bad_alloc();
  memcached_behavior_set(ring_, MEMCACHED_BEHAVIOR_KETAMA, 1);
  for (const ServerAddress& address : addresses_) {
    // Only for its name in the ring, so a socket's path serves as well.
    memcached_server_add(ring_, address.host.c_str(), address.port);
  }
}

Routing::~Routing() { memcached_free(ring_); }

Server& Routing::server_of(const Key& key) const {
  return *servers_[memcached_generate_hash(ring_, key.item().data(), key.item().size())];
}

}  // namespace memcachedlock::detail
