// The connections to one server: each lent to one thread at a time, and cut when its request takes
// too long.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <optional>
#include <vector>

#include "annotations.hpp"
#include "connection.hpp"
#include "keeper.hpp"
#include "memcachedlock/client.hpp"

namespace memcachedlock::detail {

/// Thread safe.
class Pool {
 public:
  class Loan;

  Pool(const ServerAddress& address, const ClientOptions& options);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// For a request that may take as long as `limit`. Nothing when all connections stayed in use for
  /// that long. Sends nothing.
  std::optional<Loan> lend(std::chrono::milliseconds limit);

 private:
  class Watch;

  const ServerAddress& address_;
  const ClientOptions& options_;
  const std::shared_ptr<Watch> watch_;
  Mutex mutex_;
  std::condition_variable_any freed_;
  std::vector<std::unique_ptr<Connection>> idle_ MCL_GUARDED_BY(mutex_);
  std::size_t made_ MCL_GUARDED_BY(mutex_) = 0;
};

/// A connection while one thread uses it for one request. It is closed at the end unless it was
/// kept: after a failure a late answer may still come.
class Pool::Loan {
 public:
  Loan(Loan&& other) noexcept = default;
  Loan& operator=(Loan&& other) noexcept = default;
  ~Loan();

  Connection& operator*() const { return *connection_; }
  Connection* operator->() const { return connection_.get(); }
  [[nodiscard]] bool used_before() const noexcept { return used_before_; }
  /// The request was answered: the connection may go back.
  void keep() noexcept { keep_ = true; }
  /// The server has gone: what else is idle is broken too.
  void discard_idle();

 private:
  friend class Pool;
  Loan(Pool& pool, std::unique_ptr<Connection> connection, bool used_before) noexcept;

  Pool* pool_;
  std::unique_ptr<Connection> connection_;
  bool used_before_;
  bool keep_ = false;
};

}  // namespace memcachedlock::detail
