#include "key_listing.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "memcachedlock/error.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

class Socket {
 public:
  explicit Socket(int fd) noexcept : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&&) = delete;
  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_;
};

class Listing {
 public:
  Listing(const ServerAddress& server, const ClientOptions& options)
      : name_(server.to_string()),
        longest_wait_(options.operation_timeout),
        socket_(connect(server, options.connect_timeout)) {}

  /// False where the server is busy with another list.
  bool run(std::string_view prefix, std::vector<std::string>& items) {
    send("lru_crawler metadump all\r\n");
    for (;;) {
      const std::string line = read_line();
      if (line == "END") return true;
      if (line.starts_with("BUSY")) return false;
      constexpr std::string_view name = "key=";
      if (!line.starts_with(name)) refuse(line);
      std::string item = decoded(std::string_view(line).substr(name.size()));
      if (item.starts_with(prefix)) items.push_back(std::move(item));
    }
  }

 private:
  [[noreturn]] void fail(std::string_view what) const {
    throw Unavailable(fmt::format("{} is unavailable: {}; check that memcached runs there and that "
                                  "the network lets it through",
                                  name_, what),
                      {}, name_);
  }

  [[noreturn]] void refuse(std::string_view answer) const {
    throw ServerError(
        fmt::format("{} does not list its keys: \"{}\"; this needs memcached 1.4.31 or later, the "
                    "text protocol without a login, and no -o no_lru_crawler. Single keys can be "
                    "inspected all the same",
                    name_, answer.substr(0, 80)),
        {}, name_);
  }

  void wait(int fd, short events, milliseconds limit) const {
    const auto deadline = std::min(Clock::now() + limit, end_);
    for (;;) {
      const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
      if (left.count() <= 0) fail(fmt::format("no answer within {} ms", limit.count()));
      pollfd one{fd, events, 0};
      const int ready = poll(&one, 1, static_cast<int>(left.count()));
      if (ready > 0) return;
      if (ready < 0 && errno != EINTR) fail(std::generic_category().message(errno));
    }
  }

  Socket connect_to(const sockaddr* address, socklen_t length, milliseconds limit) const {
    Socket made(socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    int error = made.get() < 0 || ::connect(made.get(), address, length) != 0 ? errno : 0;
    if (error == EINPROGRESS) {
      wait(made.get(), POLLOUT, limit);
      socklen_t size = sizeof error;
      getsockopt(made.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    }
    errno = error;
    return error == 0 ? std::move(made) : Socket(-1);
  }

  Socket connect(const ServerAddress& server, milliseconds limit) const {
    int error = 0;
    if (server.is_unix_socket()) {
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      std::memcpy(address.sun_path, server.host.data(), server.host.size());
      Socket made = connect_to(reinterpret_cast<const sockaddr*>(&address), sizeof address, limit);
      if (made.get() >= 0) return made;
      error = errno;
    } else {
      addrinfo hints{};
      hints.ai_socktype = SOCK_STREAM;
      addrinfo* found = nullptr;
      const int code =
          getaddrinfo(server.host.c_str(), std::to_string(server.port).c_str(), &hints, &found);
      if (code != 0) fail(gai_strerror(code));
      const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
      for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
        Socket made = connect_to(one->ai_addr, one->ai_addrlen, limit);
        if (made.get() >= 0) return made;
        error = errno;
      }
    }
    fail(std::generic_category().message(error));
  }

  void send(std::string_view text) {
    while (!text.empty()) {
      wait(socket_.get(), POLLOUT, longest_wait_);
      const ssize_t sent = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent > 0) {
        text.remove_prefix(static_cast<std::size_t>(sent));
      } else if (errno != EINTR && errno != EAGAIN) {
        fail(std::generic_category().message(errno));
      }
    }
  }

  std::string read_line() {
    constexpr std::size_t longest_line = 4'096;
    for (;;) {
      const auto end = received_.find('\n', seen_);
      if (end != std::string::npos) {
        std::string line = received_.substr(seen_, end - seen_);
        seen_ = end + 1;
        if (line.ends_with('\r')) line.pop_back();  // the last one; those of keys do without
        return line;
      }
      received_.erase(0, std::exchange(seen_, 0));
      if (received_.size() > longest_line) refuse(received_);
      wait(socket_.get(), POLLIN, longest_wait_);
      std::array<char, 65'536> bytes{};
      const ssize_t count = recv(socket_.get(), bytes.data(), bytes.size(), 0);
      if (count == 0 && answered_) fail("the connection was closed");
      if (count == 0) refuse("(the connection was closed)");
      answered_ = answered_ || count > 0;
      if (count > 0) {
        received_.append(bytes.data(), static_cast<std::size_t>(count));
      } else if (errno != EINTR && errno != EAGAIN) {
        fail(std::generic_category().message(errno));
      }
    }
  }

  /// The first word, with %XX for its byte.
  static std::string decoded(std::string_view text) {
    text = text.substr(0, text.find(' '));
    std::string result;
    for (std::size_t at = 0; at < text.size(); ++at) {
      unsigned byte = 0;
      if (text[at] == '%' && at + 2 < text.size() &&
          std::from_chars(&text[at + 1], &text[at + 3], byte, 16).ec == std::errc{}) {
        result += static_cast<char>(byte);
        at += 2;
      } else {
        result += text[at];
      }
    }
    return result;
  }

  const std::string name_;
  const milliseconds longest_wait_;
  const Clock::time_point end_ = Clock::now() + std::chrono::minutes(1);
  Socket socket_;
  bool answered_ = false;
  std::string received_;
  std::size_t seen_ = 0;  // how much of it was read
};

}  // namespace

std::vector<std::string> list_items(const ServerAddress& server, const ClientOptions& options,
                                    std::string_view prefix) {
  const auto deadline = Clock::now() + options.operation_timeout;
  for (;;) {
    std::vector<std::string> items;
    if (Listing(server, options).run(prefix, items)) return items;
    if (Clock::now() >= deadline) {
      throw Unavailable(
          fmt::format("{} is busy with another list of its keys; try again", server.to_string()),
          {}, server.to_string());
    }
    std::this_thread::sleep_for(milliseconds(20));
  }
}

}  // namespace memcachedlock::detail
