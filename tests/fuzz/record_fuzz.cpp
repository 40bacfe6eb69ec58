// What anybody may have stored at a lock's key or as the epoch: no record, or one that reads the
// same when written, and whose numbers can be counted with.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "wire/epoch_item.hpp"
#include "wire/record.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace memcachedlock::detail;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto record = Record::parse(text)) {
    const auto again = Record::parse(record->encode());
    if (!again || again->holders != record->holders || again->lease != record->lease ||
        again->fence != record->fence || again->stamp != record->stamp ||
        again->owner != record->owner || again->reserved != record->reserved ||
        again->hold != record->hold || again->since != record->since ||
        again->written != record->written || again->waiters != record->waiters) {
      std::abort();
    }
    if (record->lease.count() < 0 || record->lease > std::chrono::hours(24 * 30)) std::abort();
    Record changed = *record;
    changed.remove_holder("token");
    changed.remove_waiter("token");
    if (changed.holds("token") || changed.queue_position("token")) std::abort();
    const std::size_t before = changed.waiters.size();
    if (before > 0) {
      changed.grant_to_first(std::chrono::milliseconds(1));
      if (changed.holders.size() != 1 || changed.waiters.size() >= before) std::abort();
    }
  }
  if (const auto epoch = EpochItem::parse(text)) {
    const auto again = EpochItem::parse(epoch->encode());
    if (!again || again->number != epoch->number || again->max_lease != epoch->max_lease ||
        epoch->number + 1 < epoch->number) {
      std::abort();
    }
  }
  return 0;
}
