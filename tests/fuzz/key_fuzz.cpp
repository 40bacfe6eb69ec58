// Any text and scope: a key that memcached takes, and that is neither the epoch's nor changed by
// anything but text and scope.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "memcachedlock/error.hpp"
#include "memcachedlock/key.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using memcachedlock::Key;
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const auto middle = std::min(all.find('\n'), all.size());
  const std::string_view scope = all.substr(0, middle);
  const std::string_view text = middle < all.size() ? all.substr(middle + 1) : "";
  try {
    const Key key("prefix:", scope, text);
    const std::string& item = key.item();
    const bool plain =
        std::all_of(item.begin(), item.end(), [](char c) { return c > ' ' && c <= '~'; });
    if (!plain || item.size() > 250 || item == Key::server_item("prefix:")) std::abort();
    if (Key("prefix:", scope, std::string(text) + "x").item() == item) std::abort();
    if (Key("prefix:", std::string(scope) + "x", text).item() == item) std::abort();
  } catch (const memcachedlock::InvalidKey&) {
    if (!text.empty()) std::abort();
  }
  return 0;
}
