// What all commands of the program share.
#pragma once

#include <chrono>
#include <string>

#include "memcachedlock/client.hpp"

namespace memcachedlock::cli {

using std::chrono::milliseconds;

/// A command line that makes no sense; the message is one line.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct CommonOptions {
  std::string servers;  ///< empty: MEMCACHEDLOCK_SERVERS, or 127.0.0.1:11211
  std::string scope;
  std::string password_file;
  ClientOptions client;
  bool json = false;
  bool colour = false;

  /// Throws InvalidServers, InvalidOption, UsageError.
  [[nodiscard]] MemcachedClient connect() const;
};

/// "500ms", "1.5s", "2m", "1h". Throws UsageError.
milliseconds parse_duration(const std::string& text);

}  // namespace memcachedlock::cli
