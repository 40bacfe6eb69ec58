// The existing class: written without a thought of locks, and not edited for them. Indexing is
// slow, and the store refuses what was computed from an old state.
#pragma once

#include <sqlite3.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

class ConflictError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

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
        "CREATE TABLE catalog (version INT, objects INT);"
        "INSERT INTO catalog VALUES (0, 0)");
  }

  [[nodiscard]] const std::string& path() const { return path_; }

  /// Adds one object to the index. Throws ConflictError when another has done so meanwhile.
  void catalog_object(const std::string& object) {
    const int version = number("SELECT version FROM catalog");
    ++computed_;
    std::this_thread::sleep_for(std::chrono::milliseconds(3));  // tokenize, sort, compress...
    run("UPDATE catalog SET version = version + 1, objects = objects + 1 WHERE version = " +
        std::to_string(version));
    if (sqlite3_changes(database_) == 0) throw ConflictError("catalog changed before " + object);
  }

  [[nodiscard]] int objects() { return number("SELECT objects FROM catalog"); }
  [[nodiscard]] int computed() const { return computed_; }

 private:
  void check(int code) {
    if (code != SQLITE_OK) throw std::runtime_error(sqlite3_errmsg(database_));
  }
  void run(const std::string& sql) {
    check(sqlite3_exec(database_, sql.c_str(), nullptr, nullptr, nullptr));
  }
  int number(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    check(sqlite3_prepare_v2(database_, sql.c_str(), -1, &statement, nullptr));
    const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> owner(statement, sqlite3_finalize);
    if (sqlite3_step(statement) != SQLITE_ROW) throw std::runtime_error(sqlite3_errmsg(database_));
    return sqlite3_column_int(statement, 0);
  }

  std::string path_;
  sqlite3* database_ = nullptr;
  int computed_ = 0;
};
