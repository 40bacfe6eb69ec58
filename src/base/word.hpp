// Any text as one printable word.
#pragma once

#include <string>
#include <string_view>

namespace memcachedlock::detail {

/// The text itself where it is printable ASCII without spaces and '^', no longer than `most`, and
/// not 64 digits 0-9a-f; else its SHA-256 in hex. Different texts give different words.
std::string to_word(std::string_view text, std::size_t most);

}  // namespace memcachedlock::detail
