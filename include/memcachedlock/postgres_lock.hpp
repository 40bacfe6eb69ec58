// PostgresLock: PostgreSQL's own advisory locks, as a lock of the standard library.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <pqxx/pqxx>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace memcachedlock {

/// An advisory lock of the session behind a connection: no lease, no fencing token; it is held
/// until unlock() or the end of the session, and PostgreSQL serves in turn who waits.
/// TimedLockable.
///
/// Used by one thread at a time, as its connection is, which must outlive it, have no transaction
/// open in lock() and unlock(), and not be behind a pooler that shares sessions (PgBouncer needs
/// pool_mode = session). A transaction on the same connection can't outlive the lock: while it is
/// held, libpqxx does not connect anew by itself. How long a dead server is waited for, the
/// connection's text says (connect_timeout, tcp_user_timeout).
///
/// The lock's number is PostgreSQL's 64-bit hash of the key: two keys that share one, if that
/// should happen, wait for each other. Each call is one statement; a timed one that has to wait is
/// five, as it sets lock_timeout and puts it back. All but unlock() throw what libpqxx does.
class PostgresLock {
 public:
  /// Asks nothing.
  PostgresLock(pqxx::connection& connection, std::string_view key)
      : connection_(connection), key_(key) {}
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

  /// Waits no longer than `time`, in milliseconds rounded up, but for the statements' own time.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& time) {
    return try_lock_until(std::chrono::steady_clock::now() + time);
  }

  /// The same.
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<Clock, Duration>& time) {
    if (try_lock()) return true;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(time - Clock::now()).count();
    if (left <= 0) return false;
    const LockTimeout limit(connection_, left);
    try {
      lock();
    } catch (const pqxx::sql_error& error) {
      constexpr std::string_view lock_not_available = "55P03";
      if (error.sqlstate() != lock_not_available) throw;
      return false;
    }
    return true;
  }

  /// Never throws. Where the connection has broken, PostgreSQL has released the lock by itself;
  /// where it can't be asked, as with a transaction still open, the connection is closed for good.
  void unlock() noexcept {
    if (!std::exchange(held_, false)) return;
    try {
      if (connection_.is_open()) ask("SELECT pg_advisory_unlock(hashtextextended($1, 0))");
    } catch (const std::exception&) {
      close();  // nobody holds a lock without a session
      return;
    }
    stay_with_session(false);
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

  pqxx::result ask(const char* statement) {
    pqxx::nontransaction work(connection_);
    return work.exec_params(statement, key_);
  }
  void had() {
    session_ = connection_.backendpid();
    held_ = true;
    stay_with_session(true);
  }
  void check_free() const {
    if (!held_) return;
    throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                            "memcachedlock: this PostgresLock is already held");
  }
  // libpqxx 7 has other names for some things, and no longer connects anew by itself.
  void close() noexcept {
    [](auto& connection) {
      if constexpr (requires { connection.disconnect(); }) {
        connection.disconnect();
      } else {
        connection.close();
      }
    }(connection_);
  }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  void stay_with_session(bool on) {
    [on](auto& connection) {
      if constexpr (requires { connection.inhibit_reactivation(on); }) {
        connection.inhibit_reactivation(on);
      }
    }(connection_);
  }
#pragma GCC diagnostic pop

  pqxx::connection& connection_;
  const std::string key_;
  int session_ = 0;
  bool held_ = false;
};

}  // namespace memcachedlock
