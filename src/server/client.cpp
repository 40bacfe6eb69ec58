#include "memcachedlock/client.hpp"

#include <fmt/format.h>
#include <libmemcached-1.0/memcached.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "memcachedlock/error.hpp"
#include "server/cluster.hpp"
#include "server/notify_observer.hpp"

namespace memcachedlock {

namespace {

ClientOptions checked(ClientOptions options) {
  const auto check_limit = [](std::string_view name, std::chrono::milliseconds limit) {
    if (limit.count() <= 0 || limit > std::chrono::hours(1)) {
      throw InvalidOption(
          fmt::format("ClientOptions::{} is {} ms; it must be more than 0 and at "
                      "most an hour",
                      name, limit.count()));
    }
  };
  check_limit("connect_timeout", options.connect_timeout);
  check_limit("operation_timeout", options.operation_timeout);
  if (options.restart_window.count() < 0 || options.restart_window > std::chrono::hours(24 * 30)) {
    throw InvalidOption(
        fmt::format("ClientOptions::restart_window is {} ms; it must be 0 or more and at most 30 "
                    "days",
                    options.restart_window.count()));
  }
  const auto plain = [](char c) { return c > ' ' && c <= '~' && c != '^'; };
  if (options.prefix.size() > 64 ||
      !std::all_of(options.prefix.begin(), options.prefix.end(), plain)) {
    throw InvalidOption(
        "ClientOptions::prefix must be printable ASCII without spaces and '^', at most 64 bytes");
  }
  if (options.connections == 0) throw InvalidOption("ClientOptions::connections is 0");
  if (!options.sasl_user.empty() && options.protocol != Protocol::binary) {
    throw InvalidOption("ClientOptions::sasl_user needs Protocol::binary");
  }
  if (options.sasl_user.find('\0') != std::string::npos ||
      options.sasl_password.find('\0') != std::string::npos) {
    throw InvalidOption("ClientOptions::sasl_user and sasl_password can't hold a NUL byte");
  }
  return options;
}

}  // namespace

namespace detail {

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

}  // namespace detail

MemcachedClient::MemcachedClient(std::string_view servers, ClientOptions options)
    : cluster_(std::make_shared<detail::Cluster>(servers, checked(std::move(options)))) {}

MemcachedClient::~MemcachedClient() = default;
MemcachedClient::MemcachedClient(const MemcachedClient&) noexcept = default;
MemcachedClient& MemcachedClient::operator=(const MemcachedClient&) noexcept = default;

MemcachedClient MemcachedClient::from_environment() {
  struct Clients {
    std::mutex mutex;
    std::map<std::string, MemcachedClient> by_servers;
  };
  static auto& all = *new detail::PerProcess<Clients>;  // decorators may outlive static storage
  Clients& clients = all.get();
  const std::string servers = servers_from_environment();
  const std::lock_guard lock(clients.mutex);
  const auto known = clients.by_servers.find(servers);
  if (known != clients.by_servers.end()) return known->second;
  return clients.by_servers.emplace(servers, MemcachedClient(servers)).first->second;
}

const std::vector<ServerAddress>& MemcachedClient::servers() const noexcept {
  return cluster_->addresses();
}

const ClientOptions& MemcachedClient::options() const noexcept { return cluster_->options(); }

const ServerAddress& MemcachedClient::server_of(std::string_view key,
                                                std::string_view scope) const {
  return cluster_->server_of(Key(options().prefix, scope, key)).address();
}

}  // namespace memcachedlock
