// What a lock object was made with.
#pragma once

#include <chrono>
#include <memory>
#include <string_view>

#include "memcachedlock/client.hpp"
#include "memcachedlock/key.hpp"
#include "memcachedlock/observer.hpp"
#include "memcachedlock/options.hpp"
#include "server/backend.hpp"
#include "waiting/pace.hpp"

namespace memcachedlock::detail {

/// Immutable; shared by the lock object, those that it was moved to, its acquires, its holding, and
/// what is done for it in the background.
struct LockSpec {
  LockSpec(std::shared_ptr<Backend> the_backend, Key the_key, LockOptions the_options,
           LockType the_type)
      : backend(std::move(the_backend)),
        key(std::move(the_key)),
        options(std::move(the_options)),
        type(the_type),
        server(backend->server_of(key)),
        recent(Recent::of(key)) {}

  /// Fills in what all events of this lock share, and tells the observer.
  void notify(Event event) const noexcept {
    if (!backend->options().observer) return;
    event.key = key.text();
    event.scope = options.scope;
    event.server = server.name();
    event.lock = type;
    backend->notify(event);
  }

  const std::shared_ptr<Backend> backend;
  const Key key;
  const LockOptions options;
  const LockType type;
  Server& server;
  Recent& recent;
};

using SharedSpec = std::shared_ptr<const LockSpec>;

}  // namespace memcachedlock::detail
