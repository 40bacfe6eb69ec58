// A request that failed, before it is told to anybody: key and server are not known here.
#pragma once

#include <stdexcept>
#include <string>

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

}  // namespace memcachedlock::detail
