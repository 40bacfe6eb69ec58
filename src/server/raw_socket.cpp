#include "server/raw_socket.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>
#include <utility>

#include "base/failure.hpp"
#include "server/resolver.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

class Descriptor {
 public:
  explicit Descriptor(int number) noexcept : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const noexcept { return number_; }
  int release() noexcept { return std::exchange(number_, -1); }

 private:
  int number_;
};

[[noreturn]] void fail(int error) {
  throw Failure(Failure::Kind::disconnected, std::generic_category().message(error));
}

void wait(int descriptor, short events, Clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) throw Failure(Failure::Kind::timeout, "no answer in time");
    pollfd one{descriptor, events, 0};
    const int ready =
        poll(&one, 1, static_cast<int>(std::min<milliseconds::rep>(left.count(), 1'000)));
    if (ready > 0) return;
    if (ready < 0 && errno != EINTR) fail(errno);
  }
}

int connect_to(const sockaddr* address, socklen_t length, milliseconds limit) {
  Descriptor made(socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (made.get() < 0) fail(errno);
  int error = ::connect(made.get(), address, length) != 0 ? errno : 0;
  if (error == EINPROGRESS) {
    wait(made.get(), POLLOUT, Clock::now() + limit);
    socklen_t size = sizeof error;
    getsockopt(made.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  }
  if (error != 0) fail(error);
  return made.release();
}

int connect_to(const std::string& numeric, std::uint16_t port, milliseconds limit) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(numeric.c_str(), fmt::format("{}", port).c_str(), &hints, &found);
  if (code != 0) throw Failure(Failure::Kind::disconnected, gai_strerror(code));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  return connect_to(found->ai_addr, found->ai_addrlen, limit);
}

/// The address, and a connection to it.
std::pair<std::string, int> connect_to_first(const std::vector<std::string>& addresses,
                                             std::uint16_t port, milliseconds limit) {
  for (std::size_t at = 0;; ++at) {
    try {
      return {addresses[at], connect_to(addresses[at], port, limit)};
    } catch (const Failure&) {
      if (at + 1 == addresses.size()) throw;
    }
  }
}

}  // namespace

RawSocket::RawSocket(const ServerAddress& server, milliseconds limit) {
  if (server.is_unix_socket()) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, server.host.data(), server.host.size());
    descriptor_ = connect_to(reinterpret_cast<const sockaddr*>(&address), sizeof address, limit);
  } else {
    descriptor_ = connect_to_first(resolve(server.host, limit), server.port, limit).second;
  }
}

RawSocket::~RawSocket() { close(descriptor_); }

void RawSocket::send(std::string_view text, Clock::time_point deadline) const {
  while (!text.empty()) {
    wait(descriptor_, POLLOUT, deadline);
    const ssize_t sent = ::send(descriptor_, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      text.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno != EINTR && errno != EAGAIN) {
      fail(errno);
    }
  }
}

bool RawSocket::receive(std::string& text, Clock::time_point deadline) const {
  for (;;) {
    wait(descriptor_, POLLIN, deadline);
    std::array<char, 65'536> bytes;  // NOLINT(*-member-init): only what was received is read
    const ssize_t count = recv(descriptor_, bytes.data(), bytes.size(), 0);
    if (count > 0) text.append(bytes.data(), static_cast<std::size_t>(count));
    if (count >= 0) return count > 0;
    if (errno != EINTR && errno != EAGAIN) fail(errno);
  }
}

std::string reachable_address(const std::string& host, std::uint16_t port, milliseconds limit) {
  std::vector<std::string> addresses = resolve(host, limit);
  if (addresses.size() == 1) return std::move(addresses.front());
  auto [address, descriptor] = connect_to_first(addresses, port, limit);
  close(descriptor);
  return address;
}

}  // namespace memcachedlock::detail
