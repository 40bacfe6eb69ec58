#include "torture/bad_datagrams.hpp"

#include <dlfcn.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <list>
#include <mutex>
#include <random>
#include <string>

namespace {

using Clock = std::chrono::steady_clock;
using SendTo = ssize_t (*)(int, const void*, std::size_t, int, const sockaddr*, socklen_t);

ssize_t send_on(int descriptor, const std::string& bytes, const sockaddr* to, socklen_t length) {
  static const auto real = reinterpret_cast<SendTo>(dlsym(RTLD_NEXT, "sendto"));
  return real(descriptor, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL, to, length);
}

/// Kept for later; sent when a later datagram is.
struct Late {
  Clock::time_point due;
  std::string bytes;
  sockaddr_storage to{};
  socklen_t length = 0;
};

std::atomic<int> spoiled{0};
std::mutex mutex;
std::minstd_rand random_bits;
std::list<Late> late;

int pick(int most) { return static_cast<int>(random_bits() % static_cast<unsigned>(most)); }

}  // namespace

void spoil_datagrams(int share, unsigned seed) {
  const std::lock_guard lock(mutex);
  random_bits.seed(seed);
  spoiled = share;
}

extern "C" ssize_t sendto(int descriptor, const void* bytes, std::size_t size, int flags,
                          const sockaddr* to, socklen_t length) {
  const std::string text(static_cast<const char*>(bytes), size);
  (void)flags;
  if (spoiled == 0) return send_on(descriptor, text, to, length);
  const std::lock_guard lock(mutex);
  const auto now = Clock::now();
  for (auto at = late.begin(); at != late.end();) {
    if (at->due > now) {
      ++at;
      continue;
    }
    (void)send_on(descriptor, at->bytes, reinterpret_cast<const sockaddr*>(&at->to), at->length);
    at = late.erase(at);
  }
  if (pick(1'000) >= spoiled) return send_on(descriptor, text, to, length);
  const auto keep = [&](int most_ms) {
    Late one{now + std::chrono::milliseconds(pick(most_ms)), text, {}, length};
    std::memcpy(&one.to, to, length);
    late.push_back(one);
  };
  switch (pick(6)) {
    case 0:  // lost
      break;
    case 1:  // twice
      (void)send_on(descriptor, text, to, length);
      return send_on(descriptor, text, to, length);
    case 2:  // once more, when it is long over
      keep(10'000);
      return send_on(descriptor, text, to, length);
    case 3:  // later than the next
      keep(20);
      break;
    case 4:  // much later
      keep(4'000);
      break;
    default: {  // after others, which nobody of ours has sent
      std::string other = text;
      for (int count = 0; count < 20; ++count) {
        other[static_cast<std::size_t>(pick(static_cast<int>(size)))] =
            static_cast<char>(pick(256));
        // Another token in the place of the right one; a right one could make anybody hold.
        if (other.compare(0, 43, text, 0, 43) == 0) other[20] = other[20] == 'f' ? 'e' : 'f';
        (void)send_on(descriptor, other, to, length);
      }
      return send_on(descriptor, text, to, length);
    }
  }
  return static_cast<ssize_t>(size);
}
