#include "process.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <system_error>

namespace memcachedlock::detail {

namespace {

std::atomic<unsigned> generation{1};

const bool registered = [] {
  pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1, std::memory_order_relaxed); });
  return true;
}();

struct Identity {
  Identity() {
    std::array<std::uint64_t, 2> bits{};
    if (getentropy(bits.data(), sizeof bits) != 0) {
      throw std::system_error(errno, std::generic_category(), "getentropy");
    }
    first_stamp = bits[0] ^ bits[1];
    random = fmt::format("{:016x}{:016x}", bits[0], bits[1]);

    std::array<char, 256> host{};
    if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
    std::string name(host.data());
    for (char& c : name) {
      if (c <= ' ' || c > '~') c = '?';
    }
    description = fmt::format("{}:{}", name, getpid());
  }
  std::string random;
  std::uint64_t first_stamp = 0;
  std::string description;
  std::atomic<std::uint64_t> number{0};
};

Identity& identity() {
  static auto& instance = *new PerProcess<Identity>;  // used until the very end of the process
  return instance.get();
}

}  // namespace

unsigned process_generation() noexcept { return generation.load(std::memory_order_relaxed); }

std::string next_token() {
  Identity& self = identity();
  return fmt::format("{}.{}", self.random, self.number.fetch_add(1, std::memory_order_relaxed));
}

std::string next_stamp() {
  Identity& self = identity();
  return fmt::format("{:016x}",
                     self.first_stamp + self.number.fetch_add(1, std::memory_order_relaxed));
}

const std::string& holder_description() { return identity().description; }

}  // namespace memcachedlock::detail
