// The existing class: written without a thought of locks, and not edited for them. Indexing is
// slow, and SQLite refuses what was computed from an old snapshot.
#pragma once

#include <sqlite3.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "memcachedlock/sqlite.hpp"  // for SQLite's errors as exceptions, and its transactions

class Catalog {
 public:
  explicit Catalog(const std::string& file) : path_("/site/catalog") {
    check(sqlite3_open(file.c_str(), &database_));
    sqlite3_busy_timeout(database_, 60'000);
  }
  ~Catalog() { sqlite3_close(database_); }
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  /// Once, before anybody else opens the file.
  void create() {
    run("PRAGMA journal_mode = WAL;"
        "CREATE TABLE catalog (objects INT);"
        "INSERT INTO catalog VALUES (0)");
  }

  [[nodiscard]] const std::string& path() const { return path_; }

  /// Adds one object to the index. Throws SqliteConflict when another has done so meanwhile.
  void catalog_object(const std::string& object) {
    memcachedlock::SqliteTransaction transaction(database_);
    const int before = objects();
    ++computed_;
    std::this_thread::sleep_for(std::chrono::milliseconds(3));  // tokenize, sort, compress...
    run("UPDATE catalog SET objects = " + std::to_string(before + 1) + " -- " + object);
    transaction.commit();
  }

  [[nodiscard]] int objects() {
    sqlite3_stmt* statement = nullptr;
    check(sqlite3_prepare_v2(database_, "SELECT objects FROM catalog", -1, &statement, nullptr));
    const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> owner(statement, sqlite3_finalize);
    check(sqlite3_step(statement));
    return sqlite3_column_int(statement, 0);
  }
  [[nodiscard]] int computed() const { return computed_; }

 private:
  void check(int result) const { memcachedlock::check_sqlite(database_, result); }
  void run(const std::string& sql) {
    check(sqlite3_exec(database_, sql.c_str(), nullptr, nullptr, nullptr));
  }

  std::string path_;
  sqlite3* database_ = nullptr;
  int computed_ = 0;
};
