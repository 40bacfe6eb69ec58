// What memcached keeps of a lock, and of a server's epoch: short, versioned texts.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace memcachedlock::detail {

/// The value of a lock's item. In words:
///   mcl1 held|reserved LEASE_MS STAMP FENCE OWNER TOKEN@HOST:PID [TOKEN@HOST:PID ...]
struct Record {
  bool reserved = false;
  std::chrono::milliseconds lease{0};  ///< the longest of its members'
  std::string stamp;        ///< another for each writing, so that a writer knows its own again
  std::uint64_t fence = 0;  ///< 0: the item's own CAS id, as the first writer can't know it
  std::string owner = "-";  ///< a named owner's word; "-" where one process owns it
  std::vector<std::string> members;  ///< who holds it; several for a named owner only

  [[nodiscard]] std::string encode() const;
  /// Nothing when the text is no record of ours.
  [[nodiscard]] static std::optional<Record> parse(std::string_view text);

  [[nodiscard]] bool has(std::string_view token) const;
  void add(std::string_view token);
  void remove(std::string_view token);
};

/// The value of the epoch item: `mcl-epoch1 NANOSECONDS LONGEST_LEASE_MS`.
struct Epoch {
  std::uint64_t number = 0;
  std::chrono::milliseconds longest_lease{0};

  [[nodiscard]] std::string encode() const;
  [[nodiscard]] static std::optional<Epoch> parse(std::string_view text);
};

}  // namespace memcachedlock::detail
