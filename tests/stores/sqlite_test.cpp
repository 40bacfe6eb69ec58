// Locks in front of SQLite in WAL mode: conflicts, transactions that keep locks, a fence.
#include "memcachedlock/sqlite.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"
#include "support/recorder.hpp"
#include "support/sqlite_file.hpp"
#include "support/temporary_directory.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

class Database : public SqliteFile {
 public:
  using SqliteFile::SqliteFile;
  int value() { return number("SELECT value FROM counter"); }
  void write(int value) { run("UPDATE counter SET value = " + std::to_string(value)); }
  void add_one() {
    mcl::SqliteTransaction transaction(get());
    write(value() + 1);
    transaction.commit();
  }
};

class Sqlite : public testing::Test {
 protected:
  Sqlite() {
    mcl::ClientOptions options;
    options.observer = recorder;
    client.emplace(server.address(), options);
    Database database(file());
    database.run("PRAGMA journal_mode = WAL");
    database.run("CREATE TABLE counter (value INT); INSERT INTO counter VALUES (0)");
    database.run(mcl::sqlite_fence_table);
  }

  [[nodiscard]] std::string file() const { return directory.path() + "/database"; }
  /// Another connection is faster, between our read and our write.
  void interfere() const {
    Database other(file());
    other.run("UPDATE counter SET value = value + 100");
  }
  [[nodiscard]] bool is_free() const { return mcl::Lock(*client, "counter").try_lock(); }

  LocalServer server;
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  std::optional<mcl::MemcachedClient> client;
  TemporaryDirectory directory;
  static std::string key() { return "counter"; }
};

TEST_F(Sqlite, AnOldSnapshotIsAConflictAndRunsAgain) {
  Database database(file());
  int runs = 0;
  mcl::with_zlock<mcl::SqliteConflict>(*client, key, [&] {
    mcl::SqliteTransaction transaction(database.get());
    const int before = database.value();
    if (++runs == 1) {
      interfere();
      try {
        database.write(before + 1);
        ADD_FAILURE() << "not refused";
      } catch (const mcl::SqliteConflict& conflict) {
        EXPECT_EQ(conflict.code(), SQLITE_BUSY_SNAPSHOT);
        throw;
      }
    }
    database.write(before + 1);
    transaction.commit();
  })();
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(database.value(), 101);
  EXPECT_TRUE(is_free());
}

TEST_F(Sqlite, ABusyDatabaseIsAConflict) {
  Database database(file());
  sqlite3_busy_timeout(database.get(), 0);
  Database other(file());
  other.run("BEGIN IMMEDIATE");
  EXPECT_THROW(database.write(1), mcl::SqliteConflict);
  other.run("ROLLBACK");
  database.write(1);
}

TEST_F(Sqlite, OtherErrorsLeaveAtOnceAndTheLockIsFree) {
  Database database(file());
  int runs = 0;
  const auto write = mcl::with_zlock<mcl::SqliteConflict>(*client, key, [&] {
    ++runs;
    mcl::SqliteTransaction transaction(database.get());
    database.run("UPDATE no_such_table SET value = 1");
  });
  try {
    write();
    ADD_FAILURE() << "written";
  } catch (const mcl::SqliteConflict&) {
    ADD_FAILURE() << "a conflict";
  } catch (const mcl::SqliteError& error) {
    EXPECT_EQ(error.code(), SQLITE_ERROR);
    EXPECT_NE(std::string(error.what()).find("no_such_table"), std::string::npos);
  }
  EXPECT_EQ(runs, 1);
  EXPECT_TRUE(is_free());
  EXPECT_NE(sqlite3_get_autocommit(database.get()), 0);
}

TEST_F(Sqlite, WritersThatWaitForTheirTurnDoNotConflict) {
  constexpr int writers = 8;
  constexpr int each = 10;
  std::vector<std::thread> threads;
  for (int i = 0; i < writers; ++i) {
    threads.emplace_back([&] {
      Database database(file());
      const auto write =
          mcl::with_zlock<mcl::SqliteConflict>(*client, key, [&] { database.add_one(); });
      for (int n = 0; n < each; ++n) write();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Database(file()).value(), writers * each);
  EXPECT_EQ(recorder->count(mcl::EventKind::conflict), 0);
}

TEST_F(Sqlite, ATransactionKeepsItsLocksUntilItHasEnded) {
  Database database(file());
  for (const bool commits : {true, false}) {
    mcl::LockedSqliteTransaction transaction(database.get());
    mcl::ZLock<mcl::SqliteConflict> lock(*client, "counter");
    lock.lock();
    transaction.keep(lock.defer_release());
    database.write(database.value() + 1);
    EXPECT_FALSE(is_free());
    commits ? transaction.commit() : transaction.abort();
    EXPECT_TRUE(is_free());
  }
  EXPECT_EQ(database.value(), 1);
}

// Where COMMIT is refused the transaction is still open in SQLite.
TEST_F(Sqlite, ACommitThatIsRefusedHasAborted) {
  Database database(file());
  database.run("PRAGMA foreign_keys = ON");
  database.run(
      "CREATE TABLE child (id INT REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED);"
      "CREATE TABLE parent (id INT PRIMARY KEY)");
  mcl::LockedSqliteTransaction transaction(database.get());
  database.run("INSERT INTO child VALUES (1)");
  EXPECT_THROW(transaction.commit(), mcl::SqliteError);
  EXPECT_NE(sqlite3_get_autocommit(database.get()), 0);
}

TEST_F(Sqlite, TheOuterLoopFindsItsReservation) {
  mcl::Lock holder(*client, "counter");
  holder.lock();
  std::thread releaser([&] {
    EXPECT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) >= 1; }));
    interfere();
    holder.unlock();
  });
  Database database(file());
  sqlite3* handle = database.get();
  int transactions = 0;
  int runs = 0;
  mcl::run_transaction<mcl::LockedSqliteTransaction>(
      handle, [&](mcl::LockedSqliteTransaction& transaction) {
        ++transactions;
        (void)database.value();  // which makes the snapshot old
        mcl::ZLockOptions options;
        options.transaction = mcl::Transaction::outside;
        options.reservation = 20s;
        options.until_transaction_ends = [&](mcl::DeferredRelease lock) {
          transaction.keep(std::move(lock));
        };
        mcl::with_zlock<mcl::SqliteConflict>(
            *client, key,
            [&] {
              ++runs;
              database.write(database.value() + 1);
            },
            options)();
      });
  releaser.join();
  EXPECT_EQ(database.value(), 101);
  EXPECT_EQ(transactions, 2);
  EXPECT_EQ(runs, 1);
  EXPECT_TRUE(is_free());
}

TEST_F(Sqlite, ALateWriterIsRefused) {
  mcl::Lock slow(*client, "counter", {.timeout = 100ms});
  slow.lock();
  const auto late = slow.fencing_token();
  EXPECT_TRUE(eventually([&] { return is_free(); }));
  mcl::Lock next(*client, "counter");
  next.lock();
  Database database(file());
  const auto write_with = [&](const mcl::FencingToken& token, int number) {
    mcl::SqliteTransaction transaction(database.get());
    mcl::fence(database.get(), "counter", token);
    database.write(number);
    transaction.commit();
  };
  write_with(next.fencing_token(), 1);
  write_with(next.fencing_token(), 2);
  EXPECT_THROW(write_with(late, 3), mcl::LeaseLost);
  EXPECT_EQ(database.value(), 2);
  write_with({}, 4);  // unlocked
  EXPECT_EQ(database.value(), 4);
}

TEST_F(Sqlite, MemcachedMayGoAndNoUpdateIsLost) {
  std::atomic<bool> enough{false};
  std::atomic<int> done{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      Database database(file());
      mcl::ZLockOptions options;
      options.max_attempts = 1'000'000;
      const auto write = mcl::with_zlock<mcl::SqliteConflict>(
          *client, key, [&] { database.add_one(); }, options);
      for (; !enough; ++done) write();
    });
  }
  EXPECT_TRUE(eventually([&] { return done > 5; }));
  server.stop();
  EXPECT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::proceeded_unlocked) > 5; }));
  enough = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Database(file()).value(), done);
}

}  // namespace
