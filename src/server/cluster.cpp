#include "server/cluster.hpp"

#include <fmt/format.h>
#include <libmemcached-1.0/memcached.h>

#include <algorithm>
#include <new>
#include <utility>

#include "memcachedlock/error.hpp"
#include "server/notify_observer.hpp"

namespace memcachedlock::detail {

Cluster::Cluster(std::string_view servers, ClientOptions options)
    : options_(std::move(options)),
      addresses_(parse_servers(servers)),
      ring_(memcached_create(nullptr)) {
  if (ring_ == nullptr) throw std::bad_alloc();
  memcached_behavior_set(ring_, MEMCACHED_BEHAVIOR_KETAMA, 1);
  for (const ServerAddress& address : addresses_) {
    servers_.emplace_back(address, options_);
    // Only for its name in the ring, so a socket's path serves as well.
    memcached_server_add(ring_, address.host.c_str(), address.port);
  }
}

Cluster::~Cluster() { memcached_free(ring_); }

Server& Cluster::server_of(const Key& key) {
  return servers_[memcached_generate_hash(ring_, key.item().data(), key.item().size())];
}

Server& Cluster::server_at(const ServerAddress& address) {
  const auto found = std::find_if(servers_.begin(), servers_.end(), [&](const Server& server) {
    return server.address() == address;
  });
  if (found == servers_.end()) {
    throw InvalidServers(fmt::format("{} is none of this client's servers", address.to_string()));
  }
  return *found;
}

void Cluster::notify(const Event& event) const noexcept {
  notify_observer(options_, [&](Observer& observer) { observer.on_event(event); });
}

}  // namespace memcachedlock::detail
