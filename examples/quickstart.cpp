// Several processes write the same rows of a SQLite catalog: once with optimistic concurrency
// alone, once with with_zlock in front. Prints what each costs, and checks that no write was lost.
//
//   quickstart DIRECTORY      (servers: MEMCACHEDLOCK_SERVERS, or 127.0.0.1:11211)
#include <sqlite3.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"

namespace {

constexpr int processes = 4;
constexpr int writes_each = 40;
constexpr int objects = 2;

/// The store refused a commit: somebody else wrote the object since we read it.
struct ConflictError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Of this process, so that what others compute meanwhile does not count.
double processor_ms() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

constexpr int computing_ms = 5;

/// Counted by all processes together.
struct Counters {
  std::atomic<int> commits{0};
  std::atomic<int> conflicts{0};
  std::atomic<int> computations{0};
};

class Catalog {
 public:
  explicit Catalog(const std::string& file) {
    check(sqlite3_open(file.c_str(), &database_));
    sqlite3_busy_timeout(database_, 60'000);
  }
  ~Catalog() { sqlite3_close(database_); }
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  /// Once, before anybody else opens the file: a change of journal_mode does not wait for others.
  void create_objects() {
    run("PRAGMA journal_mode = WAL");
    run("CREATE TABLE objects (id INTEGER PRIMARY KEY, version INT, count INT)");
    for (int id = 0; id < objects; ++id) {
      run("INSERT INTO objects VALUES (" + std::to_string(id) + ", 0, 0)");
    }
  }

  /// Reads, computes for a while, and commits if nobody else has written meanwhile.
  void increment(int id, Counters& counters) {
    const int version = number("SELECT version FROM objects WHERE id = " + std::to_string(id));
    const int count = number("SELECT count FROM objects WHERE id = " + std::to_string(id));
    for (const double begin = processor_ms(); processor_ms() - begin < computing_ms;) {
    }  // the expensive calculation
    ++counters.computations;
    run("UPDATE objects SET version = " + std::to_string(version + 1) +
        ", count = " + std::to_string(count + 1) + " WHERE id = " + std::to_string(id) +
        " AND version = " + std::to_string(version));
    if (sqlite3_changes(database_) == 0) {
      ++counters.conflicts;
      throw ConflictError("object " + std::to_string(id) + " was written by another");
    }
    ++counters.commits;
  }

  int total() { return number("SELECT sum(count) FROM objects"); }

 private:
  void check(int code) {
    if (code != SQLITE_OK) throw std::runtime_error(sqlite3_errmsg(database_));
  }
  void run(const std::string& sql) {
    check(sqlite3_exec(database_, sql.c_str(), nullptr, nullptr, nullptr));
  }
  int number(const std::string& sql) {
    sqlite3_stmt* raw = nullptr;
    check(sqlite3_prepare_v2(database_, sql.c_str(), -1, &raw, nullptr));
    const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> statement(raw, sqlite3_finalize);
    if (sqlite3_step(raw) != SQLITE_ROW) throw std::runtime_error(sqlite3_errmsg(database_));
    return sqlite3_column_int(raw, 0);
  }

  sqlite3* database_ = nullptr;
};

/// One writer process: retries what conflicts until it is committed.
template <class Write>
void write_all(int process, const Write& write) {
  for (int i = 0; i < writes_each; ++i) {
    const int id = (process + i) % objects;
    for (;;) {
      try {
        write(id);
        break;
      } catch (const ConflictError&) {
      }
    }
  }
}

struct Outcome {
  bool kept = false;
  int computations = 0;
  double seconds = 0;
};

Outcome run_side(const char* name, const std::string& file, bool locked) {
  Catalog(file).create_objects();
  void* shared =
      mmap(nullptr, sizeof(Counters), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) throw std::runtime_error("mmap failed");
  auto* counters = new (shared) Counters;

  const auto started = std::chrono::steady_clock::now();
  std::vector<pid_t> children;
  for (int process = 0; process < processes; ++process) {
    const pid_t child = fork();
    if (child == 0) {
      int status = 0;
      try {
        Catalog catalog(file);
        const auto increment = [&](int id) { catalog.increment(id, *counters); };
        if (locked) {
          const auto key = [](int id) { return "object/" + std::to_string(id); };
          write_all(process, memcachedlock::with_zlock<ConflictError>(key, increment));
        } else {
          write_all(process, increment);
        }
      } catch (const std::exception& error) {
        std::fprintf(stderr, "writer: %s\n", error.what());
        status = 1;
      }
      _exit(status);
    }
    children.push_back(child);
  }
  bool well = true;
  for (const pid_t child : children) {
    int status = 0;
    well = waitpid(child, &status, 0) == child && status == 0 && well;
  }
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - started;

  const int total = Catalog(file).total();
  const bool kept = well && total == processes * writes_each && counters->commits == total;
  std::printf("%-24s %8d %10d %20d %9.2f  %s\n", name, counters->commits.load(),
              counters->conflicts.load(), counters->computations - counters->commits, time.count(),
              kept ? "none" : "SOME");
  const Outcome outcome{kept, counters->computations.load(), time.count()};
  munmap(shared, sizeof(Counters));
  return outcome;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  const std::string directory = argv[1];
  std::printf("%d processes, %d writes each to %d objects, %d ms of computing a write\n\n",
              processes, writes_each, objects, computing_ms);
  std::printf("%-24s %8s %10s %20s %9s  %s\n", "", "commits", "conflicts", "computations wasted",
              "seconds", "writes lost");
  std::fflush(stdout);  // before fork
  const Outcome optimistic = run_side("optimistic alone", directory + "/optimistic.db", false);
  std::fflush(stdout);
  const Outcome locked = run_side("with_zlock", directory + "/locked.db", true);
  std::printf(
      "\nFor the same commits with_zlock computed %d times in place of %d, and took %.2f s in "
      "place "
      "of %.2f s.\n",
      locked.computations, optimistic.computations, locked.seconds, optimistic.seconds);
  return optimistic.kept && locked.kept ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "quickstart: %s\n", error.what());
  return 1;
}
