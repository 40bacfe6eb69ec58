#include "server/resolver.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <map>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "base/clock.hpp"
#include "base/failure.hpp"
#include "base/mutex.hpp"
#include "base/process.hpp"
#include "base/signal_mask.hpp"

namespace memcachedlock::detail {

namespace {

struct Answer {
  std::vector<std::string> addresses;
  std::string trouble;
};

Answer ask_system(const std::string& host, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (code != 0) {
    return {{}, code == EAI_SYSTEM ? std::generic_category().message(errno) : gai_strerror(code)};
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  std::vector<std::pair<int, std::string>> all;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    std::array<char, NI_MAXHOST> text{};
    if (getnameinfo(one->ai_addr, one->ai_addrlen, text.data(), text.size(), nullptr, 0,
                    NI_NUMERICHOST) == 0) {
      all.emplace_back(one->ai_family == AF_INET ? 4 : 6, text.data());
    }
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  Answer answer;
  for (auto& one : all) answer.addresses.push_back(std::move(one.second));
  if (answer.addresses.empty()) answer.trouble = "it has no address";
  return answer;
}

/// One question to the system; all threads that need this name wait for it.
struct Lookup {
  Mutex mutex;
  std::condition_variable_any answered;
  bool done MCL_GUARDED_BY(mutex) = false;
  Answer answer MCL_GUARDED_BY(mutex);
};

struct Lookups {
  Mutex mutex;
  std::map<std::string, std::shared_ptr<Lookup>> under_way MCL_GUARDED_BY(mutex);

  static Lookups& instance() {
    static constinit PerProcessForever<Lookups> all;
    return all.get();
  }

  /// `joined`: it was begun by another, perhaps before the answer was changed.
  std::shared_ptr<Lookup> begin(const std::string& host, bool& joined) {
    const MutexLock lock(mutex);
    std::shared_ptr<Lookup>& lookup = under_way[host];
    joined = lookup != nullptr;
    if (joined) return lookup;
    lookup = std::make_shared<Lookup>();
    try {
      const SignalMask none;  // inherited: signals are for the program's own threads
      std::thread([this, host, mine = lookup] { run(host, *mine); }).detach();
    } catch (const std::system_error& error) {
      under_way.erase(host);
      throw Failure(Failure::Kind::disconnected,
                    fmt::format("no thread can be made to look up the name: {}", error.what()));
    }
    return lookup;
  }

 private:
  void run(const std::string& host, Lookup& lookup) {
    Answer answer = ask_system(host, AI_ADDRCONFIG);
    {
      const MutexLock lock(mutex);
      under_way.erase(host);  // who comes from now on asks again
    }
    {
      const MutexLock lock(lookup.mutex);
      lookup.answer = std::move(answer);
      lookup.done = true;
    }
    lookup.answered.notify_all();
  }
};

}  // namespace

std::vector<std::string> resolve(const std::string& host, std::chrono::milliseconds limit) {
  in_addr address{};
  if (inet_pton(AF_INET, host.c_str(), &address) == 1) return {host};
  if (host.find(':') != std::string::npos) {  // IPv6, perhaps with a scope
    Answer numeric = ask_system(host, AI_NUMERICHOST);
    if (!numeric.addresses.empty()) return std::move(numeric.addresses);
  }
  const auto deadline = Clock::now() + limit;
  for (;;) {
    bool joined = false;
    const auto lookup = Lookups::instance().begin(host, joined);
    const MutexLock lock(lookup->mutex);
    while (!lookup->done) {
      if (Clock::now() >= deadline) {
        throw Failure(
            Failure::Kind::timeout,
            fmt::format("the name \"{}\" was not resolved within {} ms", host, limit.count()));
      }
      lookup->answered.wait_until(lookup->mutex, deadline);
    }
    if (!lookup->answer.addresses.empty()) return lookup->answer.addresses;
    if (joined) continue;
    throw Failure(Failure::Kind::disconnected, fmt::format("the name \"{}\" does not resolve: {}",
                                                           host, lookup->answer.trouble));
  }
}

}  // namespace memcachedlock::detail
