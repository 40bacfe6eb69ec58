// lock + unlock of a free key, beside the bare commands of memcached, all on one private server:
//   add_delete      the unsafe minimum: one round trip each
//   add_get_delete  what other libraries do
//   raw             the protocol's own commands, pipelined by hand on a socket
//   lock            this library
// The sides take turns in short pieces, so that a change of the machine's speed meets all alike;
// the table at the end compares their medians.
#include <benchmark/benchmark.h>
#include <libmemcached-1.0/memcached.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "local_server.hpp"
#include "memcachedlock/memcachedlock.hpp"

namespace {

namespace mcl = memcachedlock;

LocalServer& server() {
  static LocalServer instance;
  return instance;
}

constexpr std::string_view key = "memcachedlock:benchmark";
constexpr std::string_view epoch_key = "memcachedlock:^epoch";
// As long as a record of ours.
constexpr std::string_view value =
    "mcl1 held 30000 0 0 - 0123456789abcdef0123456789abcdef.1000@localhost:10000";

void expect(bool well) {
  if (!well) {
    std::fprintf(stderr, "a command failed\n");
    std::exit(1);
  }
}

class Bare {
 public:
  Bare() : handle_(memcached_create(nullptr)) {
    const std::string address = server().address();
    memcached_server_add(handle_, "127.0.0.1",
                         static_cast<in_port_t>(std::stoi(address.substr(address.find(':') + 1))));
    memcached_behavior_set(handle_, MEMCACHED_BEHAVIOR_TCP_NODELAY, 1);
  }
  ~Bare() { memcached_free(handle_); }
  Bare(const Bare&) = delete;
  Bare& operator=(const Bare&) = delete;

  void add() {
    expect(memcached_add(handle_, key.data(), key.size(), value.data(), value.size(), 31, 0) ==
           MEMCACHED_SUCCESS);
  }
  void get() {
    std::size_t length = 0;
    std::uint32_t flags = 0;
    memcached_return_t code{};
    char* found = memcached_get(handle_, key.data(), key.size(), &length, &flags, &code);
    expect(found != nullptr);
    std::free(found);  // NOLINT: libmemcached's
  }
  void remove() {
    expect(memcached_delete(handle_, key.data(), key.size(), 0) == MEMCACHED_SUCCESS);
  }

 private:
  memcached_st* handle_;
};

class Raw {
 public:
  Raw() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const std::string text = server().address();
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port =
        htons(static_cast<std::uint16_t>(std::stoi(text.substr(text.find(':') + 1))));
    expect(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const std::string name(key);
    acquire_ = "add " + name + " 0 31 " + std::to_string(value.size()) + " noreply\r\n" +
               std::string(value) + "\r\ngets " + name + " " + std::string(epoch_key) + "\r\n";
  }
  ~Raw() { close(fd_); }
  Raw(const Raw&) = delete;
  Raw& operator=(const Raw&) = delete;

  void acquire_and_release() {
    const std::string_view held = ask(acquire_, "END\r\n");
    const auto line = held.substr(0, held.find("\r\n"));
    const std::string cas(line.substr(line.rfind(' ') + 1));
    release_ = "cas ";
    release_ += key;
    release_ += " 0 2592001 0 " + cas + "\r\n\r\n";
    expect(ask(release_, "\r\n") == "STORED\r\n");
  }

 private:
  std::string_view ask(const std::string& command, std::string_view end) {
    expect(send(fd_, command.data(), command.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(command.size()));
    std::size_t size = 0;
    while (size < end.size() || std::string_view(buffer_, size).substr(size - end.size()) != end) {
      const ssize_t count = recv(fd_, buffer_ + size, sizeof buffer_ - size, 0);
      expect(count > 0);
      size += static_cast<std::size_t>(count);
    }
    return {buffer_, size};
  }
  int fd_;
  std::string acquire_;
  std::string release_;
  char buffer_[4096]{};
};

void add_delete(benchmark::State& state) {
  Bare bare;
  for (auto _ : state) {
    bare.add();
    bare.remove();
  }
}

void add_get_delete(benchmark::State& state) {
  Bare bare;
  for (auto _ : state) {
    bare.add();
    bare.get();
    bare.remove();
  }
}

void raw(benchmark::State& state) {
  Raw connection;
  for (auto _ : state) connection.acquire_and_release();
}

void lock(benchmark::State& state) {
  mcl::ClientOptions options;
  options.protocol = state.range(0) == 0 ? mcl::Protocol::text : mcl::Protocol::binary;
  mcl::Lock lock(mcl::MemcachedClient(server().address(), options), "benchmark");
  for (auto _ : state) {
    lock.lock();
    expect(lock.release() == mcl::Release::released);
  }
}

BENCHMARK(add_delete);
BENCHMARK(add_get_delete);
BENCHMARK(raw);
BENCHMARK(lock)->ArgName("binary")->Arg(0)->Arg(1);

/// Remembers each repetition's time, for the table.
class Medians : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type == Run::RT_Iteration) {
        times_[run.run_name.function_name + " " + run.run_name.args].push_back(
            run.GetAdjustedRealTime());
      }
    }
  }
  [[nodiscard]] double median(const std::string& name) {
    std::vector<double>& times = times_.at(name);
    std::nth_element(times.begin(), times.begin() + static_cast<long>(times.size() / 2),
                     times.end());
    return times[times.size() / 2];
  }

 private:
  std::map<std::string, std::vector<double>> times_;
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<char*> arguments(argv, argv + argc);
  std::string repetitions = "--benchmark_repetitions=15";
  std::string interleaved = "--benchmark_enable_random_interleaving=true";
  std::string shortest = "--benchmark_min_time=0.1";
  for (std::string* argument : {&repetitions, &interleaved, &shortest}) {
    arguments.insert(arguments.begin() + 1, argument->data());
  }
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  Medians medians;
  benchmark::RunSpecifiedBenchmarks(&medians);

  const double bare = medians.median("add_delete ");
  const double by_hand = medians.median("raw ");
  struct Row {
    const char* name;
    const char* run;
    const char* commands;
    int round_trips;
  };
  std::printf("%-28s %8s %12s %8s  %-42s %s\n", "lock + unlock, one free key", "us", "add+delete=1",
              "raw=1", "commands", "round trips");
  for (const Row& row :
       {Row{"add + delete", "add_delete ", "add, delete", 2},
        Row{"add + get + delete", "add_get_delete ", "add, get, delete", 3},
        Row{"by hand on a socket", "raw ", "add noreply, gets of two keys, cas", 2},
        Row{"memcachedlock, text", "lock binary:0", "add noreply, gets of two keys, cas", 2},
        Row{"memcachedlock, binary", "lock binary:1", "addq, getkq of two keys and noop, cas",
            2}}) {
    const double time = medians.median(row.run);
    std::printf("%-28s %8.1f %12.2f %8.2f  %-42s %d\n", row.name, time / 1000, time / bare,
                time / by_hand, row.commands, row.round_trips);
  }
  return 0;
}
