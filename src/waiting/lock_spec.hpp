// What a lock object was made with.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/mutex.hpp"
#include "memcachedlock/client_options.hpp"
#include "memcachedlock/key.hpp"
#include "memcachedlock/observer.hpp"
#include "memcachedlock/options.hpp"
#include "server/cluster.hpp"
#include "waiting/key_history.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

/// Immutable except the spare record; shared by the lock object, those that it was moved to, its
/// acquires, its holding, and what is done for it in the background.
struct LockSpec {
  /// At the server that the client's lists name now, or at this one.
  LockSpec(std::shared_ptr<Cluster> the_cluster, Key the_key, LockOptions the_options,
           LockType the_type, Server* at = nullptr)
      : cluster(std::move(the_cluster)),
        key(std::move(the_key)),
        options(std::move(the_options)),
        type(the_type),
        view(&cluster->agreement().view()),
        server(at != nullptr ? *at : view->list->server_of(key)),
        is_by_view(at == nullptr || at == &view->list->server_of(key)),
        name(cluster->name() + ' ' + key.item()),
        history(KeyHistory::of(key)) {}
  /// The same lock at another server.
  [[nodiscard]] std::shared_ptr<const LockSpec> at(Server& other) const {
    return std::make_shared<const LockSpec>(cluster, key, options, type, &other);
  }
  /// Where the lists have not changed since it was made.
  [[nodiscard]] bool is_current() const { return view == &cluster->agreement().view(); }
  /// Whether an item that has the list of the client's view asks for this server alone.
  [[nodiscard]] bool is_plain() const {
    return is_by_view && view->next == nullptr && is_current();
  }
  Admission admit(const Snapshot& snapshot, RestartGuard guard) const {
    return cluster->agreement().admit(server, key, snapshot, options.timeout, guard);
  }

  /// Whether its owner may enter it again.
  [[nodiscard]] bool reenters() const noexcept { return type != LockType::lock; }

  /// Fills in what all events of this lock share, and tells the observer.
  void notify(Event event) const noexcept {
    if (!cluster->options().observer) return;
    event.key = key.text();
    event.scope = options.scope;
    event.server = server.name();
    event.lock = type;
    cluster->notify(event);
  }

  const std::shared_ptr<Cluster> cluster;
  const Key key;
  const LockOptions options;
  const LockType type;
  const View* const view;
  Server& server;
  const bool is_by_view;
  const std::string name;  ///< of the lock, for this process's tables
  KeyHistory& history;

  /// The memory of an earlier record of this lock; or a new one.
  [[nodiscard]] Record take_spare() const noexcept {
    Record record;
    swap_spare(record);
    return record;
  }
  void keep_spare(Record record) const noexcept { swap_spare(record); }

 private:
  void swap_spare(Record& record) const noexcept {
    // If another thread holds the mutex now, or did when this process was forked, does nothing.
    if (!spare_mutex_.try_lock()) return;
    std::swap(record, spare_);
    spare_mutex_.unlock();
  }

  mutable Mutex spare_mutex_;
  mutable Record spare_ MCL_GUARDED_BY(spare_mutex_);
};

using SharedSpec = std::shared_ptr<const LockSpec>;

}  // namespace memcachedlock::detail
