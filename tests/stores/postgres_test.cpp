// Locks in front of a private PostgreSQL: conflicts, transactions that keep locks, fences, and the
// database's own locks. One program with one cluster; each test has tables of its own.
#include "memcachedlock/postgres.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"
#include "memcachedlock/postgres_lock.hpp"
#include "support/local_postgres.hpp"
#include "support/local_server.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

class Postgres : public testing::Test {
 protected:
  static void SetUpTestSuite() { database = std::make_unique<LocalPostgres>(); }
  static void TearDownTestSuite() { database.reset(); }
  static std::unique_ptr<LocalPostgres> database;

  Postgres() {
    mcl::ClientOptions client_options;
    client_options.observer = recorder;
    client.emplace(server.address(), client_options);
    run("DROP TABLE IF EXISTS counter, memcachedlock_fence");
    run("CREATE TABLE counter (id int PRIMARY KEY, value int NOT NULL)");
    run("INSERT INTO counter VALUES (1, 0), (2, 0)");
    run(mcl::postgres_fence_table);
  }

  static void run(const std::string& sql) {
    pqxx::connection connection(database->address());
    pqxx::nontransaction work(connection);
    work.exec(sql);
  }
  static int value(int id = 1) {
    pqxx::connection connection(database->address());
    pqxx::nontransaction work(connection);
    return read(work, id);
  }
  static int read(pqxx::transaction_base& work, int id = 1) {
    return work.exec("SELECT value FROM counter WHERE id = " + std::to_string(id))[0][0].as<int>();
  }
  static void write(pqxx::transaction_base& work, int value, int id = 1) {
    work.exec("UPDATE counter SET value = " + std::to_string(value) +
              " WHERE id = " + std::to_string(id));
  }
  /// Another transaction is faster, between our read and our write.
  static void interfere(int id = 1) {
    run("UPDATE counter SET value = value + 100 WHERE id = " + std::to_string(id));
  }
  static void add_one(pqxx::connection& connection) {
    pqxx::transaction<pqxx::serializable> work(connection);
    write(work, read(work) + 1);
    work.commit();
  }
  [[nodiscard]] bool is_free(const std::string& key) const {
    mcl::Lock lock(*client, key);
    return lock.try_lock();
  }

  LocalServer server;
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  std::optional<mcl::MemcachedClient> client;
  static std::string key() { return "counter"; }
};
std::unique_ptr<LocalPostgres> Postgres::database;

TEST_F(Postgres, ASerializationFailureIsAConflictAndRunsAgain) {
  pqxx::connection connection(database->address());
  int runs = 0;
  const auto write_it = mcl::with_zlock<mcl::PostgresConflict>(*client, key, [&] {
    pqxx::transaction<pqxx::serializable> work(connection);
    const int before = read(work);
    if (++runs == 1) interfere();
    write(work, before + 1);
    work.commit();
  });
  write_it();
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(value(), 101);
  EXPECT_EQ(recorder->count(mcl::EventKind::conflict), 1);
  EXPECT_TRUE(is_free(key()));
}

TEST_F(Postgres, ADeadlockIsAConflictAndRunsAgain) {
  run("ALTER DATABASE postgres SET deadlock_timeout = '20ms'");
  std::atomic<int> first_locks{0};
  std::atomic<int> runs{0};
  const auto cross = [&](int first, int second) {
    pqxx::connection connection(database->address());
    bool begun = false;
    mcl::with_zlock<mcl::PostgresConflict>(
        *client, [&] { return "row " + std::to_string(first); },
        [&] {
          ++runs;
          pqxx::work work(connection);
          work.exec("UPDATE counter SET value = value + 1 WHERE id = " + std::to_string(first));
          if (!std::exchange(begun, true)) {
            ++first_locks;
            ASSERT_TRUE(eventually([&] { return first_locks == 2; }));
          }
          work.exec("UPDATE counter SET value = value + 1 WHERE id = " + std::to_string(second));
          work.commit();
        })();
  };
  std::thread other([&] { cross(2, 1); });
  cross(1, 2);
  other.join();
  EXPECT_EQ(value(1), 2);
  EXPECT_EQ(value(2), 2);
  EXPECT_GE(runs, 3);
}

TEST_F(Postgres, WritersThatWaitForTheirTurnDoNotConflict) {
  constexpr int writers = 8;
  constexpr int each = 10;
  std::vector<std::thread> threads;
  for (int i = 0; i < writers; ++i) {
    threads.emplace_back([&] {
      pqxx::connection connection(database->address());
      const auto write_it =
          mcl::with_zlock<mcl::PostgresConflict>(*client, key, [&] { add_one(connection); });
      for (int n = 0; n < each; ++n) write_it();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(value(), writers * each);
  EXPECT_EQ(recorder->count(mcl::EventKind::conflict), 0);
}

TEST_F(Postgres, AnErrorThatIsNoConflictLeavesAtOnceAndTheLockIsFree) {
  pqxx::connection connection(database->address());
  int runs = 0;
  const auto write_it = mcl::with_zlock<mcl::PostgresConflict>(*client, key, [&] {
    ++runs;
    pqxx::work work(connection);
    work.exec("SELECT * FROM no_such_table");
  });
  EXPECT_THROW(write_it(), pqxx::undefined_table);
  EXPECT_EQ(runs, 1);
  EXPECT_TRUE(is_free(key()));
  const auto connect = mcl::with_zlock<mcl::PostgresConflict>(
      *client, key, [] { pqxx::connection("host=/nowhere user=test connect_timeout=1"); });
  EXPECT_THROW(connect(), pqxx::broken_connection);
  EXPECT_TRUE(is_free(key()));
}

// A guard that commits in its destructor, and may throw there.
TEST_F(Postgres, AConflictThatADestructorThrowsRunsAgain) {
  struct CommitsAtEnd {
    explicit CommitsAtEnd(pqxx::connection& connection) : work(connection) {}
    ~CommitsAtEnd() noexcept(false) {
      if (std::uncaught_exceptions() == 0) work.commit();
    }
    CommitsAtEnd(const CommitsAtEnd&) = delete;
    CommitsAtEnd& operator=(const CommitsAtEnd&) = delete;
    pqxx::transaction<pqxx::serializable> work;
  };
  pqxx::connection connection(database->address());
  pqxx::connection other(database->address());
  int runs = 0;
  mcl::with_zlock<mcl::PostgresConflict>(*client, key, [&] {
    const CommitsAtEnd guard(connection);
    auto& work = const_cast<CommitsAtEnd&>(guard).work;
    write(work, read(work, 2) + 1, 1);
    if (++runs > 1) return;
    // Write skew: each reads what the other writes, so the second that commits is refused.
    pqxx::transaction<pqxx::serializable> faster(other);
    write(faster, read(faster, 1) + 1, 2);
    faster.commit();
  })();
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(value(), 2);
  EXPECT_TRUE(is_free(key()));
}

TEST_F(Postgres, ATransactionKeepsItsLocksUntilItHasEnded) {
  pqxx::connection connection(database->address());
  for (const bool commits : {true, false}) {
    mcl::PostgresTransaction transaction(connection);
    mcl::ZLock<mcl::PostgresConflict> lock(*client, "counter");
    lock.lock();
    transaction.keep(lock.defer_release());
    write(*transaction, read(*transaction) + 1);
    EXPECT_FALSE(is_free("counter"));
    commits ? transaction.commit() : transaction.abort();
    EXPECT_TRUE(is_free("counter"));
  }
  {
    mcl::PostgresTransaction transaction(connection);
    mcl::Lock lock(*client, "counter");
    lock.lock();
    transaction.keep(mcl::DeferredRelease(std::move(lock)));
    write(*transaction, 77);
  }
  EXPECT_TRUE(is_free("counter"));
  EXPECT_EQ(value(), 1);
}

TEST_F(Postgres, ACommitThatConflictsKeepsTheLockReservedForItsOwner) {
  pqxx::connection connection(database->address());
  {
    mcl::PostgresTransaction transaction(connection);
    mcl::ZLock<mcl::PostgresConflict> lock(*client, "counter", {.reservation = 20s});
    lock.lock();
    transaction.keep(lock.defer_release());
    write(*transaction, read(*transaction, 2) + 1, 1);
    pqxx::connection other(database->address());
    pqxx::transaction<pqxx::serializable> faster(other);
    write(faster, read(faster, 1) + 1, 2);
    faster.commit();
    EXPECT_THROW(transaction.commit(), pqxx::serialization_failure);
    EXPECT_FALSE(is_free("counter"));
  }
  EXPECT_FALSE(is_free("counter"));
  EXPECT_TRUE((mcl::ZLock<mcl::PostgresConflict>(*client, "counter").try_lock()));
}

TEST_F(Postgres, AHookThatIsCalledTwiceReleasesOnce) {
  mcl::ZLock<mcl::PostgresConflict> lock(*client, "counter");
  lock.lock();
  const auto hook = lock.defer_release();
  hook();
  mcl::Lock next(*client, "counter");
  ASSERT_TRUE(next.try_lock());
  hook();
  hook.reserve();
  EXPECT_TRUE(next.owns_lock());
  EXPECT_EQ(next.release(), mcl::Release::released);
}

TEST_F(Postgres, TheOuterLoopFindsItsReservation) {
  mcl::Lock holder(*client, "counter");
  holder.lock();
  std::thread releaser([&] {
    EXPECT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) >= 1; }));
    interfere();
    holder.unlock();
  });
  pqxx::connection connection(database->address());
  int transactions = 0;
  int runs = 0;
  const int result = mcl::run_transaction<mcl::PostgresTransaction>(
      connection, [&](mcl::PostgresTransaction& transaction) {
        ++transactions;
        const int seen_at_first = read(*transaction, 2);  // which makes the snapshot old
        mcl::ZLockOptions options;
        options.transaction = mcl::Transaction::outside;
        options.reservation = 20s;
        options.until_transaction_ends = [&](mcl::DeferredRelease lock) {
          transaction.keep(std::move(lock));
        };
        return mcl::with_zlock<mcl::PostgresConflict>(
            *client, key,
            [&] {
              ++runs;
              const int next = read(*transaction) + seen_at_first + 1;
              write(*transaction, next);
              return next;
            },
            options)();
      });
  releaser.join();
  EXPECT_EQ(result, 101);
  EXPECT_EQ(value(), 101);
  EXPECT_EQ(transactions, 2);
  EXPECT_EQ(runs, 1);  // not in the transaction that was too old
  EXPECT_TRUE(is_free("counter"));
}

TEST_F(Postgres, TheOuterLoopEndsWithTheLastConflictAndWithOtherErrorsAtOnce) {
  pqxx::connection connection(database->address());
  int runs = 0;
  const auto loses = [&](mcl::PostgresTransaction& transaction) {
    ++runs;
    const int before = read(*transaction);
    interfere();
    write(*transaction, before + 1);
  };
  EXPECT_THROW(mcl::run_transaction<mcl::PostgresTransaction>(connection, loses, 2),
               pqxx::serialization_failure);
  EXPECT_EQ(runs, 2);
  EXPECT_THROW(mcl::run_transaction<mcl::PostgresTransaction>(connection, loses, 0),
               mcl::InvalidOption);
  EXPECT_THROW(mcl::run_transaction<mcl::PostgresTransaction>(
                   connection, [](mcl::PostgresTransaction&) { throw std::logic_error("mine"); }),
               std::logic_error);
  // One that is aborted already.
  EXPECT_THROW(mcl::run_transaction<mcl::PostgresTransaction>(
                   connection,
                   [](mcl::PostgresTransaction& transaction) {
                     EXPECT_THROW(transaction->exec("SELECT 1 / 0"), pqxx::sql_error);
                     transaction->exec("SELECT 1");
                   }),
               std::exception);
  EXPECT_EQ(value(), 200);
}

TEST_F(Postgres, ALateWriterIsRefused) {
  mcl::Lock slow(*client, "counter", {.timeout = 100ms});
  slow.lock();
  const auto late = slow.fencing_token();
  EXPECT_TRUE(eventually([&] { return is_free("counter"); }));
  mcl::Lock next(*client, "counter");
  next.lock();
  const auto write_with = [&](const mcl::FencingToken& token, int number) {
    pqxx::connection connection(database->address());
    pqxx::transaction<pqxx::serializable> work(connection);
    mcl::fence(work, "counter", token);
    write(work, number);
    work.commit();
  };
  write_with(next.fencing_token(), 1);
  write_with(next.fencing_token(), 2);  // the same holder again
  EXPECT_THROW(write_with(late, 3), mcl::LeaseLost);
  EXPECT_EQ(value(), 2);
  write_with({}, 4);  // unlocked
  EXPECT_EQ(value(), 4);
}

// Its snapshot does not even show the token of the later holder.
TEST_F(Postgres, ALateWriterIsRefusedThoughItBeganBefore) {
  mcl::Lock slow(*client, "counter", {.timeout = 100ms});
  slow.lock();
  pqxx::connection connection(database->address());
  pqxx::transaction<pqxx::serializable> late(connection);
  write(late, read(late) + 1);
  EXPECT_TRUE(eventually([&] { return is_free("counter"); }));
  mcl::Lock next(*client, "counter");
  next.lock();
  pqxx::connection other(database->address());
  pqxx::transaction<pqxx::serializable> work(other);
  mcl::fence(work, "counter", next.fencing_token());
  work.commit();
  EXPECT_THROW(
      {
        mcl::fence(late, "counter", slow.fencing_token());
        late.commit();
      },
      std::runtime_error);
  EXPECT_EQ(value(), 0);
}

TEST_F(Postgres, MemcachedMayGoAndComeBackAndNoUpdateIsLost) {
  std::atomic<bool> enough{false};
  std::atomic<int> done{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      pqxx::connection connection(database->address());
      mcl::ZLockOptions options;
      options.max_attempts = 1'000'000;
      const auto write_it = mcl::with_zlock<mcl::PostgresConflict>(
          *client, key, [&] { add_one(connection); }, options);
      for (; !enough; ++done) write_it();
    });
  }
  EXPECT_TRUE(eventually([&] { return done > 20; }));
  server.stop();
  EXPECT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::proceeded_unlocked) > 20; }));
  server.start();
  const int acquired = recorder->count(mcl::EventKind::acquired);
  EXPECT_TRUE(
      eventually([&] { return recorder->count(mcl::EventKind::acquired) > acquired + 20; }));
  enough = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(value(), done);
}

TEST_F(Postgres, ADatabaseThatGoesLeavesNoLockBehind) {
  pqxx::connection connection(database->address());
  const auto write_it = mcl::with_zlock<mcl::PostgresConflict>(*client, key, [&] {
    pqxx::transaction<pqxx::serializable> work(connection);
    write(work, read(work) + 1);
    database->kill();
    work.commit();
  });
  EXPECT_THROW(write_it(), pqxx::failure);
  EXPECT_TRUE(is_free(key()));
  database->start();
  EXPECT_EQ(value(), 0);
}

TEST_F(Postgres, TheDatabasesOwnLockExcludesOthers) {
  pqxx::connection connection(database->address());
  pqxx::connection other(database->address());
  mcl::PostgresLock lock(connection, "counter");
  mcl::PostgresLock second(other, "counter");
  mcl::PostgresLock another(other, "another");
  EXPECT_FALSE(lock.owns_lock());
  lock.lock();
  EXPECT_TRUE(lock.owns_lock());
  EXPECT_FALSE(second.try_lock());
  EXPECT_FALSE(second.try_lock_for(30ms));
  EXPECT_FALSE(second.try_lock_until(std::chrono::system_clock::now() + 30ms));
  EXPECT_TRUE(another.try_lock());
  EXPECT_THROW(lock.lock(), std::system_error);
  EXPECT_THROW((void)lock.try_lock(), std::system_error);
  {
    pqxx::work work(connection);  // on the same connection
    write(work, 5);
    work.commit();
  }
  lock.unlock();
  EXPECT_FALSE(lock.owns_lock());
  EXPECT_TRUE(second.try_lock_for(10s));
  {
    pqxx::nontransaction work(other);
    EXPECT_EQ(work.exec("SHOW lock_timeout")[0][0].as<std::string>(), "0");
  }
  second.unlock();
  another.unlock();
  { const std::scoped_lock both(lock, another); }
  EXPECT_TRUE(second.try_lock());
}

TEST_F(Postgres, TheDatabasesOwnLockIsHadWhenItsHolderLetsGo) {
  pqxx::connection connection(database->address());
  mcl::PostgresLock lock(connection, "counter");
  lock.lock();
  std::atomic<bool> had{false};
  std::thread waiter([&] {
    pqxx::connection other(database->address());
    mcl::PostgresLock second(other, "counter");
    EXPECT_TRUE(second.try_lock_for(60s));
    had = true;
  });
  pqxx::connection looker(database->address());
  EXPECT_TRUE(eventually([&] {
    pqxx::nontransaction work(looker);
    return work.exec(
                   "SELECT count(*) FROM pg_locks "
                   "WHERE locktype = 'advisory' AND NOT granted")[0][0]
               .as<int>() == 1;
  }));
  EXPECT_FALSE(had);
  lock.unlock();
  waiter.join();
  EXPECT_TRUE(had);
}

TEST_F(Postgres, TheDatabasesOwnLockGoesWithItsSession) {
  pqxx::connection connection(database->address());
  mcl::PostgresLock lock(connection, "counter");
  lock.lock();
  run("SELECT pg_terminate_backend(" + std::to_string(connection.backendpid()) + ")");
  pqxx::connection other(database->address());
  mcl::PostgresLock next(other, "counter");
  EXPECT_TRUE(next.try_lock_for(60s));
  EXPECT_THROW(
      {
        pqxx::work work(connection);  // not on a new session without the lock
        write(work, 5);
        work.commit();
      },
      pqxx::failure);
  EXPECT_FALSE(lock.owns_lock());
  lock.unlock();
  EXPECT_TRUE(next.owns_lock());
  EXPECT_EQ(value(), 0);
}

// Fault: two locks are on one connection, one is let go, and the session ends.
// Promise: nothing is written without the other; afterwards the connection can be used again.
TEST_F(Postgres, TheLastLockOnAConnectionLetsItGo) {
  pqxx::connection connection(database->address());
  const auto writes = [&] {
    try {
      pqxx::work work(connection);
      write(work, 5);
      work.commit();
      return true;
    } catch (const pqxx::failure&) {
      return false;
    }
  };
  std::optional<mcl::PostgresLock> first(std::in_place, connection, "first");
  first->lock();
  {
    mcl::PostgresLock second(connection, "second");
    second.lock();
  }
  run("SELECT pg_terminate_backend(" + std::to_string(connection.backendpid()) + ")");
  pqxx::connection elsewhere(database->address());
  mcl::PostgresLock other(elsewhere, "first");
  ASSERT_TRUE(other.try_lock_for(60s));
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(writes());
  EXPECT_EQ(value(), 0);
  first.reset();
#if PQXX_VERSION_MAJOR < 7                        // which connects again by itself
  EXPECT_TRUE(writes() || writes() || writes());  // the first may find that the session has ended
#endif
}

TEST_F(Postgres, LimitsOfAnyLengthAndKeysOfAnyBytes) {
  pqxx::connection one(database->address());
  pqxx::connection two(database->address());
  const auto waits = [&](const auto& limit) {
    mcl::PostgresLock holder(one, "k");
    holder.lock();
    std::thread release([&] {
      std::this_thread::sleep_for(50ms);
      holder.unlock();
    });
    const bool had = mcl::PostgresLock(two, "k").try_lock_for(limit);
    release.join();
    return had;
  };
  EXPECT_TRUE(waits(24h * 30));
  EXPECT_TRUE(waits(std::chrono::hours::max()));
  EXPECT_TRUE(waits(std::chrono::duration<double>(1e300)));
  mcl::PostgresLock holder(one, "k");
  holder.lock();
  EXPECT_FALSE(mcl::PostgresLock(two, "k").try_lock_for(std::chrono::hours::min()));
  EXPECT_FALSE(
      mcl::PostgresLock(two, "k").try_lock_until(std::chrono::system_clock::time_point::min()));
  const std::vector<std::string> keys{"\xff\xfe", std::string("a\0b", 3), std::string("a\0c", 3),
                                      "a\\x00b",  "caf\xc3\xa9",          "'; --"};
  std::deque<mcl::PostgresLock> all;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    EXPECT_TRUE(all.emplace_back(i % 2 == 0 ? one : two, keys[i]).try_lock()) << i;
  }
  run(mcl::postgres_fence_table);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    pqxx::work work(one);
    mcl::fence(work, keys[i], {1, 100 - i});  // each its own
    EXPECT_THROW(mcl::fence(work, keys[i], {1, 1}), mcl::LeaseLost);
    work.commit();
  }
}

TEST_F(Postgres, ManyMayMakeTheFencesTableAtOnce) {
  run("DROP TABLE IF EXISTS memcachedlock_fence");
  constexpr int many = 8;
  std::barrier together(many);
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < many; ++i) {
    threads.emplace_back([&] {
      pqxx::connection connection(database->address());
      together.arrive_and_wait();
      try {
        pqxx::work work(connection);
        work.exec(mcl::postgres_fence_table);
        work.commit();
      } catch (const pqxx::failure&) {
        ++failed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
}

TEST_F(Postgres, UnlockingInATransactionClosesTheConnection) {
  pqxx::connection connection(database->address());
  {
    mcl::PostgresLock lock(connection, "counter");
    lock.lock();
    pqxx::work work(connection);
    write(work, 5);
    lock.unlock();
    EXPECT_FALSE(lock.owns_lock());
    EXPECT_ANY_THROW({
      write(work, 6);
      work.commit();
    });
  }
  pqxx::connection other(database->address());
  mcl::PostgresLock next(other, "counter");
  EXPECT_TRUE(next.try_lock_for(60s));
  EXPECT_EQ(value(), 0);
}

TEST_F(Postgres, OneLineChoosesBetweenMemcachedAndTheDatabase) {
  constexpr int writers = 4;
  constexpr int each = 10;
  const auto run_writers = [&](const auto& make_maker) {
    std::vector<std::thread> threads;
    for (int i = 0; i < writers; ++i) {
      threads.emplace_back([&] {
        pqxx::connection connection(database->address());
        const auto write_it =
            mcl::with_lockable(make_maker(connection), key, [&] { add_one(connection); });
        for (int n = 0; n < each; ++n) write_it();
      });
    }
    for (std::thread& thread : threads) thread.join();
  };
  run_writers([&](pqxx::connection&) {
    return [&](const std::string& key) { return mcl::Lock(*client, key); };
  });
  EXPECT_EQ(value(), writers * each);
  run_writers([](pqxx::connection& connection) {
    return [&](const std::string& key) { return mcl::PostgresLock(connection, key); };
  });
  EXPECT_EQ(value(), 2 * writers * each);
}

}  // namespace
