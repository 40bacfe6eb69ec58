#include "support/fault_proxy.hpp"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

#include "support/loopback.hpp"

namespace {

bool send_all(int fd, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t count = send(fd, data, size, MSG_NOSIGNAL);
    if (count <= 0) return false;
    data += count;
    size -= static_cast<std::size_t>(count);
  }
  return true;
}

}  // namespace

/// One client's connection, and ours to memcached for it.
struct FaultProxy::Link {
  int client = -1;
  int server = -1;
  std::atomic<bool> closed{false};
  std::atomic<int> running{0};
  std::thread requests;
  std::thread replies;

  Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link() {
    cut();
    if (requests.joinable()) requests.join();
    if (replies.joinable()) replies.join();
    close(client);
    if (server >= 0) close(server);
  }

  void cut() {
    closed = true;
    shutdown(client, SHUT_RDWR);
    if (server >= 0) shutdown(server, SHUT_RDWR);
  }
};

FaultProxy::FaultProxy(int memcached_port, int port)
    : memcached_port_(memcached_port),
      port_(port),
      listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const sockaddr_in address = loopback(port_);
  const int on = 1;
  if (setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener_, 64) != 0) {
    throw std::runtime_error("the proxy cannot listen");
  }
  acceptor_ = std::thread([this] { accept_all(); });
}

FaultProxy::~FaultProxy() {
  ending_ = true;
  shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  close(listener_);
  links_.clear();
}

std::string FaultProxy::address() const { return "127.0.0.1:" + std::to_string(port_); }

void FaultProxy::arm(Plan plan) {
  const std::lock_guard lock(mutex_);
  plan_ = std::move(plan);
  requested_ = 0;
  replied_ = 0;
  requests_.clear();
  struck_ = false;
}

std::string FaultProxy::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

FaultProxy::Plan FaultProxy::plan() const {
  const std::lock_guard lock(mutex_);
  return plan_;
}

void FaultProxy::accept_all() {
  for (int fd = 0; (fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
    const Plan now = plan();
    if (now.fault == Fault::refuse) {
      struck_ = true;
      const linger hard{1, 0};  // a reset
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
      close(fd);
      continue;
    }
    links_.remove_if([](const Link& link) { return link.closed && link.running == 0; });
    Link& link = links_.emplace_back();
    link.client = fd;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (now.fault == Fault::silent) {
      struck_ = true;
      continue;
    }
    link.server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(link.server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const sockaddr_in memcached = loopback(memcached_port_);
    if (connect(link.server, reinterpret_cast<const sockaddr*>(&memcached), sizeof memcached) !=
        0) {
      link.cut();
      continue;
    }
    link.running = 2;
    link.requests = std::thread([this, &link] { pass(link, false); });
    link.replies = std::thread([this, &link] { pass(link, true); });
  }
}

bool FaultProxy::wait(const Link& link, std::chrono::microseconds time) const {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
    if (link.closed || ending_) return false;
    std::this_thread::sleep_for(std::min(time, std::chrono::microseconds(1'000)));
  }
  return true;
}

void FaultProxy::pass(Link& link, bool reply) {
  const int from = reply ? link.server : link.client;
  const int to = reply ? link.client : link.server;
  std::atomic<std::size_t>& passed = reply ? replied_ : requested_;
  std::array<char, 65536> buffer{};
  bool silenced = false;
  while (!link.closed && !ending_) {
    if (!reply && plan().fault == Fault::stop_reading) {
      struck_ = true;
      wait(link, std::chrono::microseconds(1'000));
      continue;
    }
    pollfd readable{from, POLLIN, 0};
    if (poll(&readable, 1, 20) == 0) continue;
    if (!reply && plan().fault == Fault::stop_reading) continue;
    const ssize_t received = recv(from, buffer.data(), buffer.size(), 0);
    if (received <= 0) break;
    auto count = static_cast<std::size_t>(received);
    if (silenced) continue;

    const Plan now = plan();
    const bool of_this_side =
        (reply && (now.fault == Fault::cut_reply || now.fault == Fault::hold_reply)) ||
        (!reply && (now.fault == Fault::cut_request || now.fault == Fault::hold_request));
    bool cut = false;
    if (of_this_side && !struck_) {
      const std::size_t left = now.after - std::min(now.after, passed.load());
      if (count > left) {
        count = left;
        struck_ = true;
        cut = now.fault == Fault::cut_request || now.fault == Fault::cut_reply;
        silenced = !cut;
      }
    }
    passed += count;
    if (!reply) {
      const std::lock_guard lock(mutex_);
      requests_.append(buffer.data(), count);
    }
    if (reply && now.fault == Fault::garbage) {
      struck_ = true;
      if (!send_all(to, now.text.data(), now.text.size())) break;
    } else if (reply && now.fault == Fault::drip_reply) {
      struck_ = true;
      for (std::size_t i = 0; i < count; ++i) {
        if (!wait(link, now.pause) || !send_all(to, &buffer[i], 1)) break;
      }
    } else {
      if (reply && now.fault == Fault::delay_reply) {
        struck_ = true;
        if (!wait(link, now.pause)) break;
      }
      if (!send_all(to, buffer.data(), count)) break;
    }
    if (cut) break;
  }
  link.cut();
  --link.running;
}
