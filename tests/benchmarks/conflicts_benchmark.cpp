// conflicts_benchmark FILE [ROUNDS [MILLISECONDS]]: processes that read a row, compute, and write
// it, in a private PostgreSQL and in a SQLite file, with optimistic concurrency alone, behind a
// ZLock, and with the database's own locks. All sides take turns in each round; FILE gets the
// medians of the rounds as JSON. In the store "pool", all writers are threads of one process that
// has only 8 connections; most write one row, and 8 others a row each. STORES, ROWS, WRITERS,
// COMPUTE_MS and SIDES are lists that choose from the cases. Computing takes that much time of a
// processor.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <pqxx/pqxx>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "measure.hpp"
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

constexpr int rows_made = 1000;

struct Case {
  std::string store;
  std::string side;
  int rows = 1;
  int writers = 1;
  int compute_ms = 1;
  auto operator<=>(const Case&) const = default;
};

/// What one writer has seen; in memory that it shares with its parent.
struct Tally {
  static constexpr std::size_t most = 20'000;
  std::size_t commits = 0;
  std::size_t computations = 0;
  std::size_t conflicts = 0;
  float latency_ms[most];
};

double cpu_of_this_thread() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

/// Writes a row until that is committed. Used by one process.
class Writer {
 public:
  Writer(const Case& which, Tally& tally, mcl::MemcachedClient client)
      : case_(which), tally_(tally), client_(std::move(client)) {}
  virtual ~Writer() = default;
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  virtual void write(int row) = 0;

 protected:
  void compute() {
    ++tally_.computations;
    const double end = cpu_of_this_thread() + case_.compute_ms / 1000.0;
    while (cpu_of_this_thread() < end) {
    }
  }
  /// Calls `attempt` as the side wants it, until it throws no conflict.
  template <class Conflict>
  void write_by(int row, const std::function<void()>& attempt) {
    const auto counted = [&] {
      try {
        attempt();
      } catch (...) {
        if (mcl::detail::handling_any_of<Conflict>()) ++tally_.conflicts;
        throw;
      }
    };
    if (case_.side == "zlock") {
      mcl::ZLockOptions options;
      options.max_attempts = 1'000'000;
      mcl::with_zlock<Conflict>(
          client_, [&] { return std::to_string(row); }, counted, options)();
      return;
    }
    for (int tries = 1;; ++tries) {
      try {
        counted();
        return;
      } catch (...) {
        if (!mcl::detail::handling_any_of<Conflict>()) throw;
      }
      if (case_.side == "optimistic-backoff") {
        std::this_thread::sleep_for(mcl::detail::retry_pause(tries));
      }
    }
  }

  const Case case_;

 private:
  Tally& tally_;
  const mcl::MemcachedClient client_;
};

/// Connections to PostgreSQL, each lent to one thread at a time.
class Connections {
 public:
  Connections(const std::string& address, int count) {
    for (int i = 0; i < count; ++i) {
      auto connection = std::make_unique<pqxx::connection>(address);
      pqxx::nontransaction work(*connection);
      work.exec("SET enable_seqscan = off");  // a scan of all rows would conflict with each writer
      connection->prepare("lock", "SELECT pg_advisory_xact_lock($1::int)");
      connection->prepare("read", "SELECT value FROM pages WHERE id = $1::int");
      connection->prepare("read_for_update",
                          "SELECT value FROM pages WHERE id = $1::int FOR UPDATE");
      connection->prepare("write", "UPDATE pages SET value = $2::int WHERE id = $1::int");
      idle_.push_back(std::move(connection));
    }
  }
  auto borrow() {
    std::unique_lock lock(mutex_);
    freed_.wait(lock, [&] { return !idle_.empty(); });
    pqxx::connection* connection = idle_.back().release();
    idle_.pop_back();
    const auto give_back = [this](pqxx::connection* mine) {
      const std::lock_guard again(mutex_);
      idle_.emplace_back(mine);
      freed_.notify_one();
    };
    return std::unique_ptr<pqxx::connection, decltype(give_back)>(connection, give_back);
  }

 private:
  std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<std::unique_ptr<pqxx::connection>> idle_;
};

class PostgresWriter final : public Writer {
 public:
  PostgresWriter(const Case& which, Tally& tally, const mcl::MemcachedClient& client,
                 std::shared_ptr<Connections> connections)
      : Writer(which, tally, client), connections_(std::move(connections)) {}
  void write(int row) override {
    write_by<mcl::PostgresConflict>(row, [&] {
      // The database's own locks are taken by transactions that see what came before.
      if (case_.side == "for-update") {
        write_in<pqxx::read_committed>(row, "read_for_update");
      } else if (case_.side == "advisory-lock") {
        write_in<pqxx::read_committed>(row, "read");
      } else {
        write_in<pqxx::serializable>(row, "read");
      }
    });
  }

 private:
  template <pqxx::isolation_level level>
  void write_in(int row, const char* read) {
    const auto connection = connections_->borrow();
    pqxx::transaction<level> work(*connection);
    if (case_.side == "advisory-lock") work.exec_prepared("lock", row);
    const int before = work.exec_prepared1(read, row)[0].template as<int>();
    compute();
    work.exec_prepared0("write", row, before + 1);
    work.commit();
  }
  std::shared_ptr<Connections> connections_;
};

class SqliteWriter final : public Writer {
 public:
  SqliteWriter(const Case& which, Tally& tally, const mcl::MemcachedClient& client,
               const std::string& file)
      : Writer(which, tally, client), file_(file) {
    file_.run("PRAGMA synchronous = NORMAL");
  }
  void write(int row) override {
    write_by<mcl::SqliteConflict>(row, [&] {
      if (case_.side == "begin-immediate") {
        file_.run("BEGIN IMMEDIATE");
        read_and_write(row);
        file_.run("COMMIT");
      } else {
        mcl::SqliteTransaction transaction(file_.get());
        read_and_write(row);
        transaction.commit();
      }
    });
  }

 private:
  void read_and_write(int row) {
    const std::string where = " WHERE id = " + std::to_string(row);
    const int before = file_.number("SELECT value FROM pages" + where);
    compute();
    file_.run("UPDATE pages SET value = " + std::to_string(before + 1) + where);
  }
  SqliteFile file_;
};

struct Figures {
  double commits_per_second = 0;
  double conflicts_per_commit = 0;
  double computations_per_commit = 0;
  double p50_ms = 0;
  double p99_ms = 0;
  double database_cpu_ms = 0;    // a commit; of PostgreSQL's processes
  double writer_cpu_ms = 0;      // a commit
  double others_per_second = 0;  // of the pool: those who write a row each
  double others_p99_ms = 0;
};

/// Processor time of a server and of those of its children that have ended.
double cpu_seconds_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  std::istringstream words(text.substr(text.rfind(')') + 2));
  constexpr int first = 11;  // utime, stime, cutime, cstime, counted from the state
  std::string word;
  for (int i = 0; i < first; ++i) words >> word;
  double ticks = 0;
  for (int i = 0; i < 4; ++i) {
    double value = 0;
    words >> value;
    ticks += value;
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

class Stores {
 public:
  Stores() : postgres_("") {
    {
      pqxx::connection connection(postgres_.address());
      pqxx::work work(connection);
      // A row a page: PostgreSQL's predicate locks are of pages.
      work.exec(
          "CREATE TABLE pages (id int PRIMARY KEY, value int NOT NULL, filler char(2000))"
          " WITH (fillfactor = 30)");
      work.exec("INSERT INTO pages SELECT i, 0, 'x' FROM generate_series(0, " +
                std::to_string(rows_made - 1) + ") i");
      work.commit();
    }
    SqliteFile file(sqlite_file());
    file.run(
        "PRAGMA journal_mode = WAL;"
        "CREATE TABLE pages (id INTEGER PRIMARY KEY, value INT);"
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < " +
        std::to_string(rows_made) + ") INSERT INTO pages SELECT i, 0 FROM n");
  }
  Stores(const Stores&) = delete;
  Stores& operator=(const Stores&) = delete;

  [[nodiscard]] std::unique_ptr<Writer> writer(const Case& which, Tally& tally,
                                               std::shared_ptr<Connections> connections) const {
    if (which.store == "sqlite") {
      return std::make_unique<SqliteWriter>(which, tally, client(), sqlite_file());
    }
    return std::make_unique<PostgresWriter>(which, tally, client(), std::move(connections));
  }
  [[nodiscard]] std::shared_ptr<Connections> connections(int count) const {
    return std::make_shared<Connections>(postgres_.address(), count);
  }
  [[nodiscard]] double cpu_of_postgres() const { return cpu_seconds_of(postgres_.pid()); }

 private:
  [[nodiscard]] std::string sqlite_file() const { return directory_.path() + "/database"; }
  /// Of this process.
  [[nodiscard]] mcl::MemcachedClient client() const {
    static const mcl::MemcachedClient one(memcached_.address());
    return one;
  }
  LocalServer memcached_;
  LocalPostgres postgres_;
  TemporaryDirectory directory_;
};

/// The first rows much more often than the last: by Zipf's law.
std::discrete_distribution<int> skewed(int rows) {
  std::vector<double> weights;
  for (int i = 1; i <= rows; ++i) weights.push_back(1.0 / i);
  return {weights.begin(), weights.end()};
}

/// What all writers of a case share: they begin together.
struct Arena {
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  std::atomic<bool> stop{false};
  static constexpr std::size_t max_writers = 256;
  std::array<Tally, max_writers> tallies;
};

/// In the pool the last few write a row each, the others the first.
constexpr int others = 8;
constexpr int pool_connections = 8;

void write_until_stopped(const Case& which, int number, Arena& arena, Writer& writer) {
  Tally& tally = arena.tallies[static_cast<std::size_t>(number)];
  std::minstd_rand random(static_cast<unsigned>(number) + 1);
  auto choose = skewed(which.rows);
  const auto next_row = [&] {
    if (which.store != "pool") return choose(random);
    return std::max(number - (which.writers - others) + 1, 0);
  };
  ++arena.ready;
  while (!arena.go) std::this_thread::sleep_for(1ms);
  while (!arena.stop) {
    const auto begun = Clock::now();
    writer.write(next_row());
    const std::chrono::duration<float, std::milli> took = Clock::now() - begun;
    if (tally.commits < Tally::most) tally.latency_ms[tally.commits] = took.count();
    ++tally.commits;
  }
}

/// The processes of a case: one a writer, or one for all.
std::vector<pid_t> start_writers(const Stores& stores, const Case& which, Arena& arena) {
  const auto write = [&stores, &which, &arena](int number,
                                               const std::shared_ptr<Connections>& connections) {
    Tally& tally = arena.tallies[static_cast<std::size_t>(number)];
    const auto writer = stores.writer(which, tally, connections);
    write_until_stopped(which, number, arena, *writer);
  };
  std::vector<pid_t> children;
  if (which.store == "pool") {
    children.push_back(in_child([&] {
      const auto connections = stores.connections(pool_connections);
      std::vector<std::thread> threads;
      for (int i = 0; i < which.writers; ++i) threads.emplace_back(write, i, connections);
      for (std::thread& thread : threads) thread.join();
      return true;
    }));
    return children;
  }
  for (int i = 0; i < which.writers; ++i) {
    children.push_back(in_child([&, i] {
      write(i, which.store == "postgres" ? stores.connections(1) : nullptr);
      return true;
    }));
  }
  return children;
}

/// Of these writers together.
struct Sum {
  double commits = 0;
  double conflicts = 0;
  double computations = 0;
  std::vector<float> latencies;

  Sum(const Tally* first, const Tally* end) {
    for (const Tally* tally = first; tally != end; ++tally) {
      commits += static_cast<double>(tally->commits);
      conflicts += static_cast<double>(tally->conflicts);
      computations += static_cast<double>(tally->computations);
      latencies.insert(latencies.end(), tally->latency_ms,
                       tally->latency_ms + std::min(tally->commits, Tally::most));
    }
    std::sort(latencies.begin(), latencies.end());
  }
  [[nodiscard]] double percentile(std::size_t percent) const {
    return latencies.empty() ? 0 : latencies[latencies.size() * percent / 100];
  }
};

Figures measure(const Stores& stores, const Case& which, std::chrono::milliseconds time) {
  const auto count = static_cast<std::size_t>(which.writers);
  if (count > Arena::max_writers) throw std::runtime_error("too many writers");
  const Shared<Arena> arena;
  const double database_before = stores.cpu_of_postgres();
  const std::vector<pid_t> children = start_writers(stores, which, *arena);
  if (!eventually([&] { return arena->ready == which.writers; })) {
    throw std::runtime_error("the writers did not start");
  }
  const auto begun = Clock::now();
  arena->go = true;
  std::this_thread::sleep_for(time);
  arena->stop = true;
  double writer_cpu = 0;
  for (const pid_t child : children) {
    int status = 0;
    rusage usage{};
    wait4(child, &status, 0, &usage);
    if (status != 0) throw std::runtime_error("a writer failed");
    writer_cpu += cpu_seconds(usage);
  }
  const std::chrono::duration<double> took = Clock::now() - begun;
  std::this_thread::sleep_for(50ms);  // PostgreSQL's processes end a little later
  const double database_cpu = stores.cpu_of_postgres() - database_before;

  const Tally* tallies = arena->tallies.data();
  const Tally* middle = tallies + (which.store == "pool" ? count - others : count);
  const Sum most(tallies, middle);
  const Sum rest(middle, tallies + count);
  const double commits = most.commits + rest.commits;
  if (most.commits == 0) throw std::runtime_error("nothing was committed in this time");
  Figures figures;
  figures.commits_per_second = most.commits / took.count();
  figures.conflicts_per_commit = most.conflicts / most.commits;
  figures.computations_per_commit = most.computations / most.commits;
  figures.p50_ms = most.percentile(50);
  figures.p99_ms = most.percentile(99);
  figures.database_cpu_ms = which.store == "sqlite" ? 0 : database_cpu * 1000 / commits;
  figures.writer_cpu_ms = writer_cpu * 1000 / commits;
  figures.others_per_second = rest.commits / took.count();
  figures.others_p99_ms = rest.percentile(99);
  return figures;
}

std::vector<std::string> list_of(const char* variable, const std::string& otherwise) {
  const char* set = std::getenv(variable);
  std::istringstream words(set != nullptr ? set : otherwise);
  std::vector<std::string> list;
  for (std::string word; words >> word;) list.push_back(word);
  return list;
}

std::vector<Case> chosen_cases() {
  const std::map<std::string, std::vector<std::string>> sides{
      {"postgres", {"optimistic", "optimistic-backoff", "zlock", "for-update", "advisory-lock"}},
      {"sqlite", {"optimistic", "optimistic-backoff", "zlock", "begin-immediate"}},
      {"pool", {"zlock", "for-update", "advisory-lock"}}};
  std::vector<Case> cases;
  for (const std::string& store : list_of("STORES", "postgres sqlite pool")) {
    const bool pool = store == "pool";
    for (const std::string& rows : list_of("ROWS", pool ? "1" : "1 10 1000")) {
      for (const std::string& compute : list_of("COMPUTE_MS", pool ? "5" : "1 5 20")) {
        for (const std::string& writers : list_of("WRITERS", pool ? "64" : "1 2 4 8 16 32")) {
          if (pool && std::stoi(writers) <= others) continue;
          for (const std::string& side : sides.at(store)) {
            const auto wanted = list_of("SIDES", side);
            if (std::find(wanted.begin(), wanted.end(), side) == wanted.end()) continue;
            cases.push_back({store, side, std::stoi(rows), std::stoi(writers), std::stoi(compute)});
          }
        }
      }
    }
  }
  return cases;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: conflicts_benchmark FILE [ROUNDS [MILLISECONDS]]\n");
    return 2;
  }
  const int rounds = argc > 2 ? std::stoi(argv[2]) : 1;
  const std::chrono::milliseconds time(argc > 3 ? std::stoi(argv[3]) : 1000);
  const Stores stores;
  const std::vector<Case> cases = chosen_cases();
  std::map<Case, std::vector<Figures>> results;
  for (int round = 0; round < rounds; ++round) {
    for (const Case& which : cases) results[which].push_back(measure(stores, which, time));
  }

  const std::vector<std::pair<const char*, double Figures::*>> columns{
      {"commits_per_second", &Figures::commits_per_second},
      {"conflicts_per_commit", &Figures::conflicts_per_commit},
      {"computations_per_commit", &Figures::computations_per_commit},
      {"p50_ms", &Figures::p50_ms},
      {"p99_ms", &Figures::p99_ms},
      {"database_cpu_ms", &Figures::database_cpu_ms},
      {"writer_cpu_ms", &Figures::writer_cpu_ms},
      {"others_per_second", &Figures::others_per_second},
      {"others_p99_ms", &Figures::others_p99_ms}};
  std::ofstream json(argv[1]);
  json << "[";
  std::printf("%-9s %-18s %5s %7s %7s %10s %10s %9s %9s %9s %8s %8s %9s %9s\n", "store", "side",
              "rows", "writers", "compute", "commits/s", "conflicts", "computed", "p50 ms",
              "p99 ms", "db cpu", "cpu", "others/s", "p99 ms");
  for (const Case& which : cases) {
    const std::vector<Figures>& all = results.at(which);
    json << (&which == cases.data() ? "\n" : ",\n") << R"({"store": ")" << which.store
         << R"(", "side": ")" << which.side << R"(", "rows": )" << which.rows
         << ", \"writers\": " << which.writers << ", \"compute_ms\": " << which.compute_ms;
    for (const auto& [name, figure] : columns) {
      json << ", \"" << name << "\": " << median(all, figure);
    }
    json << "}";
    std::printf("%-9s %-18s %5d %7d %7d %10.1f %10.3f %9.2f %9.1f %9.1f %8.2f %8.2f %9.1f %9.1f\n",
                which.store.c_str(), which.side.c_str(), which.rows, which.writers,
                which.compute_ms, median(all, &Figures::commits_per_second),
                median(all, &Figures::conflicts_per_commit),
                median(all, &Figures::computations_per_commit), median(all, &Figures::p50_ms),
                median(all, &Figures::p99_ms), median(all, &Figures::database_cpu_ms),
                median(all, &Figures::writer_cpu_ms), median(all, &Figures::others_per_second),
                median(all, &Figures::others_p99_ms));
  }
  json << "\n]\n";
  return 0;
}
