// The datagram by which a waiter is told that it holds a lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "wire/record.hpp"

namespace memcachedlock::detail {

/// What whoever lets a waiter in has read: its word, and so the waiter, is in this record.
struct Grant {
  std::string record;
  std::uint64_t cas = 0;  ///< of that read
  bool whole = true;      ///< else the record's last entries are left out
};

/// `mcl-grant1 TOKEN CAS whole|part RECORD`
struct GrantMessage {
  /// No datagram is longer, so that none is cut into pieces on its way.
  static constexpr std::size_t max_size = 1'200;

  std::string_view token;
  Grant grant;

  /// Of as many entries of the record as there is room for. Nothing when not even the first of them
  /// up to the token's fit in.
  [[nodiscard]] static std::optional<std::string> encode(std::string_view token,
                                                         const Record& record, std::uint64_t cas);
  /// Nothing, and nothing of it is read, unless it begins with a token that begins with `process`.
  /// Compares that in constant time.
  [[nodiscard]] static std::optional<GrantMessage> decode(std::string_view text,
                                                          std::string_view process);
};

}  // namespace memcachedlock::detail
