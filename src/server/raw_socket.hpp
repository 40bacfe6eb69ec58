// A plain connection, for what libmemcached can't do: list keys, and find out what answers.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "memcachedlock/servers.hpp"

namespace memcachedlock::detail {

/// Used by one thread. All members throw Failure.
class RawSocket {
 public:
  /// Tries all addresses of a name. `limit` is for each, and for the look-up.
  RawSocket(const ServerAddress& server, std::chrono::milliseconds limit);
  ~RawSocket();
  RawSocket(const RawSocket&) = delete;
  RawSocket& operator=(const RawSocket&) = delete;

  void send(std::string_view text, Clock::time_point deadline) const;
  /// Some bytes, appended to `text`; false at the end of the stream.
  bool receive(std::string& text, Clock::time_point deadline) const;

 private:
  int descriptor_ = -1;
};

/// The first of the host's addresses to which a connection can be made; one that is alone is not
/// tried.
std::string reachable_address(const std::string& host, std::uint16_t port,
                              std::chrono::milliseconds limit);

}  // namespace memcachedlock::detail
