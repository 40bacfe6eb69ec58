// scale_benchmark FILE: what many keys, servers, threads, waiters and leases cost one process.
//   keys      lock + unlock of random keys, on one and on several servers
//   waiters   threads that wait for one key: memory and descriptors of each, and the time of a turn
//   renewal   leases that are kept alive: processor time and commands a second, and how many are
//   lost
// FILE gets the figures as JSON. The machine's limit of threads may have to be raised for
// `waiters`.
#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "measure.hpp"
#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"
#include "support/recorder.hpp"

namespace {

namespace mcl = memcachedlock;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Figures = std::vector<std::pair<std::string, double>>;

double seconds_since(Clock::time_point time) {
  return std::chrono::duration<double>(Clock::now() - time).count();
}

double descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<double>(std::distance(begin(all), end(all)));
}

class Servers {
 public:
  explicit Servers(int count) : all_(static_cast<std::size_t>(count)) {}
  [[nodiscard]] std::string addresses() const {
    std::string text;
    for (const LocalServer& server : all_) {
      if (!text.empty()) text += ',';
      text += server.address();
    }
    return text;
  }
  /// Keys asked for and stores that the servers have counted.
  [[nodiscard]] double commands() const {
    double sum = 0;
    for (const LocalServer& server : all_) {
      sum += static_cast<double>(server.counted({"cmd_get", "cmd_set"}));
    }
    return sum;
  }

 private:
  std::vector<LocalServer> all_;
};

Figures keys(int count, int servers_count, int threads_count) {
  const Servers servers(servers_count);
  const mcl::MemcachedClient client(servers.addresses());
  std::atomic<bool> stop{false};
  std::atomic<long> done{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < threads_count; ++i) {
    threads.emplace_back([&, i] {
      std::minstd_rand random(static_cast<unsigned>(i) + 1);
      while (!stop) {
        mcl::Lock lock(client, std::to_string(random() % static_cast<unsigned>(count)));
        lock.lock();
        ++done;
      }
    });
  }
  const auto begun = Clock::now();
  std::this_thread::sleep_for(1s);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  return {{"keys", count},
          {"servers", servers_count},
          {"threads", threads_count},
          {"per_second", static_cast<double>(done) / seconds_since(begun)},
          {"descriptors", descriptors()}};
}

/// A thread with a small stack.
class SmallThread {
 public:
  explicit SmallThread(std::function<void()> body)
      : body_(std::make_unique<std::function<void()>>(std::move(body))) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    const auto run = [](void* function) -> void* {
      (*static_cast<std::function<void()>*>(function))();
      return nullptr;
    };
    const int failed = pthread_create(&thread_, &attributes, run, body_.get());
    pthread_attr_destroy(&attributes);
    if (failed != 0) throw std::runtime_error("no more threads: raise the limit");
  }
  void join() { pthread_join(thread_, nullptr); }

 private:
  std::unique_ptr<std::function<void()>> body_;
  pthread_t thread_{};
};

Figures waiters(int count) {
  mallopt(M_ARENA_MAX, 1);  // so that mallinfo2 tells all
  const Servers servers(1);
  mcl::ClientOptions options;
  const auto recorder = std::make_shared<Recorder>();
  options.observer = recorder;
  const mcl::MemcachedClient client(servers.addresses(), options);
  mcl::Lock first(client, "key", {.timeout = 10min});
  first.lock();

  std::atomic<int> begun{0};
  std::atomic<bool> go{false};
  std::vector<SmallThread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&] {
      const int* volatile any = new int;  // the allocator's own memory for a thread is not ours
      delete any;
      ++begun;
      while (!go) std::this_thread::sleep_for(100ms);
      mcl::Lock lock(client, "key", {.timeout = 10min});
      lock.lock();
    });
  }
  const auto wait_for = [](const std::function<bool()>& condition) {
    while (!condition()) std::this_thread::sleep_for(20ms);
  };
  wait_for([&] { return begun == count; });
  const auto memory_before = mallinfo2().uordblks;
  const double descriptors_before = descriptors();
  go = true;
  wait_for([&] { return recorder->count(mcl::EventKind::contended) >= count; });
  const auto memory = static_cast<double>(mallinfo2().uordblks - memory_before);
  const double opened = descriptors() - descriptors_before;
  const double commands_before = servers.commands();
  const double idle_before = cpu_seconds(RUSAGE_SELF);
  std::this_thread::sleep_for(1s);
  const double idle_cpu = cpu_seconds(RUSAGE_SELF) - idle_before;
  const double idle_commands = servers.commands() - commands_before;
  const auto released = Clock::now();
  first.unlock();
  for (SmallThread& thread : threads) thread.join();
  return {{"waiters", count},
          {"bytes_each", memory / count},
          {"descriptors", opened},
          {"idle_cpu_percent", idle_cpu * 100},
          {"idle_commands_per_second", idle_commands},
          {"turn_us", seconds_since(released) * 1e6 / count}};
}

Figures renewal(int count, std::chrono::milliseconds lease) {
  const Servers servers(1);
  mcl::ClientOptions options;
  const auto recorder = std::make_shared<Recorder>();
  options.observer = recorder;
  const mcl::MemcachedClient client(servers.addresses(), options);
  std::vector<std::unique_ptr<mcl::Lock>> locks;
  for (int i = 0; i < count; ++i) {
    locks.push_back(std::make_unique<mcl::Lock>(client, std::to_string(i),
                                                mcl::LockOptions{.timeout = lease, .renew = true}));
    locks.back()->lock();
  }
  const double cpu_before = cpu_seconds(RUSAGE_SELF);
  const double commands_before = servers.commands();
  const int renewed_before = recorder->count(mcl::EventKind::extended);
  const auto begun = Clock::now();
  std::this_thread::sleep_for(lease);
  const double time = seconds_since(begun);
  const double renewed = recorder->count(mcl::EventKind::extended) - renewed_before;
  const double cpu = cpu_seconds(RUSAGE_SELF) - cpu_before;
  const double commands = servers.commands() - commands_before;
  const auto held =
      std::count_if(locks.begin(), locks.end(), [](const auto& lock) { return lock->owns_lock(); });
  return {{"leases", count},
          {"lease_ms", static_cast<double>(lease.count())},
          {"renewals_per_second", renewed / time},
          {"commands_per_second", commands / time},
          {"cpu_percent", cpu / time * 100},
          {"lost", count - static_cast<double>(held)}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: scale_benchmark FILE\n");
    return 2;
  }
  std::ofstream json(argv[1]);
  const char* separator = "[";
  const auto report = [&](const std::string& what, const Figures& figures) {
    json << separator << "\n{\"what\": \"" << what << "\"";
    std::printf("%-8s", what.c_str());
    for (const auto& [name, figure] : figures) {
      json << ", \"" << name << "\": " << figure;
      std::printf(" %s=%.6g", name.c_str(), figure);
    }
    json << "}";
    std::printf("\n");
    std::fflush(stdout);
    separator = ",";
  };
  for (const int count : {1, 100, 10'000}) {
    for (const int servers : {1, 4}) {
      for (const int threads : {1, 8, 64}) report("keys", keys(count, servers, threads));
    }
  }
  for (const int count : {100, 1'000, 10'000}) report("waiters", waiters(count));
  for (const int count : {100, 1'000, 10'000}) report("renewal", renewal(count, 10s));
  json << "\n]\n";
  return 0;
}
