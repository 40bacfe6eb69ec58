// store_torture SECONDS SEED: writers in front of PostgreSQL and SQLite, each update behind a
// ZLock, while memcached is killed, paused, restarted and flushed, PostgreSQL is killed and
// restarted, and writers are killed. Then: every update that was committed is in its counter, no
// money has come or gone, and no write that was reported as committed is missing.
//
// Each transaction adds one to a counter, or moves money between two accounts, and notes itself in
// a log. So counter and log can differ only by an update that was lost.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <pqxx/pqxx>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"
#include "memcachedlock/postgres.hpp"
#include "memcachedlock/sqlite.hpp"
#include "support/between_processes.hpp"
#include "support/local_postgres.hpp"
#include "support/local_server.hpp"
#include "support/sqlite_file.hpp"
#include "support/temporary_directory.hpp"

namespace {

namespace mcl = memcachedlock;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int accounts = 4;
constexpr int money = 1'000;  // of each account, at first
constexpr std::size_t postgres_writers = 6;
constexpr std::size_t sqlite_writers = 4;
constexpr std::size_t all_writers = postgres_writers + sqlite_writers;

/// Of the whole run; all processes share it.
struct Record {
  std::atomic<bool> stop{false};
  std::atomic<bool> memcached_well{true};
  std::array<std::atomic<int>, all_writers> acknowledged{};  // the last of its notes
  std::atomic<int> conflicts_in_faults{0};
  std::atomic<int> conflicts_else{0};
  std::atomic<int> unlocked{0};
  std::atomic<int> database_errors{0};
};

class Counts final : public mcl::Observer {
 public:
  explicit Counts(Record& shared) : shared_(shared) {}
  void on_event(const mcl::Event& event) override {
    if (event.kind == mcl::EventKind::proceeded_unlocked) ++shared_.unlocked;
    if (event.kind == mcl::EventKind::conflict) {
      ++(shared_.memcached_well ? shared_.conflicts_else : shared_.conflicts_in_faults);
    }
  }

 private:
  Record& shared_;
};

/// A store as a writer uses it: statements in one transaction, numbers read from it.
class Store {
 public:
  Store() = default;
  virtual ~Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  virtual void run(const std::string& sql) = 0;
  virtual int number(const std::string& sql) = 0;
};

void make_tables(Store& store) {
  store.run("CREATE TABLE counter (value int)");
  store.run("INSERT INTO counter VALUES (0)");
  store.run("CREATE TABLE account (id int PRIMARY KEY, amount int)");
  for (int i = 0; i < accounts; ++i) {
    store.run("INSERT INTO account VALUES (" + std::to_string(i) + ", " + std::to_string(money) +
              ")");
  }
  store.run("CREATE TABLE log (writer int, note int, counted int, PRIMARY KEY (writer, note))");
}

/// What one transaction does, read first and written after some time.
void update(Store& store, std::mt19937& random, std::size_t writer, int note) {
  const bool counts = random() % 2 == 0;
  const auto pause = [&] {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 2'000));
  };
  if (counts) {
    const int before = store.number("SELECT value FROM counter");
    pause();
    store.run("UPDATE counter SET value = " + std::to_string(before + 1));
  } else {
    const auto from = std::to_string(random() % accounts);
    const auto to = std::to_string(random() % accounts);
    if (from != to) {
      const int had = store.number("SELECT amount FROM account WHERE id = " + from);
      const int has = store.number("SELECT amount FROM account WHERE id = " + to);
      pause();
      store.run("UPDATE account SET amount = " + std::to_string(had - 1) + " WHERE id = " + from);
      store.run("UPDATE account SET amount = " + std::to_string(has + 1) + " WHERE id = " + to);
    }
  }
  store.run("INSERT INTO log VALUES (" + std::to_string(writer) + ", " + std::to_string(note) +
            ", " + (counts ? "1" : "0") + ")");
}

class InPostgres final : public Store {
 public:
  explicit InPostgres(pqxx::transaction_base& work) : work_(work) {}
  void run(const std::string& sql) override { work_.exec(sql); }
  int number(const std::string& sql) override { return work_.exec(sql)[0][0].as<int>(); }

 private:
  pqxx::transaction_base& work_;
};

class InSqlite final : public Store {
 public:
  explicit InSqlite(const std::string& path) : file_(path) {}
  sqlite3* get() { return file_.get(); }
  void run(const std::string& sql) override { file_.run(sql); }
  int number(const std::string& sql) override { return file_.number(sql); }

 private:
  SqliteFile file_;
};

struct Addresses {
  std::string memcached;
  std::string postgres;
  std::string sqlite;
};

mcl::ZLockOptions options() {
  mcl::ZLockOptions all;
  all.timeout = 2s;
  all.max_attempts = 1'000'000;
  return all;
}

void write_postgres(const Addresses& where, const mcl::MemcachedClient& client, Record& shared,
                    std::size_t number, std::mt19937& random) {
  std::unique_ptr<pqxx::connection> connection;
  int note = 0;
  const auto write = mcl::with_zlock<mcl::PostgresConflict>(
      client, [] { return "postgres"; },
      [&] {
        pqxx::transaction<pqxx::serializable> work(*connection);
        InPostgres store(work);
        update(store, random, number, note);
        work.commit();
      },
      options());
  while (!shared.stop) {
    try {
      if (!connection) {
        connection = std::make_unique<pqxx::connection>(where.postgres);
        pqxx::nontransaction work(*connection);
        note = InPostgres(work).number("SELECT coalesce(max(note), 0) FROM log WHERE writer = " +
                                       std::to_string(number));
      }
      ++note;
      write();
      shared.acknowledged[number] = note;
    } catch (const pqxx::failure&) {  // as the database's errors leave: begin with a new session
      ++shared.database_errors;
      connection.reset();
      std::this_thread::sleep_for(20ms);
    }
  }
}

void write_sqlite(const Addresses& where, const mcl::MemcachedClient& client, Record& shared,
                  std::size_t number, std::mt19937& random) {
  InSqlite store(where.sqlite);
  int note = store.number("SELECT coalesce(max(note), 0) FROM log WHERE writer = " +
                          std::to_string(number));
  const auto write = mcl::with_zlock<mcl::SqliteConflict>(
      client, [] { return "sqlite"; },
      [&] {
        mcl::SqliteTransaction transaction(store.get());
        update(store, random, number, note);
        transaction.commit();
      },
      options());
  while (!shared.stop) {
    ++note;
    write();
    shared.acknowledged[number] = note;
  }
}

pid_t start_writer(const Addresses& where, Record& shared, std::size_t number, unsigned seed) {
  return in_child([&where, &shared, number, seed] {
    mcl::ClientOptions client_options;
    client_options.operation_timeout = 200ms;
    client_options.observer = std::make_shared<Counts>(shared);
    const mcl::MemcachedClient client(where.memcached, client_options);
    std::mt19937 random(seed);
    if (number < postgres_writers) {
      write_postgres(where, client, shared, number, random);
    } else {
      write_sqlite(where, client, shared, number, random);
    }
    return true;
  });
}

int violations = 0;

void check(bool well, const std::string& what) {
  if (well) return;
  ++violations;
  std::printf("VIOLATION: %s\n", what.c_str());
}

void check_store(const std::string& name, Store& store, const Record& shared, std::size_t first,
                 std::size_t end) {
  const int value = store.number("SELECT value FROM counter");
  const int counted = store.number("SELECT count(*) FROM log WHERE counted = 1");
  const int sum = store.number("SELECT sum(amount) FROM account");
  check(value == counted, name + ": the counter is " + std::to_string(value) + " after " +
                              std::to_string(counted) + " updates");
  check(sum == accounts * money, name + ": there is " + std::to_string(sum) + " of money");
  for (std::size_t i = first; i < end; ++i) {
    const int last =
        store.number("SELECT coalesce(max(note), 0) FROM log WHERE writer = " + std::to_string(i));
    check(last >= shared.acknowledged[i],
          name + ": what writer " + std::to_string(i) + " was told to be committed is missing");
    check(last > 0, name + ": writer " + std::to_string(i) + " never had its turn");
  }
  std::printf("%s: %d transactions, %d of them counted, sum %d\n", name.c_str(),
              store.number("SELECT count(*) FROM log"), counted, sum);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: store_torture SECONDS SEED\n");
    return 2;
  }
  const auto end = Clock::now() + std::chrono::seconds(std::stoi(argv[1]));
  const auto seed = static_cast<unsigned>(std::stoul(argv[2]));
  std::printf("store_torture for %s s with seed %u\n", argv[1], seed);
  const Shared<Record> memory;
  Record& shared = *memory;

  LocalServer memcached;
  LocalPostgres postgres;
  const TemporaryDirectory directory;
  const Addresses where{memcached.address(), postgres.address(), directory.path() + "/database"};
  {
    pqxx::connection connection(where.postgres);
    pqxx::work work(connection);
    InPostgres store(work);
    make_tables(store);
    work.commit();
    InSqlite file(where.sqlite);
    file.run("PRAGMA journal_mode = WAL");
    make_tables(file);
  }

  std::mt19937 random(seed);
  std::array<pid_t, all_writers> writers{};
  for (std::size_t i = 0; i < all_writers; ++i) {
    writers[i] = start_writer(where, shared, i, static_cast<unsigned>(random()));
  }
  const auto for_ms = [&](unsigned least, unsigned most) {
    std::this_thread::sleep_for(std::chrono::milliseconds(least + random() % (most - least)));
  };
  int killed = 0, paused = 0, flushed = 0, databases = 0, writers_killed = 0;
  while (Clock::now() < end) {
    for_ms(200, 800);
    switch (random() % 5) {
      case 0:
        ++killed;
        shared.memcached_well = false;
        memcached.stop();
        for_ms(50, 500);
        memcached.start();
        break;
      case 1:
        ++paused;
        shared.memcached_well = false;
        memcached.pause();
        for_ms(50, 3'000);
        memcached.resume();
        break;
      case 2:
        ++flushed;
        shared.memcached_well = false;
        memcached.ask("flush_all", "OK\r\n");
        break;
      case 3:
        ++databases;
        postgres.kill();
        for_ms(50, 500);
        postgres.start();
        break;
      default: {
        ++writers_killed;
        const std::size_t victim = random() % all_writers;
        kill(writers[victim], SIGKILL);
        waitpid(writers[victim], nullptr, 0);
        writers[victim] = start_writer(where, shared, victim, static_cast<unsigned>(random()));
      }
    }
    // Two may hold the lock from before a restart and after it, until leases have run out.
    for_ms(10, 100);
    shared.memcached_well = true;
  }
  // All that goes on now is well, so each gets its turn.
  std::array<int, all_writers> before{};
  for (std::size_t i = 0; i < all_writers; ++i) before[i] = shared.acknowledged[i];
  check(eventually([&] {
          for (std::size_t i = 0; i < all_writers; ++i) {
            if (shared.acknowledged[i] <= before[i]) return false;
          }
          return true;
        }),
        "a writer waits for ever");
  shared.stop = true;
  for (const pid_t writer : writers) check(ended_well(writer), "a writer failed");

  std::printf(
      "memcached killed %d, paused %d, flushed %d; PostgreSQL killed %d; writers killed %d\n",
      killed, paused, flushed, databases, writers_killed);
  std::printf("%d calls went on unlocked; conflicts: %d while memcached was in trouble, %d else\n",
              shared.unlocked.load(), shared.conflicts_in_faults.load(),
              shared.conflicts_else.load());
  std::printf("the database failed %d calls\n", shared.database_errors.load());
  {
    pqxx::connection connection(where.postgres);
    pqxx::nontransaction work(connection);
    InPostgres store(work);
    check_store("PostgreSQL", store, shared, 0, postgres_writers);
    InSqlite file(where.sqlite);
    check_store("SQLite", file, shared, postgres_writers, all_writers);
  }
  std::printf("%d violations\n", violations);
  return violations == 0 ? 0 : 1;
}
