#include "wire/grant_message.hpp"

#include <fmt/format.h>

#include "wire/words.hpp"

namespace memcachedlock::detail {

namespace {

constexpr std::string_view version = "mcl-grant1 ";

bool equals(std::string_view one, std::string_view other) {
  unsigned char differs = 0;
  for (std::size_t at = 0; at < one.size(); ++at) {
    differs = static_cast<unsigned char>(differs | (one[at] ^ other[at]));
  }
  return differs == 0;
}

}  // namespace

std::string GrantMessage::encode(std::string_view token, const Grant& grant) {
  return fmt::format("{}{} {} {} {} {} {}", version, token, grant.item_id, grant.item_cas,
                     grant.cas, grant.alone ? "alone" : "others", grant.record);
}

std::optional<GrantMessage> GrantMessage::decode(std::string_view text, std::string_view process) {
  if (text.size() > max_size || text.size() < version.size() + process.size()) return std::nullopt;
  if (!equals(process, text.substr(version.size(), process.size()))) return std::nullopt;
  if (!text.starts_with(version)) return std::nullopt;
  text.remove_prefix(version.size());
  GrantMessage message;
  message.token = next_word(text);
  const auto item_id = next_number(text);
  const auto item_cas = next_number(text);
  const auto cas = next_number(text);
  const std::string_view others = next_word(text);
  if (!item_id || !item_cas || !cas || (others != "alone" && others != "others")) return {};
  message.grant = {.record = std::string(text),
                   .cas = *cas,
                   .item_id = *item_id,
                   .item_cas = *item_cas,
                   .alone = others == "alone",
                   .by_datagram = true};
  return message;
}

}  // namespace memcachedlock::detail
