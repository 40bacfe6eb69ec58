#include "base/process.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <new>
#include <system_error>

namespace memcachedlock::detail {

namespace {

std::atomic<unsigned> generation{1};

void begin_generation() noexcept { generation.fetch_add(1, std::memory_order_relaxed); }

/// The kernel clears this byte in any process that gets a copy of our memory, also by
/// clone(2), which calls no handler. It is 0 until that process reads it.
using Mark = std::atomic<unsigned char>;

Mark* make_mark() noexcept {
#ifdef MADV_WIPEONFORK
  const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* page = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return nullptr;
  if (madvise(page, size, MADV_WIPEONFORK) == 0) return new (page) Mark(1);
  munmap(page, size);
#endif
  return nullptr;
}

Mark* const mark = make_mark();

const bool registered = [] {
  pthread_atfork(nullptr, nullptr, [] {
    begin_generation();
    if (mark != nullptr) mark->store(1, std::memory_order_relaxed);
  });
  return true;
}();

struct Identity {
  Identity() {
    std::array<std::uint64_t, 2> bits{};
    if (getentropy(bits.data(), sizeof bits) != 0) {
      throw std::system_error(errno, std::generic_category(), "getentropy");
    }
    random = fmt::format("{:016x}{:016x}", bits[0], bits[1]);

    std::array<char, 256> host{};
    if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
    std::string name(host.data());
    for (char& c : name) {
      if (c <= ' ' || c > '~' || c == '@') c = '?';
    }
    description = fmt::format("{}:{}", name, getpid());
  }
  std::string random;
  std::string description;
  std::atomic<std::uint64_t> number{0};
};

Identity& identity() {
  static constinit PerProcessForever<Identity> instance;
  return instance.get();
}

}  // namespace

unsigned process_generation() noexcept {
  if (mark != nullptr && mark->load(std::memory_order_relaxed) == 0 &&
      mark->exchange(1, std::memory_order_relaxed) == 0) {
    begin_generation();
  }
  return generation.load(std::memory_order_relaxed);
}

std::string next_token() {
  Identity& self = identity();
  std::array<char, 20> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(),
                                 self.number.fetch_add(1, std::memory_order_relaxed))
                       .ptr;
  std::string token;
  token.reserve(self.random.size() + 1 + digits.size());
  token += self.random;
  token += '.';
  token.append(digits.data(), end);
  return token;
}

std::string_view process_token() { return identity().random; }

bool is_of_this_process(std::string_view token) { return token.starts_with(process_token()); }

std::uint64_t random_bits() {
  std::uint64_t bits = 0;
  while (bits == 0) {
    if (getentropy(&bits, sizeof bits) != 0) {
      throw std::system_error(errno, std::generic_category(), "getentropy");
    }
  }
  return bits;
}

std::string thread_label() {
  // Without a destructor: static objects may still lock after those of the thread have run.
  struct Place {
    unsigned generation;
    std::size_t size;
    std::array<char, 320> text;
  };
  thread_local constinit Place place{};
  if (place.generation != process_generation()) {
    const std::string text = fmt::format("{}:{}", identity().description, gettid());
    place.size = std::min(text.size(), place.text.size());
    std::memcpy(place.text.data(), text.data(), place.size);
    place.generation = process_generation();
  }
  return {place.text.data(), place.size};
}

}  // namespace memcachedlock::detail
