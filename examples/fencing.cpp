// A fencing token against a store: a writer whose lease has ended is refused, however late its
// write arrives. The store compares in the statement that writes.
#include <sqlite3.h>

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>

#include "memcachedlock/memcachedlock.hpp"

using namespace std::chrono_literals;

namespace {

class Store {
 public:
  Store() {
    sqlite3_open(":memory:", &database_);
    run("CREATE TABLE pages (id TEXT PRIMARY KEY, text TEXT, token TEXT NOT NULL);"
        "INSERT INTO pages VALUES ('home', '', '')");
  }
  ~Store() { sqlite3_close(database_); }
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /// False when a later holder has written: tokens sort as text.
  bool write(const std::string& text, memcachedlock::FencingToken token) {
    const std::string word = token.to_string();
    run("UPDATE pages SET text = '" + text + "', token = '" + word +
        "' WHERE id = 'home' AND token <= '" + word + "'");
    return sqlite3_changes(database_) == 1;
  }

 private:
  void run(const std::string& sql) {
    if (sqlite3_exec(database_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
      throw std::runtime_error(sqlite3_errmsg(database_));
    }
  }
  sqlite3* database_ = nullptr;
};

}  // namespace

int main() {
  const auto client = memcachedlock::MemcachedClient::from_environment();
  Store store;

  memcachedlock::Lock slow(client, "pages/home", {.timeout = 100ms});
  slow.lock();
  const auto old_token = slow.fencing_token();
  while (slow.owns_lock()) std::this_thread::sleep_for(10ms);  // a long pause of this process

  memcachedlock::Lock next(client, "pages/home");
  next.lock();
  const bool next_wrote = store.write("from the next", next.fencing_token());
  const bool slow_wrote = store.write("too late", old_token);
  std::printf("the next holder wrote: %d, the late one: %d\n", next_wrote ? 1 : 0,
              slow_wrote ? 1 : 0);
  return next_wrote && !slow_wrote ? 0 : 1;
}
