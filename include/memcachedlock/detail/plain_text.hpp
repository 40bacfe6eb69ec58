// Any bytes as text that every database takes.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <string>
#include <string_view>

#include "memcachedlock/key.hpp"

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

/// plain_text(), or a digest where that is long: databases limit what they index.
inline std::string database_key(std::string_view key) {
  constexpr std::size_t longest = 500;
  std::string text = plain_text(key);
  if (text.size() <= longest) return text;
  return "sha256:" +
         Key({}, {}, key).item();  // which is one, as the key is longer than memcached's
}

/// Whether it is UTF-8, without codes that stand for others or for nothing.
inline bool is_utf8(std::string_view text) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  for (std::size_t at = 0; at < text.size();) {
    const unsigned first = byte(at++);
    if (first < 0x80) continue;
    const std::size_t more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || text.size() - at < more) return false;
    unsigned code = first & (0x3fU >> more);
    for (std::size_t i = 0; i < more; ++i, ++at) {
      if ((byte(at) & 0xc0U) != 0x80) return false;
      code = code << 6U | (byte(at) & 0x3fU);
    }
    const unsigned least = more == 3 ? 0x10000 : more == 2 ? 0x800 : 0x80;
    if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return false;
  }
  return true;
}

/// The text itself where it is UTF-8, else as plain_text().
inline std::string utf8_or_plain(const std::string& text) {
  return is_utf8(text) ? text : plain_text(text);
}

}  // namespace memcachedlock::detail
