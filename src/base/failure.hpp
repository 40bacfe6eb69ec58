// Failed requests: one without key and server, and one that several waiters share.
#pragma once

#include <stdexcept>
#include <string>

#include "memcachedlock/error.hpp"

namespace memcachedlock::detail {

/// The connection must not be used again: a late reply may still come.
struct Failure : std::runtime_error {
  enum class Kind {
    timeout,       // no answer within the limit
    disconnected,  // refused, unknown host, closed
    refused        // answered, but not as memcached should
  };
  Failure(Kind what_kind, const std::string& what) : std::runtime_error(what), kind(what_kind) {}
  Kind kind;
};

/// The failure of one waiter's request, which the waiters behind it would meet too. An error
/// for each waiter is made from it.
struct SharedFailure {
  enum class Kind { unavailable, setting, servers_differ };
  Kind kind = Kind::unavailable;
  std::string what;
  std::string server;
  std::string ours = {};    ///< of ServersDiffer
  std::string theirs = {};  ///< likewise

  /// Of an Unavailable, ServerError or ServersDiffer.
  [[nodiscard]] static SharedFailure of(const Error& error);
  /// Throws one like it, of this key.
  [[noreturn]] void raise(const std::string& key) const;
};

}  // namespace memcachedlock::detail
