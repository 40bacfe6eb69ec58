// One of the servers at which a lock is held. There are two while the list of servers changes.
#pragma once

#include <memory>
#include <utility>

#include "server/agreement.hpp"

namespace memcachedlock::detail {

class Place {
 public:
  /// `item` is what the server keeps of itself, as it was read when the lock was acquired there.
  Place(const Server& server, std::shared_ptr<const ServerItem> item)
      : server_(&server), item_(std::move(item)) {}

  [[nodiscard]] const ServerItem& item() const noexcept { return *item_; }
  /// Whether this client, or one of the lists, calls it so.
  [[nodiscard]] bool is(const Server& server) const {
    return &server == server_ || server.name() == server_->name() ||
           server.name() == item_->list.self || (item_->next && server.name() == item_->next->self);
  }

 private:
  const Server* server_;
  std::shared_ptr<const ServerItem> item_;
};

}  // namespace memcachedlock::detail
