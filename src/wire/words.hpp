// The words of an item's text, read one after the other.
#pragma once

#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

namespace memcachedlock::detail {

/// In seconds from 1970: beyond the year 30000.
constexpr std::uint64_t latest_second = 1ULL << 40U;

inline std::string_view next_word(std::string_view& text) {
  const auto space = text.find(' ');
  const std::string_view word = text.substr(0, space);
  text = space == std::string_view::npos ? std::string_view{} : text.substr(space + 1);
  return word;
}

inline std::optional<std::uint64_t> next_number(std::string_view& text) {
  const std::string_view word = next_word(text);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (word.empty() || error != std::errc{} || end != word.data() + word.size()) return {};
  return number;
}

/// Refuses leases that this library never writes: anyone may have stored this item.
inline std::optional<std::chrono::milliseconds> next_lease(std::string_view& text) {
  constexpr std::chrono::milliseconds longest = std::chrono::hours(24 * 30);
  const auto number = next_number(text);
  if (!number || *number > static_cast<std::uint64_t>(longest.count())) return {};
  return std::chrono::milliseconds(*number);
}

}  // namespace memcachedlock::detail
