// What anybody may have stored at a lock's key or as the epoch: no record, or one that reads the
// same when written, and whose numbers can be counted with.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "record.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace memcachedlock::detail;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto record = Record::parse(text)) {
    const auto again = Record::parse(record->encode());
    if (!again || again->members != record->members || again->lease != record->lease ||
        again->fence != record->fence || again->stamp != record->stamp ||
        again->owner != record->owner || again->reserved != record->reserved) {
      std::abort();
    }
    if (record->lease.count() < 0 || record->lease > std::chrono::hours(24 * 30)) std::abort();
    Record changed = *record;
    changed.remove("token");
    if (changed.has("token")) std::abort();
  }
  if (const auto epoch = Epoch::parse(text)) {
    const auto again = Epoch::parse(epoch->encode());
    if (!again || again->number != epoch->number || again->longest_lease != epoch->longest_lease ||
        epoch->number + 1 < epoch->number) {
      std::abort();
    }
  }
  return 0;
}
