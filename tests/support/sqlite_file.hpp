// A connection to a SQLite file, for tests and benchmarks.
#pragma once

#include <sqlite3.h>

#include <memory>
#include <string>

#include "memcachedlock/sqlite.hpp"

class SqliteFile {
 public:
  /// Waits a long time for other writers.
  explicit SqliteFile(const std::string& path) {
    check(sqlite3_open(path.c_str(), &database_));
    sqlite3_busy_timeout(database_, 60'000);
  }
  ~SqliteFile() { sqlite3_close(database_); }
  SqliteFile(const SqliteFile&) = delete;
  SqliteFile& operator=(const SqliteFile&) = delete;

  [[nodiscard]] sqlite3* get() const noexcept { return database_; }
  void run(const std::string& sql) {
    check(sqlite3_exec(database_, sql.c_str(), nullptr, nullptr, nullptr));
  }
  /// The first column of the first row.
  [[nodiscard]] int number(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    check(sqlite3_prepare_v2(database_, sql.c_str(), -1, &statement, nullptr));
    const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> owner(statement, sqlite3_finalize);
    check(sqlite3_step(statement));
    return sqlite3_column_int(statement, 0);
  }

 private:
  void check(int result) const { memcachedlock::check_sqlite(database_, result); }
  sqlite3* database_ = nullptr;
};
