// Many waiters for one key: threads of one process, or processes, that hold it for a while, beside
// other lock libraries. All sides take turns in one run; the medians of the rounds are printed, and
// written as JSON to the file that is named.
//
//   contended_benchmark FILE [ROUNDS [MILLISECONDS]]
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "measure.hpp"
#include "sides.hpp"
#include "support/between_processes.hpp"
#include "support/local_server.hpp"

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr int max_actors = 64;

enum class Kind { threads, processes };

struct Setting {
  Kind kind;
  int actors;
  microseconds hold;
};

/// What the actors share, over fork as well.
struct Board {
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  std::atomic<bool> stop{false};
  std::atomic<std::int64_t> let_go{0};  // when the last holder began to release
  struct Actor {
    std::int64_t count;
    std::int64_t waited_ns;
    std::int64_t max_wait_ns;
    std::int64_t held_ns;
  };
  std::array<Actor, max_actors> actors{};
  static constexpr std::size_t max_handovers = 1 << 20;
  std::atomic<std::size_t> handover_count{0};
  std::array<std::int32_t, max_handovers> handovers{};
};

std::int64_t now_ns() { return nanoseconds(Clock::now().time_since_epoch()).count(); }

void act(Board& board, int number, const NamedSide& named, microseconds hold) {
  prctl(PR_SET_TIMERSLACK, 1);  // the holding is to be as long as it is said to be
  const auto side = named.make();
  side->lock();  // connects
  side->unlock();
  ++board.ready;
  while (!board.go) std::this_thread::sleep_for(milliseconds(1));
  Board::Actor& mine = board.actors[static_cast<std::size_t>(number)];
  while (!board.stop) {
    const std::int64_t asked = now_ns();
    side->lock();
    const std::int64_t got = now_ns();
    if (const std::int64_t let_go = board.let_go.load(); let_go > asked) {
      const auto place = board.handover_count++;
      if (place < Board::max_handovers) {
        board.handovers[place] = static_cast<std::int32_t>(got - let_go);
      }
    }
    if (hold.count() > 0) std::this_thread::sleep_for(hold);
    const std::int64_t done = now_ns();
    board.let_go = done;
    side->unlock();
    ++mine.count;
    mine.waited_ns += got - asked;
    mine.max_wait_ns = std::max(mine.max_wait_ns, got - asked);
    mine.held_ns += done - got;
  }
}

struct Figures {
  double per_second = 0;
  double held_us = 0;  // as it was, for one acquisition
  double handover_p50_us = 0;
  double handover_p99_us = 0;
  double commands = 0;  // of memcached, for one acquisition
  double cpu_us = 0;    // of the actors, for one acquisition
  double jain = 0;
  double max_wait = 0;  // relative to the mean
};

double commands_of(const LocalServer& server) {
  return static_cast<double>(
      server.counted({"cmd_get", "cmd_set", "delete_hits", "delete_misses"}));
}

Figures run(const LocalServer& server, const NamedSide& side, const Setting& setting,
            milliseconds time) {
  const Shared<Board> board;
  std::vector<std::thread> threads;
  std::vector<pid_t> children;
  const int whose = setting.kind == Kind::threads ? RUSAGE_SELF : RUSAGE_CHILDREN;
  const double cpu_before = cpu_seconds(whose);
  for (int i = 0; i < setting.actors; ++i) {
    if (setting.kind == Kind::threads) {
      threads.emplace_back([&, i] { act(*board, i, side, setting.hold); });
    } else {
      const pid_t child = fork();
      if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        try {
          act(*board, i, side, setting.hold);
          std::_Exit(0);
        } catch (const std::exception& error) {
          std::fprintf(stderr, "%s: %s\n", side.name.c_str(), error.what());
          std::_Exit(1);
        }
      }
      children.push_back(child);
    }
  }
  while (board->ready < setting.actors) std::this_thread::sleep_for(milliseconds(1));
  const double commands_before = commands_of(server);
  const auto started = Clock::now();
  board->go = true;
  std::this_thread::sleep_for(time);
  const double took =
      std::chrono::duration_cast<std::chrono::duration<double>>(Clock::now() - started).count();
  std::int64_t total = 0;
  for (const auto& actor : board->actors) total += actor.count;
  const double asked = commands_of(server) - commands_before;
  board->stop = true;
  for (std::thread& thread : threads) thread.join();
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) std::exit(1);
  }
  const double cpu = (cpu_seconds(whose) - cpu_before) * 1e6;

  Figures figures;
  double square = 0;
  double sum = 0;
  double waited = 0;
  double longest = 0;
  double held = 0;
  for (int i = 0; i < setting.actors; ++i) {
    const auto& actor = board->actors[static_cast<std::size_t>(i)];
    const auto count = static_cast<double>(actor.count);
    sum += count;
    square += count * count;
    waited += static_cast<double>(actor.waited_ns);
    held += static_cast<double>(actor.held_ns);
    longest = std::max(longest, static_cast<double>(actor.max_wait_ns));
  }
  figures.per_second = static_cast<double>(total) / took;
  figures.held_us = held / sum / 1e3;
  figures.commands = asked / static_cast<double>(total);
  figures.cpu_us = cpu / sum;
  figures.jain = sum * sum / (setting.actors * square);
  figures.max_wait = longest / (waited / sum);
  auto& handovers = board->handovers;
  const std::size_t count = std::min(board->handover_count.load(), Board::max_handovers);
  if (count > 0) {
    std::sort(handovers.begin(), handovers.begin() + static_cast<std::ptrdiff_t>(count));
    figures.handover_p50_us = handovers[count / 2] / 1e3;
    figures.handover_p99_us = handovers[count * 99 / 100] / 1e3;
  }
  return figures;
}

constexpr std::array<std::pair<const char*, double Figures::*>, 8> members{{
    {"per_second", &Figures::per_second},
    {"held_us", &Figures::held_us},
    {"handover_p50_us", &Figures::handover_p50_us},
    {"handover_p99_us", &Figures::handover_p99_us},
    {"commands", &Figures::commands},
    {"cpu_us", &Figures::cpu_us},
    {"jain", &Figures::jain},
    {"max_wait", &Figures::max_wait},
}};

std::vector<Setting> settings() {
  std::vector<Setting> all{{Kind::processes, 1, microseconds(0)}};
  for (const int hold : {0, 1'000, 10'000}) {
    for (const int threads : {1, 2, 8, 24, 64}) {
      all.push_back({Kind::threads, threads, microseconds(hold)});
    }
    for (const int processes : {2, 8, 24, 32}) {
      all.push_back({Kind::processes, processes, microseconds(hold)});
    }
  }
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: contended_benchmark FILE [ROUNDS [MILLISECONDS]]\n");
    return 2;
  }
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 3;
  const milliseconds time(argc > 3 ? std::atoi(argv[3]) : 400);
  // Only these, where they are named.
  const char* only = std::getenv("SIDES");
  const char* only_hold = std::getenv("HOLD_US");
  const LocalServer server;
  std::ofstream json(argv[1]);
  json << "[\n";
  const char* between = "";
  std::printf("%-9s %6s %8s  %-22s %10s %9s %9s %9s %8s %6s %8s\n", "", "actors", "hold us", "side",
              "acq./s", "p50 us", "p99 us", "commands", "cpu us", "Jain", "longest");
  for (const Setting& setting : settings()) {
    if (only_hold != nullptr && setting.hold.count() != std::atoi(only_hold)) continue;
    std::map<std::string, std::vector<Figures>> results;
    std::vector<NamedSide> sides = all_sides(server.address());
    if (only != nullptr) {
      std::erase_if(sides, [&](const NamedSide& side) {
        return (' ' + std::string(only) + ' ').find(' ' + side.name + ' ') == std::string::npos;
      });
    }
    for (int round = 0; round < rounds; ++round) {
      for (const NamedSide& side : sides) {
        results[side.name].push_back(run(server, side, setting, time));
      }
    }
    const char* kind = setting.kind == Kind::threads ? "threads" : "processes";
    for (const NamedSide& side : sides) {
      const auto& all = results[side.name];
      const auto value = [&](double Figures::*member) { return median(all, member); };
      std::printf("%-9s %6d %8ld  %-22s %10.0f %9.1f %9.1f %9.1f %8.1f %6.3f %8.1f\n", kind,
                  setting.actors, static_cast<long>(setting.hold.count()), side.name.c_str(),
                  value(&Figures::per_second), value(&Figures::handover_p50_us),
                  value(&Figures::handover_p99_us), value(&Figures::commands),
                  value(&Figures::cpu_us), value(&Figures::jain), value(&Figures::max_wait));
      json << between << R"({"kind":")" << kind << R"(","actors":)" << setting.actors
           << R"(,"hold_us":)" << setting.hold.count() << R"(,"side":")" << side.name << '"';
      for (const auto& [name, member] : members) json << ",\"" << name << "\":" << value(member);
      json << '}';
      between = ",\n";
    }
    std::fflush(stdout);
  }
  json << "\n]\n";
  return 0;
}
