#include "memcachedlock/key.hpp"

#include <fmt/format.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>

#include "base/word.hpp"
#include "memcachedlock/error.hpp"

namespace memcachedlock {

namespace {

constexpr std::size_t max_item = 250;      // memcached's limit
constexpr std::size_t digest_length = 64;  // SHA-256 in hex
constexpr char separator = '^';

std::string shown(std::string_view text) {
  constexpr std::size_t most = 80;
  std::string result(text.substr(0, most));
  for (char& c : result) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  if (text.size() > most) result += "...";
  return result;
}

}  // namespace

namespace detail {

std::string to_word(std::string_view text, std::size_t most) {
  const auto plain = [](char c) { return c > ' ' && c <= '~' && c != separator; };
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  const bool like_a_digest =
      text.size() == digest_length && std::all_of(text.begin(), text.end(), hex);
  if (text.size() <= most && !like_a_digest && std::all_of(text.begin(), text.end(), plain)) {
    return std::string(text);
  }
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  std::string result;
  for (const unsigned char byte : digest)
    fmt::format_to(std::back_inserter(result), "{:02x}", byte);
  return result;
}

}  // namespace detail

Key::Key(std::string_view prefix, std::string_view scope, std::string_view text)
    : text_(shown(text)) {
  if (text.empty()) {
    throw InvalidKey("the key is empty: the key function must name the object to lock");
  }
  item_ = prefix;
  if (!scope.empty()) {
    item_ += detail::to_word(scope, digest_length);
    item_ += separator;
  }
  item_ += detail::to_word(text, max_item - item_.size());
}

std::optional<Key> Key::from_item(std::string_view prefix, std::string_view item) {
  if (!item.starts_with(prefix) || item.size() > max_item || item == server_item(prefix)) return {};
  const std::string_view text = item.substr(prefix.size());
  const auto plain = [](char c) { return c > ' ' && c <= '~'; };
  if (text.empty() || !std::all_of(text.begin(), text.end(), plain)) return {};
  return Key(std::string(text), std::string(item));
}

std::string Key::server_item(std::string_view prefix) {
  // An empty scope never writes the separator, so no lock has this name.
  return fmt::format("{}{}server", prefix, separator);
}

}  // namespace memcachedlock
