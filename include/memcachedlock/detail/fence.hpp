// What the fences of all databases share.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <string>

#include "memcachedlock/error.hpp"

namespace memcachedlock::detail {

/// Of a key and a token: changes one row, unless a later holder has been there.
inline constexpr const char* fence_statement =
    "INSERT INTO memcachedlock_fence AS kept (key, token) VALUES ($1, $2)"
    " ON CONFLICT (key) DO UPDATE SET token = excluded.token WHERE kept.token <= excluded.token";

[[noreturn]] inline void refuse_late_writer(const std::string& key, const std::string& token) {
  throw LeaseLost("a later holder of \"" + key +
                      "\" has written already, so what was done under token " + token +
                      " is refused; abort the transaction and begin anew",
                  key);
}

}  // namespace memcachedlock::detail
