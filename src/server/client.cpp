#include "memcachedlock/client.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "base/process.hpp"
#include "memcachedlock/error.hpp"
#include "server/cluster.hpp"

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

Cluster& Cluster::of(const MemcachedClient& client) { return *client.cluster_; }

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
