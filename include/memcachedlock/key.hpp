// From any text to a key that memcached takes.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace memcachedlock {

/// The name of a lock: the user's text, and the key under which memcached keeps it.
///
/// A text that memcached takes as it is stays readable: `prefix + text`, or
/// `prefix + scope + '^' + text`. Any other (too long, spaces, control bytes, beyond ASCII, a '^')
/// is put there as its SHA-256 in hex. Two different pairs of scope and text never share an item:
/// no readable part holds the separator, and 64 digits 0-9a-f are hashed too.
///
/// A value; safe to copy and share.
class MEMCACHEDLOCK_EXPORT Key {
 public:
  /// Throws InvalidKey when `text` is empty. Makes no request.
  Key(std::string_view prefix, std::string_view scope, std::string_view text);

  /// For messages: the text, shortened and with control bytes shown as '?'.
  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  /// The key on the server, at most 250 printable bytes.
  [[nodiscard]] const std::string& item() const noexcept { return item_; }

  /// The name of a lock whose item was found on the server: its text is what follows the prefix.
  /// Nothing where the item has another prefix, or is no lock's.
  [[nodiscard]] static std::optional<Key> from_item(std::string_view prefix, std::string_view item);

  /// The item that tells of a server; no lock can have it.
  [[nodiscard]] static std::string server_item(std::string_view prefix);

 private:
  Key(std::string text, std::string item) : text_(std::move(text)), item_(std::move(item)) {}

  std::string text_;
  std::string item_;
};

}  // namespace memcachedlock
