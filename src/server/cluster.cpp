#include "server/cluster.hpp"

#include <fmt/format.h>

#include <utility>

#include "base/word.hpp"
#include "memcachedlock/error.hpp"
#include "server/notify_observer.hpp"

namespace memcachedlock::detail {

namespace {

constexpr std::size_t longest_name = 100;

}  // namespace

Cluster::Cluster(std::string_view servers, ClientOptions options)
    : options_(std::move(options)),
      agreement_(servers, options_),
      name_(to_word(agreement_.configured().text(), longest_name)) {}

Server& Cluster::server_at(const ServerAddress& address) {
  Server* const found = agreement_.find_server(address);
  if (found == nullptr) {
    throw InvalidServers(fmt::format("{} is none of this client's servers", address.to_string()));
  }
  return *found;
}

void Cluster::notify(const Event& event) const noexcept {
  notify_observer(options_, [&](Observer& observer) { observer.on_event(event); });
}

}  // namespace memcachedlock::detail
