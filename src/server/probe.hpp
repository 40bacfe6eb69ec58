// What answers at an address if that is no memcached that is fit for locks.
#pragma once

#include <optional>
#include <string>

#include "memcachedlock/client_options.hpp"
#include "memcachedlock/servers.hpp"

namespace memcachedlock::detail {

struct Answerer {
  std::string text;     ///< what it is, and what to do; goes on after the server's name
  bool passes = false;  ///< it may be well a moment later
};

/// Asks over plain connections of its own what libmemcached does not tell, for the text of an error
/// that is thrown in any case. Nothing where it is a memcached without fault, or does not answer.
/// Takes at most `operation_timeout`.
std::optional<Answerer> who_answers(const ServerAddress& server, const ClientOptions& options);

}  // namespace memcachedlock::detail
