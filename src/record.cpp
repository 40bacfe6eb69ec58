#include "record.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "process.hpp"

namespace memcachedlock::detail {

namespace {

constexpr std::string_view record_version = "mcl1";
constexpr std::string_view epoch_version = "mcl-epoch1";

std::string_view next_word(std::string_view& text) {
  const auto space = text.find(' ');
  const std::string_view word = text.substr(0, space);
  text = space == std::string_view::npos ? std::string_view{} : text.substr(space + 1);
  return word;
}

std::optional<std::uint64_t> next_number(std::string_view& text) {
  const std::string_view word = next_word(text);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (word.empty() || error != std::errc{} || end != word.data() + word.size()) return {};
  return number;
}

/// Of what anybody may have written, only what we could have: it is counted with.
std::optional<std::chrono::milliseconds> next_lease(std::string_view& text) {
  constexpr std::chrono::milliseconds longest = std::chrono::hours(24 * 30);
  const auto number = next_number(text);
  if (!number || *number > static_cast<std::uint64_t>(longest.count())) return {};
  return std::chrono::milliseconds(*number);
}

std::string_view token_of(std::string_view member) { return member.substr(0, member.find('@')); }

}  // namespace

std::string Record::encode() const {
  std::string text =
      fmt::format("{} {} {} {} {} {}", record_version, reserved ? "reserved" : "held",
                  lease.count(), stamp, fence, owner);
  for (const std::string& member : members) {
    text += ' ';
    text += member;
  }
  return text;
}

std::optional<Record> Record::parse(std::string_view text) {
  if (next_word(text) != record_version) return {};
  const std::string_view state = next_word(text);
  if (state != "held" && state != "reserved") return {};
  const auto lease = next_lease(text);
  const std::string_view stamp = next_word(text);
  const auto fence = next_number(text);
  const std::string_view owner = next_word(text);
  if (!lease || stamp.empty() || !fence || owner.empty() || text.empty()) return {};
  Record record;
  record.reserved = state == "reserved";
  record.lease = *lease;
  record.stamp = stamp;
  record.fence = *fence;
  record.owner = owner;
  while (!text.empty()) {
    const std::string_view member = next_word(text);
    if (member.empty()) return {};
    record.members.emplace_back(member);
  }
  return record;
}

bool Record::has(std::string_view token) const {
  return std::any_of(members.begin(), members.end(),
                     [&](const std::string& member) { return token_of(member) == token; });
}

void Record::add(std::string_view token) {
  members.push_back(fmt::format("{}@{}", token, holder_description()));
}

void Record::remove(std::string_view token) {
  std::erase_if(members, [&](const std::string& member) { return token_of(member) == token; });
}

std::string Epoch::encode() const {
  return fmt::format("{} {} {}", epoch_version, number, longest_lease.count());
}

std::optional<Epoch> Epoch::parse(std::string_view text) {
  if (next_word(text) != epoch_version) return {};
  constexpr auto highest = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  const auto number = next_number(text);
  const auto lease = next_lease(text);
  if (!number || *number >= highest || !lease || !text.empty()) return {};
  return Epoch{*number, *lease};
}

}  // namespace memcachedlock::detail
