// PostgresLock: PostgreSQL's own advisory locks, as a lock of the standard library.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "memcachedlock/detail/plain_text.hpp"
#include "memcachedlock/detail/postgres.hpp"
#include "memcachedlock/detail/wait_limit.hpp"

namespace memcachedlock {

/// An advisory lock of the session behind a connection: no lease, no fencing token; it is held
/// until unlock() or the end of the session, and PostgreSQL serves waiters in turn.
/// TimedLockable.
///
/// Used by one thread at a time, as its connection is, which must outlive it, have no transaction
/// open in lock() and unlock(), and not be behind a pooler that shares sessions (PgBouncer needs
/// pool_mode = session). A transaction on the same connection can't outlive the lock: while any is
/// held on it, libpqxx does not connect again by itself. How long a dead server is waited for, the
/// connection's text says (connect_timeout, tcp_user_timeout).
///
/// Any bytes are a key, as for Lock. The lock's number is PostgreSQL's 64-bit hash of it: two keys
/// that share one, if that should happen, wait for each other. Each call is one statement; a timed
/// one that has to wait is five, as it sets lock_timeout and puts it back. All but unlock() throw
/// what libpqxx does.
class PostgresLock {
 public:
  /// Asks nothing.
  PostgresLock(pqxx::connection& connection, std::string_view key)
      : connection_(connection), key_(detail::plain_text(key)) {}
  ~PostgresLock() { unlock(); }
  PostgresLock(const PostgresLock&) = delete;
  PostgresLock& operator=(const PostgresLock&) = delete;

  /// Waits without limit, except those of the database (lock_timeout, statement_timeout).
  void lock() {
    check_free();
    ask("SELECT pg_advisory_lock(hashtextextended($1, 0))");
    had();
  }

  /// Asks once; false when another session has it.
  [[nodiscard]] bool try_lock() {
    check_free();
    if (!ask("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")[0][0].as<bool>()) return false;
    had();
    return true;
  }

  /// Waits at most `limit`, in milliseconds rounded up, and the statements' own time. Zero, less,
  /// and NaN ask once, more than a year is no limit.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& limit) {
    return try_within(detail::wait_limit(limit));
  }

  /// try_lock_for() for the time left, computed once.
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<Clock, Duration>& deadline) {
    return try_within(detail::wait_limit(deadline));
  }

  /// Never throws. Where the connection has broken, PostgreSQL has released the lock by itself, and
  /// the connection can be used again when no PostgresLock is on it any more. In a transaction that
  /// is still open it closes the connection for good, as that must not commit without the lock.
  void unlock() noexcept {
    if (!std::exchange(held_, false)) return;
    bool in_transaction = false;
    try {
      pqxx::nontransaction work(connection_);
      if (connection_.is_open()) {
        detail::exec_params(work, "SELECT pg_advisory_unlock(hashtextextended($1, 0))", key_);
      }
    } catch (const pqxx::usage_error&) {
      in_transaction = true;
      detail::close_session(connection_);
    } catch (const std::exception&) {
      detail::close_session(connection_);
    }
    detail::LockedConnections::remove(connection_, in_transaction);
  }

  /// Held, as far as is known here: a connection that has broken is noticed at its next statement.
  [[nodiscard]] bool owns_lock() const {
    return held_ && connection_.is_open() && connection_.backendpid() == session_;
  }

 private:
  /// For the statements of this connection, while it lives.
  class LockTimeout {
   public:
    LockTimeout(pqxx::connection& connection, long long milliseconds) : connection_(connection) {
      pqxx::nontransaction work(connection_);
      before_ = work.exec("SHOW lock_timeout")[0][0].as<std::string>();
      set(work, std::to_string(milliseconds));
    }
    ~LockTimeout() {
      try {
        pqxx::nontransaction work(connection_);
        set(work, before_);
      } catch (const std::exception&) {  // the session has gone, and its settings with it
      }
    }
    LockTimeout(const LockTimeout&) = delete;
    LockTimeout& operator=(const LockTimeout&) = delete;

   private:
    static void set(pqxx::nontransaction& work, const std::string& value) {
      work.exec("SET lock_timeout = " + work.quote(value));
    }
    pqxx::connection& connection_;
    std::string before_;
  };

  bool try_within(std::optional<std::chrono::nanoseconds> limit) {
    using std::chrono::milliseconds;
    using Clock = std::chrono::steady_clock;
    if (!limit) {
      lock();
      return true;
    }
    const auto deadline = Clock::now() + *limit;
    while (!try_lock()) {
      const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
      if (left.count() <= 0) return false;
      constexpr milliseconds longest{std::numeric_limits<std::int32_t>::max()};  // of lock_timeout
      const LockTimeout once(connection_, std::min(left, longest).count());
      try {
        lock();
        return true;
      } catch (const pqxx::sql_error& error) {
        constexpr std::string_view lock_not_available = "55P03";
        if (error.sqlstate() != lock_not_available) throw;
      }
    }
    return true;
  }

  pqxx::result ask(const char* statement) {
    detail::LockedConnections::prepare(connection_);
    pqxx::nontransaction work(connection_);
    return detail::exec_params(work, statement, key_);
  }
  void had() {
    session_ = connection_.backendpid();
    held_ = true;
    detail::LockedConnections::add(connection_);
  }
  void check_free() const {
    if (!held_) return;
    throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                            "memcachedlock: this PostgresLock is already held");
  }
  pqxx::connection& connection_;
  const std::string key_;
  int session_ = 0;
  bool held_ = false;
};

}  // namespace memcachedlock
