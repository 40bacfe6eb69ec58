// Any bytes as text that every database takes.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <string>
#include <string_view>

namespace memcachedlock::detail {

/// The key itself where it is printable ASCII without a backslash; else each other byte as `\xHH`:
/// databases refuse what is not of their encoding, or end at a NUL. Different keys give different
/// texts.
inline std::string plain_text(std::string_view key) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  text.reserve(key.size());
  for (const char c : key) {
    if (c >= ' ' && c <= '~' && c != '\\') {
      text += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      text += "\\x";
      text += digits[byte >> 4U];
      text += digits[byte & 15U];
    }
  }
  return text;
}

}  // namespace memcachedlock::detail
