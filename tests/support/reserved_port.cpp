#include "support/reserved_port.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <mutex>
#include <stdexcept>

#include "support/loopback.hpp"

namespace {

// Fewer than a process may have open; where it reserves so many, those of the first asked long ago.
constexpr std::size_t max_reserved = 400;

std::mutex mutex;
std::deque<int> sockets;

}  // namespace

int reserve_port() {
  const int reserved = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof address;
  // Only afterwards: a socket that sets it too may listen beside one that does not listen; a bind
  // to any port does not get this one.
  const int on = 1;
  if (bind(reserved, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      getsockname(reserved, reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
      setsockopt(reserved, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) {
    throw std::runtime_error("no free port");
  }
  const std::lock_guard lock(mutex);
  sockets.push_back(reserved);
  if (sockets.size() > max_reserved) {
    close(sockets.front());
    sockets.pop_front();
  }
  return ntohs(address.sin_port);
}
