// Workers in several processes take and release locks and write down what they see, while a nemesis
// does to them, to the servers and to the network between what may happen. Afterwards the history
// is checked.
//
//   torture SECONDS SEED DIRECTORY [datagrams|moves]
//       Prints what was tried and found; 1 if a promise was broken. All faults, or only those of
//       what waiters are told: they leave time for more locks, and no lock that somebody waits for
//       may be free for longer than a lease. `moves`: all faults, while the list of servers changes
//       again and again, by a mover that dies at any of its steps; workers start with the old list,
//       the new one, or the next.
//   torture worker SERVERS SEED FILE MAX_WAIT_MS     what it starts for each worker
//   torture mover SERVERS TO                         what it starts for each move
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <regex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "history.hpp"
#include "memcachedlock/memcachedlock.hpp"
#include "support/fault_proxy.hpp"
#include "support/local_server.hpp"
#include "support/loopback.hpp"
#include "torture/bad_datagrams.hpp"

namespace {

namespace mcl = memcachedlock;
using namespace std::chrono_literals;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr int servers = 3;
constexpr int processes = 4;
constexpr int threads_each = 3;
constexpr int keys = 24;
constexpr milliseconds max_lease{1'500};
constexpr milliseconds max_wait{1'500};
constexpr milliseconds patient_wait{30'000};  // where nothing but datagrams goes wrong
constexpr milliseconds request_limit{200};
constexpr milliseconds max_stop{2'500};
// Beyond a wait's limit: requests under way, a stop of the process, a busy machine.
constexpr auto allowance = 20s;
constexpr auto busy = 3s;  // a machine may be

std::int64_t now() {
  return nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

using Random = std::mt19937;

template <class T>
T pick(Random& random, T low, T high) {
  return std::uniform_int_distribution<T>(low, high)(random);
}

// ---- worker ------------------------------------------------------------------------------------

std::atomic<bool> ending{false};
std::atomic<bool> outdated{false};  // its list is

/// Lines that survive a SIGKILL: each is one write.
class Writer : public mcl::Observer {
 public:
  explicit Writer(const char* file)
      : fd_(open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) {
    if (fd_ < 0) throw std::runtime_error("cannot write the history");
  }
  ~Writer() override { close(fd_); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  template <class... Words>
  void line(char step, const std::string& id, const Words&... words) {
    std::string text{step};
    text += ' ' + id;
    ((text += ' ' + to_text(words)), ...);
    text += '\n';
    if (write(fd_, text.data(), text.size()) < 0) std::abort();
  }
  void on_event(const mcl::Event& event) override {
    if (event.kind == mcl::EventKind::lost) {
      line('X', std::to_string(getpid()), std::string(event.key), event.token.to_string(), now());
    }
  }

 private:
  static std::string to_text(const std::string& text) { return text; }
  static std::string to_text(std::int64_t number) { return std::to_string(number); }
  int fd_;
};

struct Conflict {};

class Worker {
 public:
  Worker(const mcl::MemcachedClient& client, Writer& writer, unsigned seed, milliseconds longest)
      : client_(client),
        writer_(writer),
        max_wait_(longest),
        random_(seed),
        name_(std::to_string(getpid()) + "." + std::to_string(seed) + ".") {}

  void run() {
    while (!ending && !outdated) {
      // A few are wanted by many at once.
      key_ = "key" + std::to_string(pick(random_, 0, pick(random_, 0, 1) == 0 ? 2 : keys - 1));
      options_ = {};
      options_.timeout = milliseconds(pick<std::int64_t>(random_, 300, max_lease.count()));
      options_.interval = 20ms;
      options_.renew = pick(random_, 0, 1) == 0;
      options_.restart_guard = mcl::RestartGuard::strict;
      switch (pick(random_, 0, 3)) {
        case 0:
          attempt_rlock();
          break;
        case 1:
          attempt_zlock();
          break;
        default:
          attempt_lock();
      }
    }
  }

 private:
  [[nodiscard]] std::string next_id() { return name_ + std::to_string(++count_); }

  /// Takes it, by one of the ways there are. What happens is written under `id`.
  template <class AnyLock>
  bool take(AnyLock& lock, const std::string& id) {
    const milliseconds limit(pick<std::int64_t>(random_, 0, max_wait_.count()));
    writer_.line('I', id, key_, now(), nanoseconds(limit).count());
    try {
      bool got = false;
      if (pick(random_, 0, 3) == 0) {
        got = lock.try_lock();
      } else if (pick(random_, 0, 7) == 0) {
        std::stop_source stop;
        std::jthread canceller([&stop, limit](const std::stop_token& done) {
          const auto end = std::chrono::steady_clock::now() + limit;
          while (!done.stop_requested() && std::chrono::steady_clock::now() < end) {
            std::this_thread::sleep_for(1ms);
          }
          stop.request_stop();
        });
        lock.lock(stop.get_token());
        got = true;
      } else {
        got = lock.try_lock_for(limit);
      }
      if (got && lock.owns_lock()) {
        write_acquired(id, lock.lease());
        return true;
      }
      if (got) lock.unlock();  // unprotected, or already run out
    } catch (const mcl::ServersDiffer&) {
      outdated = true;
    } catch (const mcl::Error&) {
    }
    writer_.line('F', id, now());
    return false;
  }

  void write_acquired(const std::string& id, const mcl::Lease& lease) {
    const std::int64_t time = now();
    writer_.line('A', id, time, lease.fencing_token().to_string(), lease_end(lease));
  }
  /// The clock is read first, so that what is written is never more than the holder saw.
  static std::int64_t lease_end(const mcl::Lease& lease) {
    const std::int64_t time = now();
    return time + nanoseconds(lease.remaining()).count();
  }

  void hold(const std::string& id, const mcl::Lease& lease) {
    const int kind = pick(random_, 0, 99);
    const auto time = kind < 70   ? 0us
                      : kind < 99 ? std::chrono::microseconds(pick(random_, 100, 4'000))
                                  : std::chrono::microseconds(pick(random_, 4'000, 1'800'000));
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end && !lease.lost().stop_requested()) {
      std::this_thread::sleep_for(std::min<nanoseconds>(1ms, time));
    }
    if (time > 0us) {
      if (lease.owns_lock()) {
        writer_.line('E', id, lease_end(lease));
      } else {
        writer_.line('L', id, now());
      }
    }
  }

  template <class AnyLock>
  void give_up(AnyLock& lock, const std::string& id) {
    writer_.line('R', id, now());
    const mcl::Release outcome = lock.release();
    writer_.line('O', id, now(),
                 std::string(outcome == mcl::Release::released ? "released"
                             : outcome == mcl::Release::lost   ? "lost"
                                                               : "unavailable"));
  }

  template <class AnyLock>
  void work(AnyLock& lock, const std::string& id) {
    hold(id, lock.lease());
    if (pick(random_, 0, 9) == 0) {
      try {
        if (lock.extend()) {
          writer_.line('E', id, lease_end(lock.lease()));
        } else {
          writer_.line('L', id, now());
        }
      } catch (const mcl::Error&) {  // unknown: the lease is as it was
      }
    }
  }

  void attempt_lock() {
    mcl::Lock lock(client_, key_, options_);
    const std::string id = next_id();
    if (!take(lock, id)) return;
    work(lock, id);
    give_up(lock, id);
  }

  void attempt_rlock() {
    // A named owner is shared by all processes.
    if (pick(random_, 0, 3) == 0) {
      options_.owner = mcl::OwnerId::named("owner " + std::to_string(pick(random_, 0, 1)));
    }
    mcl::RLock outer(client_, key_, options_);
    const std::string outer_id = next_id();
    if (!take(outer, outer_id)) return;
    mcl::RLock inner(client_, key_, options_);
    const std::string inner_id = next_id();
    const bool twice = take(inner, inner_id);
    work(outer, outer_id);
    if (twice) give_up(inner, inner_id);
    give_up(outer, outer_id);
  }

  void attempt_zlock() {
    mcl::ZLockOptions options;
    options.timeout = options_.timeout;
    options.interval = options_.interval;
    options.renew = options_.renew;
    options.restart_guard = options_.restart_guard;
    options.on_unavailable = mcl::OnUnavailable::fail;
    options.reservation = 100ms;
    if (pick(random_, 0, 1) == 0) options.transaction = mcl::Transaction::outside;
    const auto body = [&](const mcl::Lease& lease) {
      const std::string id = next_id();
      const std::int64_t time = now();
      writer_.line('I', id, key_, time, std::int64_t{0});
      if (!lease.owns_lock()) {
        writer_.line('F', id, now());
        return;
      }
      write_acquired(id, lease);
      hold(id, lease);
      writer_.line('R', id, now());
      writer_.line('O', id, now(), std::string("handed back"));
      if (pick(random_, 0, 2) == 0) throw Conflict{};
    };
    try {
      mcl::with_zlock<Conflict>(
          client_, [this] { return key_; }, body, options)();
    } catch (const Conflict&) {
    } catch (const mcl::Error&) {
    }
  }

  mcl::MemcachedClient client_;
  Writer& writer_;
  const milliseconds max_wait_;
  Random random_;
  std::string name_;
  std::uint64_t count_ = 0;
  std::string key_;
  mcl::LockOptions options_;
};

int run_worker(const char* addresses, unsigned seed, const char* file, milliseconds longest) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::signal(SIGTERM, [](int) { ending = true; });
  const auto writer = std::make_shared<Writer>(file);
  mcl::ClientOptions options;
  options.operation_timeout = request_limit;
  options.connect_timeout = request_limit;
  options.restart_window = max_lease;
  options.observer = writer;
  if (seed % 2 == 1) options.protocol = mcl::Protocol::binary;
  spoil_datagrams(seed % 3 == 0 ? 1'000 : 300, seed);
  const mcl::MemcachedClient client(addresses, options);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < threads_each; ++i) {
    threads.emplace_back([&, i] { Worker(client, *writer, seed * 100 + i, longest).run(); });
  }
  for (std::thread& thread : threads) thread.join();
  return 0;
}

/// 0 once the list is moved; what does not answer just now is asked again.
int run_mover(const char* from, const char* to) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  mcl::ClientOptions options;
  options.operation_timeout = options.connect_timeout = request_limit;
  for (;;) {
    try {
      (void)mcl::move_servers(mcl::MemcachedClient(from, options), to);
      return 0;
    } catch (const mcl::Error&) {
      std::this_thread::sleep_for(50ms);
    }
  }
}

// ---- nemesis -----------------------------------------------------------------------------------

class Nemesis {
 public:
  Nemesis(unsigned seed, std::string directory, const std::string& mode)
      : random_(seed),
        seed_(seed),
        directory_(std::move(directory)),
        only_datagrams_(mode == "datagrams"),
        moves_(mode == "moves") {
    for (int i = 0; i < servers; ++i) {
      servers_.push_back(std::make_unique<LocalServer>());
      proxies_.push_back(std::make_unique<FaultProxy>(servers_.back()->port()));
    }
    const auto list = [&](int count, const std::string& host) {
      std::string text;
      for (int i = 0; i < count; ++i) {
        const std::string address = proxies_[static_cast<std::size_t>(i)]->address();
        text += (i == 0 ? "" : ",") + host + address.substr(address.find(':'));
      }
      return text;
    };
    if (moves_) {
      lists_ = {list(2, "127.0.0.1"), list(3, "127.0.0.1"), list(2, "localhost")};
    } else {
      lists_ = {list(servers, "127.0.0.1")};
    }
    for (int i = 0; i < processes; ++i) start_worker();
  }

  void torment(std::chrono::seconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
      rest(50, 700);
      if (only_datagrams_) {
        flood();
      } else {
        strike();
      }
      if (moves_) tend_moves();
    }
  }

  /// False when a worker did not end, or one ended badly.
  bool end_workers() {
    if (mover_ > 0) {
      kill(mover_, SIGKILL);
      waitpid(mover_, nullptr, 0);
    }
    for (const pid_t worker : workers_) kill(worker, SIGTERM);
    const auto deadline = std::chrono::steady_clock::now() + allowance + longest_wait();
    bool well = !crashed_;
    for (const pid_t worker : workers_) {
      int status = 0;
      pid_t ended = 0;
      while ((ended = waitpid(worker, &status, WNOHANG)) == 0 &&
             std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(5ms);
      }
      if (ended == 0) {
        std::printf("worker %d hangs\n", worker);
        kill(worker, SIGABRT);
        waitpid(worker, &status, 0);
        well = false;
      } else if (status != 0 && status != SIGTERM) {  // which is of one that had not begun
        std::printf("worker %d ended with status %d\n", worker, status);
        well = false;
      }
    }
    return well;
  }

  [[nodiscard]] bool judge() const {
    History history;
    for (const std::string& file : files_) {
      std::ifstream lines(file);
      history.read(lines);
    }
    const Verdict verdict = check(history, nanoseconds(allowance).count(), killed_);
    std::printf("faults tried:");
    for (const auto& [fault, count] : struck_) std::printf(" %s %d,", fault.c_str(), count);
    std::printf("\n%zu acquisitions, %zu holdings, %zu of them lost; %zu violations\n",
                verdict.acquisitions, verdict.holdings, verdict.lost, verdict.violations.size());
    for (const std::string& violation : verdict.violations) {
      std::printf("VIOLATION %s\n", violation.c_str());
    }
    if (history.unreadable.size() > killed_.size()) {
      std::printf("VIOLATION unreadable: %s\n", history.unreadable.front().c_str());
      return false;
    }
    const Idle idle = longest_idle(history);
    std::printf("at most %.3f s free while %s waited\n", static_cast<double>(idle.time) / 1e9,
                idle.id.c_str());
    if (only_datagrams_ && idle.time > nanoseconds(max_lease + busy).count()) {
      std::printf("VIOLATION %s waited for what nobody held\n", idle.id.c_str());
      return false;
    }
    return verdict.violations.empty() && verdict.acquisitions > 0;
  }

 private:
  void start_worker() {
    const unsigned number = seed_ * 1'000 + static_cast<unsigned>(files_.size());
    files_.push_back(directory_ + "/worker-" + std::to_string(files_.size()));
    const std::string seed = std::to_string(number);
    const std::string longest = std::to_string(longest_wait().count());
    const std::string list = list_for_a_start();
    const pid_t pid = fork();
    if (pid == 0) {
      execl("/proc/self/exe", "torture", "worker", list.c_str(), seed.c_str(),
            files_.back().c_str(), longest.c_str(), nullptr);
      _exit(127);
    }
    workers_.push_back(pid);
  }

  [[nodiscard]] milliseconds longest_wait() const {
    return only_datagrams_ ? patient_wait : max_wait;
  }

  /// The list that is in force, or the next; now and then one that is in force nowhere.
  [[nodiscard]] std::string list_for_a_start() {
    if (lists_.size() == 1) return lists_[0];
    const auto kind = pick(random_, 0, 9);
    if (kind == 0 && !files_.empty())
      return lists_[pick<std::size_t>(random_, 0, lists_.size() - 1)];
    return lists_[(in_force_ + (kind < (mover_ > 0 ? 5 : 1) ? 1 : 0)) % lists_.size()];
  }

  void tend_moves() {
    for (std::size_t place = 0; place < workers_.size(); ++place) {
      int status = 0;
      if (waitpid(workers_[place], &status, WNOHANG) == 0) continue;
      if (status != 0) {
        std::printf("worker %d had ended by itself with status %d\n", workers_[place], status);
        crashed_ = true;
      }
      ++struck_["worker refused"];
      workers_.erase(workers_.begin() + static_cast<std::ptrdiff_t>(place));
      start_worker();
      break;
    }
    int status = 0;
    if (mover_ > 0 && waitpid(mover_, &status, WNOHANG) == mover_) {
      mover_ = 0;
      if (status == 0) {
        ++struck_["list moved"];
        in_force_ = (in_force_ + 1) % lists_.size();
      }
    }
    if (mover_ > 0 && pick(random_, 0, 7) == 0) {
      ++struck_["mover killed"];
      kill(mover_, SIGKILL);
      waitpid(mover_, nullptr, 0);
      mover_ = 0;
    }
    if (mover_ > 0) return;
    const std::string from = lists_[in_force_];
    const std::string to = lists_[(in_force_ + 1) % lists_.size()];
    mover_ = fork();
    if (mover_ == 0) {
      execl("/proc/self/exe", "torture", "mover", from.c_str(), to.c_str(), nullptr);
      _exit(127);
    }
  }

  void rest(int least, int most) {
    std::this_thread::sleep_for(milliseconds(pick(random_, least, most)));
  }

  /// To the port of one that waits just now; what each worker sends is spoiled by itself.
  void flood() {
    const std::string key = "memcachedlock:key" + std::to_string(pick(random_, 0, 2));
    const std::regex port(":7f000001\\.([0-9]+):");
    for (const auto& server : servers_) {
      const std::string record = server->get(key);
      std::smatch match;
      if (!std::regex_search(record, match, port)) continue;
      ++struck_["flooded"];
      const int from = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      const sockaddr_in to = loopback(std::stoi(match[1]));
      const std::string junk = "mcl-grant1 " + std::string(32, 'f') + ".1 1 1 7 alone " + record;
      for (int count = 0; count < 5'000; ++count) {
        (void)sendto(from, junk.data(), std::min<std::size_t>(junk.size(), 1'200), 0,
                     reinterpret_cast<const sockaddr*>(&to), sizeof to);
      }
      close(from);
    }
  }

  void strike() {
    LocalServer& server = *servers_[pick<std::size_t>(random_, 0, servers_.size() - 1)];
    FaultProxy& proxy = *proxies_[pick<std::size_t>(random_, 0, proxies_.size() - 1)];
    const auto place = pick<std::size_t>(random_, 0, workers_.size() - 1);
    const pid_t worker = workers_[place];
    switch (pick(random_, 0, 12)) {
      case 0:
        ++struck_["server killed"];
        server.stop();
        rest(0, 300);
        start_again(server);
        break;
      case 1:
        ++struck_["flushed"];
        server.ask("flush_all");
        break;
      case 2: {
        ++struck_["worker killed"];
        kill(worker, SIGKILL);
        int status = 0;
        waitpid(worker, &status, 0);
        const bool was_refused = moves_ && status == 0;
        if (!was_refused && (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)) {
          std::printf("worker %d had ended by itself with status %d\n", worker, status);
          crashed_ = true;
        }
        killed_.push_back(std::to_string(worker) + ".");
        workers_.erase(workers_.begin() + static_cast<std::ptrdiff_t>(place));
        start_worker();
        break;
      }
      case 3:
      case 4:
        ++struck_["worker stopped"];
        kill(worker, SIGSTOP);
        rest(0, static_cast<int>(max_stop.count()));
        kill(worker, SIGCONT);
        break;
      case 5:
      case 6:
        ++struck_["server stopped"];
        server.pause();
        rest(0, static_cast<int>(max_stop.count()));
        server.resume();
        break;
      default:
        strike(proxy);
    }
  }

  void strike(FaultProxy& proxy) {
    using Fault = FaultProxy::Fault;
    static const std::vector<std::pair<const char*, Fault>> faults{
        {"requests cut", Fault::cut_request},
        {"replies cut", Fault::cut_reply},
        {"requests held", Fault::hold_request},
        {"replies held", Fault::hold_reply},
        {"replies delayed", Fault::delay_reply},
        {"replies dripping", Fault::drip_reply},
        {"unread", Fault::stop_reading},
        {"refused", Fault::refuse},
        {"silent", Fault::silent},
        {"garbage", Fault::garbage}};
    const auto& [name, fault] = faults[pick<std::size_t>(random_, 0, faults.size() - 1)];
    ++struck_[name];
    proxy.arm(
        {.fault = fault,
         .after = pick<std::size_t>(random_, 0, 400),
         .pause = std::chrono::microseconds(pick(random_, 0, 20'000)),
         .text = pick(random_, 0, 1) == 0 ? std::string("hello\r\n") : std::string(64, '\0')});
    rest(0, 600);
    proxy.heal();
  }

  static void start_again(LocalServer& server) {
    // Somebody's outgoing connection may sit on the port for a moment.
    for (int tries = 0;; ++tries) {
      try {
        server.start();
        return;
      } catch (const std::runtime_error&) {
        if (tries == 50) throw;
        std::this_thread::sleep_for(50ms);
      }
    }
  }

  Random random_;
  unsigned seed_;
  std::string directory_;
  const bool only_datagrams_;
  std::vector<std::unique_ptr<LocalServer>> servers_;
  std::vector<std::unique_ptr<FaultProxy>> proxies_;
  const bool moves_;
  std::vector<std::string> lists_;
  std::size_t in_force_ = 0;
  pid_t mover_ = 0;
  std::vector<pid_t> workers_;
  std::vector<std::string> files_;
  std::vector<std::string> killed_;
  bool crashed_ = false;
  std::map<std::string, int> struck_;
};

}  // namespace

int main(int argc, char** argv) try {
  const std::vector<std::string> words(argv, argv + argc);
  if (argc == 6 && words[1] == "worker") {
    return run_worker(argv[2], static_cast<unsigned>(std::stoul(words[3])), argv[4],
                      milliseconds(std::stol(words[5])));
  }
  if (argc == 4 && words[1] == "mover") return run_mover(argv[2], argv[3]);
  const std::string mode = argc == 5 ? words[4] : "";
  if (argc != 4 && mode != "datagrams" && mode != "moves") {
    std::fprintf(stderr, "usage: torture SECONDS SEED DIRECTORY [datagrams|moves]\n");
    return 2;
  }
  const auto seed = static_cast<unsigned>(std::stoul(words[2]));
  std::printf("torture for %s s with seed %u\n", argv[1], seed);
  std::fflush(stdout);
  Nemesis nemesis(seed, words[3], mode);
  nemesis.torment(std::chrono::seconds(std::stol(words[1])));
  const bool ended = nemesis.end_workers();
  const bool kept = nemesis.judge();
  return ended && kept ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "torture: %s\n", error.what());
  return 1;
}
