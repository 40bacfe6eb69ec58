#include "server/mailbox.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "base/process.hpp"
#include "server/inbox.hpp"
#include "wire/grant_message.hpp"

namespace memcachedlock::detail {

namespace {

/// An internet address with a port.
struct Place {
  sockaddr_storage storage{};
  socklen_t size = 0;

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  [[nodiscard]] sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  [[nodiscard]] int family() const { return storage.ss_family; }

  [[nodiscard]] bool is_local() const;

  static Place of(const in_addr& host, in_port_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr = host;
    address.sin_port = port;
    return copy(address);
  }
  static Place of(const in6_addr& host, in_port_t port) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_addr = host;
    address.sin6_port = port;
    return copy(address);
  }

 private:
  template <class Address>
  static Place copy(const Address& address) {
    Place place;
    std::memcpy(&place.storage, &address, sizeof address);
    place.size = sizeof address;
    return place;
  }
};

template <class Address>
Address as(const Place& place) {
  Address address;
  std::memcpy(&address, &place.storage, sizeof address);
  return address;
}

bool Place::is_local() const {
  constexpr std::uint32_t loopback_net = 127;
  if (family() == AF_INET)
    return ntohl(as<sockaddr_in>(*this).sin_addr.s_addr) >> 24U == loopback_net;
  const in6_addr host = as<sockaddr_in6>(*this).sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&host);
}

/// The bytes of the host in hex, a point, and the port.
std::string encode(const Place& place) {
  std::string text;
  const auto append = [&](const auto& host, in_port_t port) {
    std::array<unsigned char, sizeof host> bytes;  // NOLINT(*-member-init): all are copied into
    std::memcpy(bytes.data(), &host, sizeof host);
    for (const unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
    text += fmt::format(".{}", ntohs(port));
  };
  if (place.family() == AF_INET) {
    const auto address = as<sockaddr_in>(place);
    append(address.sin_addr, address.sin_port);
  } else {
    const auto address = as<sockaddr_in6>(place);
    append(address.sin6_addr, address.sin6_port);
  }
  return text;
}

std::optional<Place> decode(std::string_view text) {
  const auto point = text.find('.');
  if (point == std::string_view::npos) return std::nullopt;
  const std::string_view hex = text.substr(0, point);
  const std::string_view digits = text.substr(point + 1);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc{} || end != digits.data() + digits.size() || port == 0) return {};
  std::array<unsigned char, 16> bytes{};
  if (hex.size() != 8 && hex.size() != 32) return std::nullopt;
  for (std::size_t at = 0; at < hex.size() / 2; ++at) {
    const char* const first = hex.data() + 2 * at;
    if (std::from_chars(first, first + 2, bytes.at(at), 16).ptr != first + 2) return std::nullopt;
  }
  if (hex.size() == 8) {
    in_addr host{};
    std::memcpy(&host, bytes.data(), sizeof host);
    return Place::of(host, htons(port));
  }
  in6_addr host{};
  std::memcpy(&host, bytes.data(), sizeof host);
  return Place::of(host, htons(port));
}

std::string host_of(std::string_view address) {
  return std::string(address.substr(0, address.find('.')));
}

int make_socket(int family) { return socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

/// From where this host reaches a server; nothing is sent. With a port that is free.
std::optional<Place> local_place(const std::string& peer) {
  if (peer.starts_with('/')) return Place::of(in_addr{htonl(INADDR_LOOPBACK)}, 0);
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (getaddrinfo(peer.c_str(), "9", &hints, &found) != 0) return std::nullopt;
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  const int probe = make_socket(found->ai_family);
  if (probe < 0) return std::nullopt;
  Place place;
  place.size = sizeof place.storage;
  const bool known = connect(probe, found->ai_addr, found->ai_addrlen) == 0 &&
                     getsockname(probe, place.get(), &place.size) == 0;
  close(probe);
  if (!known) return std::nullopt;
  if (place.family() == AF_INET) return Place::of(as<sockaddr_in>(place).sin_addr, 0);
  const auto address = as<sockaddr_in6>(place);
  // Another host calls that interface by another number.
  if (place.family() != AF_INET6 || address.sin6_scope_id != 0) return std::nullopt;
  return Place::of(address.sin6_addr, 0);
}

}  // namespace

/// The mailboxes of this process, by server.
struct Mailbox::All {
  Mutex mutex;
  std::map<std::string, Mailbox> by_server MCL_GUARDED_BY(mutex);  // its nodes stay where they are
};

Mailbox& Mailbox::of(const std::string& server) {
  static constinit PerProcessForever<All> all;
  All& mine = all.get();
  const MutexLock lock(mine.mutex);
  return mine.by_server[server];
}

bool Mailbox::is_switched_off() {
  const char* const setting = std::getenv("MEMCACHEDLOCK_NOTIFY");  // NOLINT(concurrency-mt-unsafe)
  return setting != nullptr && std::string_view(setting) == "off";
}

/// What it reads from, and what ends a read.
struct Mailbox::Channel {
  /// A negative number where something was refused.
  explicit Channel(Place at) : socket(make_socket(at.family())) {
    if (socket < 0 || pipe2(wake_ends, O_CLOEXEC | O_NONBLOCK) != 0) return;
    if (bind(socket, at.get(), at.size) != 0 || getsockname(socket, at.get(), &at.size) != 0)
      return;
    address = encode(at);
    is_local = at.is_local();
  }
  ~Channel() {
    for (const int end : {socket, wake_ends[0], wake_ends[1]}) {
      if (end >= 0 && !is_others) close(end);
    }
  }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  void interrupt() const noexcept {
    const char byte = 0;
    [[maybe_unused]] const ssize_t written =
        write(wake_ends[1], &byte, 1);  // full: it wakes anyway
  }

  int socket;
  int wake_ends[2] = {-1, -1};         // of a pipe
  std::string address;                 // empty if it could not be opened
  bool is_local = false;               // the address is of this host alone
  std::atomic<bool> is_others{false};  // somebody has closed what is not theirs
};

std::shared_ptr<Mailbox::Channel> Mailbox::channel() const {
  const MutexLock lock(channel_mutex_);
  return channel_;
}

std::string Mailbox::address(const std::string& peer) {
  if (is_off_) return "-";
  const MutexLock lock(channel_mutex_);
  const auto now = Clock::now();
  if ((!channel_ || missed_.load() >= too_many_missed) && now >= next_try_) {
    next_try_ = now + retry_pause;
    renew(peer);
  }
  return channel_ ? channel_->address : "-";
}

/// Opens it, or opens it anew where this host has another address now.
void Mailbox::renew(const std::string& peer) {
  const auto place = local_place(peer);
  if (!place) return;
  const std::string host = host_of(encode(*place));
  if (channel_ && host_of(channel_->address) == host) return;
  auto made = std::make_shared<Channel>(*place);
  if (made->address.empty()) return;
  missed_.store(0);
  opened_.store(true);
  if (const auto before = std::exchange(channel_, std::move(made))) before->interrupt();
}

/// It can't be read from: whoever reads would not wait.
void Mailbox::give_up(const std::shared_ptr<Channel>& broken, bool is_others) {
  if (is_others) broken->is_others.store(true);
  const MutexLock lock(channel_mutex_);
  if (channel_ != broken) return;
  channel_.reset();
  opened_.store(false);
  next_try_ = Clock::now() + retry_pause;
}

int Mailbox::sender(int family) {
  const MutexLock lock(mutex_);
  int& one = family == AF_INET ? ipv4_sender_ : ipv6_sender_;
  if (one < 0) one = make_socket(family);
  return one;
}

void Mailbox::tell(const Entry& waiter, const Grant& grant, bool others) {
  if (is_of_this_process(waiter.token)) {
    (void)Inbox::deliver(waiter.token, grant);
  } else if (others && !is_off_) {
    send(waiter, grant);
  }
}

void Mailbox::send(const Entry& waiter, const Grant& grant) {
  const auto place = decode(waiter.told_at);
  // Another host's loopback is not ours.
  if (!place) return;
  if (place->is_local()) {
    const auto own = channel();
    if (!own || !own->is_local) return;
  }
  const std::string message = GrantMessage::encode(waiter.token, grant);
  const int from = sender(place->family());
  if (message.size() > GrantMessage::max_size || from < 0) return;
  (void)sendto(from, message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL, place->get(),
               place->size);
}

void Mailbox::note_found() {
  if (missed_.load() < most_missed) missed_.fetch_add(2);
}

void Mailbox::note_told() {
  if (missed_.load() > 0) missed_.fetch_sub(1);
}

bool Mailbox::join(Reader& reader) {
  const MutexLock lock(mutex_);
  readers_.push_back(&reader);
  return readers_.size() == 1;
}

void Mailbox::leave(Reader& reader) {
  const MutexLock lock(mutex_);
  const bool was_reading = readers_.front() == &reader;
  readers_.remove(&reader);
  if (was_reading && !readers_.empty()) readers_.front()->take_over();
}

void Mailbox::receive(Clock::time_point until) {
  const auto own = channel();
  if (!own) return;
  std::array<pollfd, 2> ends{pollfd{own->socket, POLLIN, 0}, pollfd{own->wake_ends[0], POLLIN, 0}};
  const auto left = std::max<Clock::duration>(until - Clock::now(), Clock::duration(0));
  const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
  const timespec limit{static_cast<std::time_t>(seconds.count()),
                       static_cast<long>((left - seconds).count())};
  const int ready = ppoll(ends.data(), ends.size(), &limit, nullptr);
  if (ready < 0 && errno != EINTR) {
    give_up(own, false);
    return;
  }
  if (ready <= 0) return;
  constexpr short wrong = POLLERR | POLLHUP | POLLNVAL;
  const auto events = static_cast<short>(ends[0].revents | ends[1].revents);
  if ((ends[1].revents & POLLIN) != 0) {
    std::array<char, 64> bytes;  // NOLINT(*-member-init)
    while (read(own->wake_ends[0], bytes.data(), bytes.size()) > 0) {
    }
  }
  if ((ends[0].revents & POLLIN) != 0) deliver_all(own->socket);
  if ((events & wrong) != 0) give_up(own, (events & (POLLNVAL | POLLHUP)) != 0);
}

/// What has come, but not more than a turn's worth: a flood must not keep the reader from looking.
void Mailbox::deliver_all(int socket) {
  constexpr int most = 64;
  bool any = false;
  for (int count = 0; count < most && !any; ++count) {
    std::array<char, GrantMessage::max_size + 1> bytes;  // NOLINT(*-member-init)
    const ssize_t size = recv(socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (size < 0) break;
    auto message =
        GrantMessage::decode({bytes.data(), static_cast<std::size_t>(size)}, process_token());
    if (!message) continue;
    any = Inbox::deliver(message->token, std::move(message->grant));
    if (any) continue;
    // It waits no more, but messages do come.
    note_told();
    late_.fetch_add(1);
  }
}

void Mailbox::receive_now() {
  if (const auto own = channel()) deliver_all(own->socket);
}

void Mailbox::interrupt() noexcept {
  if (const auto own = channel()) own->interrupt();
}

}  // namespace memcachedlock::detail
