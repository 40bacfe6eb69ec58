// What differs between the versions of libpqxx, and the locks that stand on one connection.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <map>
#include <mutex>
#include <pqxx/pqxx>
#include <string>

namespace memcachedlock::detail {

/// One statement with parameters.
template <class... Args>
pqxx::result exec_params(pqxx::transaction_base& work, const std::string& statement,
                         const Args&... args) {
#if PQXX_VERSION_MAJOR > 7 || (PQXX_VERSION_MAJOR == 7 && PQXX_VERSION_MINOR >= 10)
  return work.exec(statement, pqxx::params(args...));
#else
  return work.exec_params(statement, args...);
#endif
}

/// Ends the session; nobody holds a lock without one.
template <class Connection>
void close_session(Connection& connection) noexcept {
  if constexpr (requires { connection.disconnect(); }) {
    connection.disconnect();
  } else {
    connection.close();
  }
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
/// libpqxx 6 reconnects by itself after a session has ended, and would go on without its locks.
template <class Connection>
void stay_with_session([[maybe_unused]] Connection& connection, [[maybe_unused]] bool on) {
  if constexpr (requires { connection.inhibit_reactivation(on); }) {
    connection.inhibit_reactivation(on);
  }
}
#pragma GCC diagnostic pop

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
/// libpqxx 6 does not reconnect for a statement with parameters.
template <class Connection>
void connect_again([[maybe_unused]] Connection& connection) {
  if constexpr (requires { connection.activate(); }) {
    if (!connection.is_open()) connection.activate();
  }
}
#pragma GCC diagnostic pop

/// How many locks are on each connection of the process. One with any stays with its session; after
/// the last it may be used again, also where the session has ended meanwhile. Thread safe.
class LockedConnections {
 public:
  static void add(pqxx::connection& connection) {
    const std::lock_guard lock(mutex);
    if (++counts[&connection] == 1) stay_with_session(connection, true);
  }
  /// Connects again where the session has ended, and no lock was in it.
  static void prepare(pqxx::connection& connection) {
    const std::lock_guard lock(mutex);
    if (!counts.contains(&connection)) connect_again(connection);
  }
  /// `for_good`: it stays closed.
  static void remove(pqxx::connection& connection, bool for_good) noexcept {
    const std::lock_guard lock(mutex);
    const auto found = counts.find(&connection);
    if (found == counts.end() || --found->second > 0) return;
    counts.erase(found);
    if (for_good) return;
    try {
      stay_with_session(connection, false);
    } catch (const std::exception&) {  // then its next statement says what is wrong
    }
  }

 private:
  static inline std::mutex mutex;
  static inline std::map<pqxx::connection*, unsigned> counts;
};

}  // namespace memcachedlock::detail
