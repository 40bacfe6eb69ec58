// SQLite: its conflicts as exceptions, transactions that keep locks until their end, and a fence in
// the database. Only programs that include this header need SQLite. In WAL mode
// a transaction that has read, and writes when another has written since, is refused
// (SQLITE_BUSY_SNAPSHOT): optimistic concurrency, in front of which a ZLock pays.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <sqlite3.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "memcachedlock/detail/fence.hpp"
#include "memcachedlock/detail/plain_text.hpp"
#include "memcachedlock/fencing_token.hpp"
#include "memcachedlock/transaction.hpp"

namespace memcachedlock {

/// What SQLite did not do, with its own words.
class SqliteError : public std::runtime_error {
 public:
  /// `code` is SQLite's extended result code.
  SqliteError(const std::string& what, int code) : std::runtime_error(what), code_(code) {}
  /// SQLite's extended result code.
  [[nodiscard]] int code() const noexcept { return code_; }

 private:
  int code_;
};

/// Another connection was faster: SQLITE_BUSY in all its forms, SQLITE_BUSY_SNAPSHOT among them.
/// The ConflictError of with_zlock<SqliteConflict>. The transaction must be begun again.
class SqliteConflict : public SqliteError {
 public:
  using SqliteError::SqliteError;
  /// For a conflict that SQLite has not reported itself: its code is SQLITE_BUSY.
  explicit SqliteConflict(const std::string& what) : SqliteError(what, SQLITE_BUSY) {}
};

/// Throws SqliteConflict or SqliteError unless `result` says that all is well.
inline void check_sqlite(sqlite3* database, int result) {
  if (result == SQLITE_OK || result == SQLITE_ROW || result == SQLITE_DONE) return;
  constexpr int primary = 0xff;
  const int code = sqlite3_extended_errcode(database);
  const std::string what =
      "SQLite: " + std::string(sqlite3_errmsg(database)) + " (" + std::to_string(code) + ")";
  if ((result & primary) == SQLITE_BUSY) throw SqliteConflict(what, code);
  throw SqliteError(what, code);
}

/// Begun when it is made, without a lock of SQLite's; aborted with it unless it was committed.
class SqliteTransaction {
 public:
  /// `BEGIN`, which reads and locks nothing yet. Throws SqliteError.
  explicit SqliteTransaction(sqlite3* database) : database_(database) { run("BEGIN"); }
  ~SqliteTransaction() { roll_back(); }
  SqliteTransaction(const SqliteTransaction&) = delete;
  SqliteTransaction& operator=(const SqliteTransaction&) = delete;

  /// Aborted if it throws.
  void commit() {
    try {
      run("COMMIT");
    } catch (...) {
      roll_back();
      throw;
    }
    open_ = false;
  }
  /// Does nothing when it has ended. Never throws.
  void abort() { roll_back(); }

 private:
  void run(const char* sql) {
    check_sqlite(database_, sqlite3_exec(database_, sql, nullptr, nullptr, nullptr));
  }
  void roll_back() noexcept {
    // SQLite has done so itself after some errors.
    if (open_ && sqlite3_get_autocommit(database_) == 0) {
      sqlite3_exec(database_, "ROLLBACK", nullptr, nullptr, nullptr);
    }
    open_ = false;
  }
  sqlite3* database_;
  bool open_ = true;
};

/// A transaction with locks, made with a sqlite3*.
using LockedSqliteTransaction = LockedTransaction<SqliteTransaction, SqliteConflict>;

/// The table that fence() uses; to be created once.
inline constexpr const char* sqlite_fence_table =
    "CREATE TABLE IF NOT EXISTS memcachedlock_fence (key TEXT PRIMARY KEY, token TEXT NOT NULL)";

/// Within a transaction, before its writes: lets nobody commit after a later holder of `key`. One
/// statement, which takes the database's write lock. Throws LeaseLost when a later holder has
/// written already; the transaction must then be aborted. A token of nobody ({0, 0}, as code that
/// runs unlocked has it) is let through: then only the transactions protect the data. Any bytes are
/// a key, as for fence() of postgres.hpp.
inline void fence(sqlite3* database, const std::string& key, const FencingToken& token) {
  if (!token) return;
  const std::string text = token.to_string();
  sqlite3_stmt* statement = nullptr;
  check_sqlite(database,
               sqlite3_prepare_v2(database, detail::fence_statement, -1, &statement, nullptr));
  const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> owner(statement, sqlite3_finalize);
  const auto bind = [&](int place, const std::string& value) {
    check_sqlite(database, sqlite3_bind_text64(statement, place, value.data(), value.size(),
                                               SQLITE_TRANSIENT, SQLITE_UTF8));
  };
  bind(1, detail::database_key(key));
  bind(2, text);
  check_sqlite(database, sqlite3_step(statement));
  if (sqlite3_changes(database) == 1) return;
  detail::refuse_late_writer(key, text);
}

}  // namespace memcachedlock
