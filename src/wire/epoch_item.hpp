// What memcached keeps of a server's epoch: a short, versioned text.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace memcachedlock::detail {

/// The value of the epoch item: `mcl-epoch2 ID NUMBER LONGEST_LEASE_MS MADE_S`.
struct EpochItem {
  std::uint64_t id = 0;      ///< new for each item made: the server has lost the one before
  std::uint64_t number = 0;  ///< of fencing tokens; never falls
  std::chrono::milliseconds max_lease{0};
  std::int64_t made = 0;  ///< by the server's clock, no earlier than it was

  friend bool operator==(const EpochItem&, const EpochItem&) = default;

  [[nodiscard]] std::string encode() const;
  [[nodiscard]] static std::optional<EpochItem> parse(std::string_view text);
};

}  // namespace memcachedlock::detail
