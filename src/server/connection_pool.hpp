// The connections to one server: each lent to one thread at a time, and cut when its request takes
// too long.
#pragma once

#include <chrono>
#include <condition_variable>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "base/mutex.hpp"
#include "base/timer_thread.hpp"
#include "memcachedlock/client_options.hpp"
#include "memcachedlock/servers.hpp"
#include "server/connection.hpp"

namespace memcachedlock::detail {

/// Thread safe. Threads that wait for a connection are served in turn.
class ConnectionPool {
 public:
  class PooledConnection;

  /// Of at most `most` connections.
  ConnectionPool(const ServerAddress& address, const ClientOptions& options, std::size_t most);
  ~ConnectionPool();
  ConnectionPool(const ConnectionPool&) = delete;
  ConnectionPool& operator=(const ConnectionPool&) = delete;

  /// For a request that may take as long as `limit`. Nothing when all connections stayed in use for
  /// that long. Sends nothing. Throws std::system_error where no thread can be made that would cut
  /// the request off.
  std::optional<PooledConnection> borrow(std::chrono::milliseconds limit);

 private:
  class Watch;

  /// A thread that waits; its place is kept until it goes.
  struct Waiter {
    std::condition_variable_any served;
    bool is_served = false;                  // it may take `connection`, or make one
    std::unique_ptr<Connection> connection;  // null: its place in the pool is free
  };
  /// One that is idle, or null where one may be made; nothing when the time is over.
  std::optional<std::unique_ptr<Connection>> take(std::chrono::milliseconds limit);
  /// To the thread that has waited the longest, or to the idle connections. Null: it was closed.
  void give_back(std::unique_ptr<Connection> connection) noexcept;

  const ServerAddress& address_;
  const ClientOptions& options_;
  const std::size_t max_connections_;
  const std::shared_ptr<Watch> watch_;
  Mutex mutex_;
  std::list<Waiter*> waiters_ MCL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Connection>> idle_ MCL_GUARDED_BY(mutex_);
  std::size_t made_ MCL_GUARDED_BY(mutex_) = 0;
};

/// A connection while one thread uses it for one request. It is closed at the end unless it was
/// kept: after a failure a late answer may still come.
class ConnectionPool::PooledConnection {
 public:
  PooledConnection(PooledConnection&& other) noexcept = default;
  PooledConnection& operator=(PooledConnection&& other) noexcept = default;
  ~PooledConnection();

  Connection& operator*() const { return *connection_; }
  Connection* operator->() const { return connection_.get(); }
  [[nodiscard]] bool used_before() const noexcept { return used_before_; }
  /// The request was answered: the connection may go back.
  void keep() noexcept { keep_ = true; }
  /// What else is idle is likely to be broken as this one is: the server has gone, or a firewall
  /// between has forgotten them.
  void discard_idle();

 private:
  friend class ConnectionPool;
  PooledConnection(ConnectionPool& pool, std::unique_ptr<Connection> connection,
                   bool used_before) noexcept;

  ConnectionPool* pool_;
  std::unique_ptr<Connection> connection_;
  bool used_before_;
  bool keep_ = false;
};

}  // namespace memcachedlock::detail
