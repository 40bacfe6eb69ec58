// The datagram by which a waiter is told that it holds a lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace memcachedlock::detail {

/// What whoever lets a waiter in has read: its word is in the record, and so the waiter holds.
struct Grant {
  std::string record;  ///< with the waiter's entry alone
  std::uint64_t cas = 0;
  std::uint64_t item_id = 0;  ///< of what the server keeps of itself; 0: it was not read
  std::uint64_t item_cas = 0;
  bool alone = true;         ///< nobody else is in the record
  bool by_datagram = false;  ///< not from this process
};

/// `mcl-grant1 TOKEN SERVER_ID ITEM_CAS CAS alone|others RECORD`
struct GrantMessage {
  /// No datagram is longer, so that none is cut into pieces on its way.
  static constexpr std::size_t max_size = 1'200;

  std::string_view token;
  Grant grant;

  [[nodiscard]] static std::string encode(std::string_view token, const Grant& grant);
  /// Nothing, and nothing of it is read, unless it begins with a token that begins with `process`.
  /// Compares that in constant time.
  [[nodiscard]] static std::optional<GrantMessage> decode(std::string_view text,
                                                          std::string_view process);
};

}  // namespace memcachedlock::detail
