// lock + unlock of a free key, beside the bare commands of memcached, all on one private server:
//   add_delete      the unsafe minimum: one round trip each
//   add_get_delete  what other libraries do
//   raw             the protocol's own commands, pipelined by hand on a socket
//   same            these commands through libmemcached, and nothing else
//   lock            this library
//   re-entry        an RLock that its owner holds already: no request
// and, over Unix sockets, the first and the last again, and what peers are there (sides.hpp).
// The sides take turns in short pieces, so that a change of the machine's speed meets all alike;
// the table at the end compares their medians.
#include <benchmark/benchmark.h>
#include <libmemcached-1.0/memcached.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"
#include "sides.hpp"
#include "support/local_server.hpp"

namespace {
thread_local long allocations = 0;
}  // namespace

// Counted. libmemcached and libc allocate by malloc, which is not.
void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;  // NOLINT
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }               // NOLINT
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }  // NOLINT

namespace {

namespace mcl = memcachedlock;

LocalServer& server() {
  static LocalServer instance;
  return instance;
}

LocalServer& socket_server() {
  static LocalServer instance({}, LocalServer::Listen::unix_socket);
  return instance;
}

constexpr std::string_view key = "memcachedlock:benchmark";
constexpr std::string_view item_key = "memcachedlock:^server";
// As long as a record of ours.
constexpr std::string_view value =
    "mcl2 1764057634 +0123456789abcdef0123456789abcdef.1000:x:30000:1764057634:0:1764057600123:-:"
    "-@localhost:10000:10000";

void expect(bool well) {
  if (!well) {
    std::fprintf(stderr, "a command failed\n");
    std::exit(1);
  }
}

std::uint16_t port_of(const std::string& address) {
  return static_cast<std::uint16_t>(std::stoi(address.substr(address.find(':') + 1)));
}

class Bare {
 public:
  explicit Bare(const std::string& address) : handle_(memcached_create(nullptr)) {
    if (address.front() == '/') {
      memcached_server_add_unix_socket(handle_, address.c_str());
    } else {
      memcached_server_add(handle_, "127.0.0.1", port_of(address));
    }
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

/// What this library makes libmemcached do.
class Same {
 public:
  explicit Same(const std::string& address) : handle_(memcached_create(nullptr)) {
    memcached_server_add(handle_, "127.0.0.1", port_of(address));
    memcached_behavior_set(handle_, MEMCACHED_BEHAVIOR_TCP_NODELAY, 1);
    memcached_behavior_set(handle_, MEMCACHED_BEHAVIOR_SUPPORT_CAS, 1);
  }
  ~Same() { memcached_free(handle_); }
  Same(const Same&) = delete;
  Same& operator=(const Same&) = delete;

  void acquire_and_release() {
    memcached_behavior_set(handle_, MEMCACHED_BEHAVIOR_NOREPLY, 1);
    expect(memcached_add(handle_, key.data(), key.size(), value.data(), value.size(), 31, 0) ==
           MEMCACHED_SUCCESS);
    memcached_behavior_set(handle_, MEMCACHED_BEHAVIOR_NOREPLY, 0);
    const char* keys[] = {key.data(), item_key.data()};
    const std::size_t lengths[] = {key.size(), item_key.size()};
    expect(memcached_mget(handle_, keys, lengths, 2) == MEMCACHED_SUCCESS);
    memcached_result_st result;
    memcached_result_create(handle_, &result);
    std::uint64_t cas = 0;
    memcached_return_t code{};
    while (memcached_fetch_result(handle_, &result, &code) != nullptr) {
      if (memcached_result_key_length(&result) == key.size()) cas = memcached_result_cas(&result);
    }
    memcached_result_free(&result);
    expect(memcached_cas(handle_, key.data(), key.size(), "", 0, 2592001, 0, cas) ==
           MEMCACHED_SUCCESS);
  }

 private:
  memcached_st* handle_;
};

int connect_to(const std::string& address) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in place{};
  place.sin_family = AF_INET;
  place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  place.sin_port = htons(port_of(address));
  expect(connect(fd, reinterpret_cast<sockaddr*>(&place), sizeof place) == 0);
  return fd;
}

class Raw {
 public:
  explicit Raw(const std::string& address) : fd_(connect_to(address)) {
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const std::string name(key);
    acquire_ = "add " + name + " 0 31 " + std::to_string(value.size()) + " noreply\r\n" +
               std::string(value) + "\r\ngets " + name + " " + std::string(item_key) + "\r\n";
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

/// Between a client and the server: counts how often the talk turns back to the client's side.
class Relay {
 public:
  Relay() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in place{};
    place.sin_family = AF_INET;
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof place;
    expect(bind(listener_, reinterpret_cast<sockaddr*>(&place), length) == 0 &&
           listen(listener_, 1) == 0 &&
           getsockname(listener_, reinterpret_cast<sockaddr*>(&place), &length) == 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(place.sin_port));
    thread_ = std::thread([this] { run(); });
  }
  ~Relay() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] int round_trips() const { return round_trips_; }

 private:
  void run() {
    const int client = accept(listener_, nullptr, nullptr);
    if (client < 0) return;
    const int memcached = connect_to(server().address());
    bool answered = true;
    for (bool open = true; open;) {
      pollfd sides[] = {{client, POLLIN, 0}, {memcached, POLLIN, 0}};
      expect(poll(sides, 2, -1) > 0);
      for (int side = 0; side < 2 && open; ++side) {
        if (sides[side].revents == 0) continue;
        char buffer[4096];
        const ssize_t count = recv(sides[side].fd, buffer, sizeof buffer, 0);
        open = count > 0;
        if (!open) break;
        if (side == 0 && std::exchange(answered, false)) ++round_trips_;
        if (side == 1) answered = true;
        expect(send(sides[1 - side].fd, buffer, static_cast<std::size_t>(count), MSG_NOSIGNAL) ==
               count);
      }
    }
    close(client);
    close(memcached);
  }

  int listener_;
  std::string address_;
  std::atomic<int> round_trips_{0};
  std::thread thread_;
};

/// Makes a function that locks and unlocks once.
using Maker = std::function<std::function<void()>(const std::string& address)>;

Maker lock_side(mcl::Protocol protocol) {
  return [protocol](const std::string& address) {
    mcl::ClientOptions options;
    options.protocol = protocol;
    return
        [lock = std::make_shared<mcl::Lock>(mcl::MemcachedClient(address, options), "benchmark")] {
          lock->lock();
          expect(lock->release() == mcl::Release::released);
        };
  };
}

/// Of a lock that its owner holds already.
std::function<void()> reentry_side(const std::string& address) {
  const mcl::MemcachedClient client(address);
  const auto outer = std::make_shared<mcl::RLock>(client, "entered again");
  outer->lock();
  return [outer, inner = std::make_shared<mcl::RLock>(client, "entered again")] {
    inner->lock();
    expect(inner->release() == mcl::Release::released);
  };
}

struct Contestant {
  std::string name;
  Maker make;
  bool counted = true;  // its commands and round trips
};

/// The peers, whose addresses are in the environment.
void add_peers(std::vector<Contestant>& all) {
  const std::map<std::string, std::string> wanted{
      {"redis-polled-1ms", "Redis SET NX PX + script, Unix socket"},
      {"etcd", "etcd's lock, JSON over loopback"},
      {"pg_advisory_lock", "PostgreSQL advisory lock, Unix socket"},
      {"flock", "flock on a local file"}};
  for (const NamedSide& side : all_sides(server().address())) {
    const auto name = wanted.find(side.name);
    if (name == wanted.end()) continue;
    all.push_back({name->second,
                   [make = side.make](const std::string&) {
                     return [peer = std::shared_ptr<Side>(make())] {
                       peer->lock();
                       peer->unlock();
                     };
                   },
                   false});
  }
}

Maker on_socket(const Maker& make) {
  return [make](const std::string&) { return make(socket_server().address()); };
}

std::vector<Contestant> all_contestants() {
  std::vector<Contestant> all{
      {"add + delete",
       [](const std::string& address) {
         return [bare = std::make_shared<Bare>(address)] {
           bare->add();
           bare->remove();
         };
       }},
      {"add + get + delete",
       [](const std::string& address) {
         return [bare = std::make_shared<Bare>(address)] {
           bare->add();
           bare->get();
           bare->remove();
         };
       }},
      {"by hand on a socket",
       [](const std::string& address) {
         return [raw = std::make_shared<Raw>(address)] { raw->acquire_and_release(); };
       }},
      {"the same through libmemcached",
       [](const std::string& address) {
         return [same = std::make_shared<Same>(address)] { same->acquire_and_release(); };
       }},
      {"memcachedlock, text", lock_side(mcl::Protocol::text)},
      {"memcachedlock, binary", lock_side(mcl::Protocol::binary)},
      {"memcachedlock, re-entry", reentry_side}};
  all.push_back({all[0].name + ", Unix socket", on_socket(all[0].make), false});
  all.push_back({all[4].name + ", Unix socket", on_socket(all[4].make), false});
  all.push_back({all[5].name + ", Unix socket", on_socket(all[5].make), false});
  add_peers(all);
  return all;
}

const std::vector<Contestant>& contestants() {
  static const std::vector<Contestant> all = all_contestants();
  return all;
}

void lock_and_unlock(benchmark::State& state, const Contestant& named) {
  const auto once = named.make(server().address());
  for (auto _ : state) once();
}

/// What the server has counted so far: keys asked for, and stores, and deletions.
long commands() { return server().counted({"cmd_get", "cmd_set", "delete_hits", "delete_misses"}); }

struct Cost {
  double commands;
  double round_trips;
  double allocations;
};

Cost cost_of(const Contestant& named) {
  constexpr int times = 1000;
  const Relay relay;
  const auto once = named.make(relay.address());
  for (int i = 0; i < 10; ++i) once();  // connects, and allocates what is used again
  const long commands_before = commands();
  const int trips_before = relay.round_trips();
  const long allocations_before = allocations;
  for (int i = 0; i < times; ++i) once();
  const long allocated = allocations - allocations_before;
  return {static_cast<double>(commands() - commands_before) / times,
          static_cast<double>(relay.round_trips() - trips_before) / times,
          static_cast<double>(allocated) / times};
}

/// Remembers each repetition's time, for the table.
class Medians : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type == Run::RT_Iteration) {
        times_[run.run_name.function_name].push_back(run.GetAdjustedRealTime());
      }
    }
  }
  [[nodiscard]] std::size_t size() const { return times_.size(); }
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
  for (const Contestant& named : contestants()) {
    benchmark::RegisterBenchmark(named.name.c_str(),
                                 [&](benchmark::State& state) { lock_and_unlock(state, named); });
  }
  Medians medians;
  benchmark::RunSpecifiedBenchmarks(&medians);
  if (medians.size() < contestants().size()) {
    std::puts("no table, which compares all with the first: not all were run");
    return 0;
  }

  const double bare = medians.median(contestants()[0].name);
  const double by_hand = medians.median(contestants()[2].name);
  std::printf("%-38s %8s %12s %8s %9s %12s %12s\n", "lock + unlock of a free key", "us",
              "add+delete=1", "raw=1", "commands", "round trips", "allocations");
  for (const Contestant& named : contestants()) {
    const double time = medians.median(named.name);
    std::printf("%-38s %8.2f %12.3f %8.3f", named.name.c_str(), time / 1000, time / bare,
                time / by_hand);
    if (named.counted) {
      const Cost cost = cost_of(named);
      std::printf(" %9.2f %12.2f %12.2f", cost.commands, cost.round_trips, cost.allocations);
    }
    std::printf("\n");
  }
  std::printf("(a get of two keys counts as two commands)\n");
  return 0;
}
