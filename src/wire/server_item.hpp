// What each memcached keeps of itself: whether its memory is still the same, and the list of
// servers that it is used in.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace memcachedlock::detail {

/// A list of servers, and which of them is the very server that keeps the item.
struct MarkedList {
  std::string text;  ///< as list_text() writes it
  std::string self;  ///< the marked entry; empty: this server is none of them

  friend bool operator==(const MarkedList&, const MarkedList&) = default;
  [[nodiscard]] bool has_one() const { return text.find(',') == std::string::npos; }
};

/// The value of the server's item:
/// `mcl-server1 ID NUMBER LONGEST_LEASE_MS MADE_S [?]LIST`, or `LIST>LIST@FLOOR` in a move.
struct ServerItem {
  std::uint64_t id = 0;      ///< new for each item made: the server has lost the one before
  std::uint64_t number = 0;  ///< of fencing tokens; never falls
  std::chrono::milliseconds max_lease{0};
  std::int64_t made = 0;  ///< by the server's clock, no earlier than it was; 0: never used before
  bool confirmed = true;  ///< else nothing is granted by it
  MarkedList list = {};   ///< in a move, the old one
  std::optional<MarkedList> next = {};  ///< in a move, the new one
  std::uint64_t floor = 0;              ///< in a move: of tokens of locks that it concerns

  friend bool operator==(const ServerItem&, const ServerItem&) = default;

  [[nodiscard]] std::string encode() const;
  [[nodiscard]] static std::optional<ServerItem> parse(std::string_view text);
  /// The lists alone, for people.
  [[nodiscard]] std::string lists() const;

  /// Longer lists are not taken: each acquire reads the item.
  static constexpr std::size_t max_list = 8'000;
  /// libmemcached takes no more in a ring.
  static constexpr std::size_t max_servers = 100;
  /// No number or floor is higher; as nanoseconds, in the year 2116.
  static constexpr std::uint64_t max_number = 1ULL << 62U;
};

}  // namespace memcachedlock::detail
