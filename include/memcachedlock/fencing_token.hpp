// A number for each holding of a lock, by which a store refuses a late writer.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <compare>
#include <cstdint>
#include <string>

namespace memcachedlock {

/// A number that rises with each new holder of a key, also over a restart of the server. A store
/// that keeps the highest token it has seen can refuse a writer whose lease has ended (Kleppmann,
/// "How to do distributed locking", 2016). The token {0, 0} means that no lock was held.
struct MEMCACHEDLOCK_EXPORT FencingToken {
  std::uint64_t epoch = 0;     ///< rises when the server restarts or is flushed
  std::uint64_t sequence = 0;  ///< memcached's CAS id; rises within one epoch

  /// Always 33 characters, "epoch-sequence" in hex; sorts as text just as the tokens do.
  [[nodiscard]] std::string to_string() const;

  /// Whether a lock was held.
  explicit operator bool() const noexcept { return epoch != 0 || sequence != 0; }
  /// The later holder's is the greater.
  friend auto operator<=>(const FencingToken&, const FencingToken&) = default;
};

}  // namespace memcachedlock
