// What anybody may have stored at a lock's key or as the server's item: no record, or one that
// reads the same when written, and whose numbers can be counted with.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "wire/record.hpp"
#include "wire/server_item.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace memcachedlock::detail;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto record = Record::parse(text)) {
    const auto again = Record::parse(record->encode());
    if (!again || again->entries != record->entries || again->expiry != record->expiry ||
        again->hold != record->hold) {
      std::abort();
    }
    if (record->holders() > record->entries.size()) std::abort();
    if (record->entries.empty() != (record->holders() == 0)) std::abort();
    for (const Entry& entry : record->entries) {
      if (entry.lease.count() < 0 || entry.lease > std::chrono::hours(24 * 30)) std::abort();
      if (record->find(entry.token) != &entry) std::abort();  // each is there once
      if (record->holds(entry.token) == record->queue_position(entry.token).has_value()) {
        std::abort();
      }
    }
    // Wherever the text is cut, what is left is a record, or nothing; and to write it anew there
    // changes nothing.
    for (std::size_t cut = text.find(' ', 5); cut < text.size(); cut = text.find(' ', cut + 1)) {
      const auto first = Record::parse(text.substr(0, cut));
      if (!first) std::abort();
      const auto whole = Record::parse(first->encode().append(text.substr(cut)));
      if (!whole || whole->entries != record->entries || whole->hold != record->hold) std::abort();
    }
    if (Record::left(text, "t.1").value_or(false) && record->words == 0) std::abort();
  }
  (void)Record::is_of_another_version(text);
  if (const auto item = ServerItem::parse(text)) {
    if (ServerItem::parse(item->encode()) != item || item->number + 1 < item->number ||
        item->floor + 1 < item->floor) {
      std::abort();
    }
  }
  return 0;
}
