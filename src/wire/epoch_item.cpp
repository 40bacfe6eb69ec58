#include "wire/epoch_item.hpp"

#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "wire/words.hpp"

namespace memcachedlock::detail {

namespace {
constexpr std::string_view epoch_version = "mcl-epoch2";
}  // namespace

std::string EpochItem::encode() const {
  return fmt::format("{} {:016x} {} {} {}", epoch_version, id, number, max_lease.count(), made);
}

std::optional<EpochItem> EpochItem::parse(std::string_view text) {
  if (next_word(text) != epoch_version) return {};
  constexpr auto highest = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  const std::string_view id_text = next_word(text);
  std::uint64_t id = 0;
  const char* const id_end = id_text.data() + id_text.size();
  const auto [end, error] = std::from_chars(id_text.data(), id_end, id, 16);
  const auto number = next_number(text);
  const auto lease = next_lease(text);
  const auto made = next_number(text);
  if (id == 0 || error != std::errc{} || end != id_end) return {};
  if (!number || *number == 0 || *number >= highest || !lease || !made || *made > latest_second ||
      !text.empty()) {
    return {};
  }
  return EpochItem{id, *number, *lease, static_cast<std::int64_t>(*made)};
}

}  // namespace memcachedlock::detail
