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

std::optional<std::string> GrantMessage::encode(std::string_view token, const Record& record,
                                                std::uint64_t cas) {
  const auto text = [&](const Record& some, bool whole) {
    return fmt::format("{}{} {} {} {}", version, token, cas, whole ? "whole" : "part",
                       some.encode());
  };
  std::string message = text(record, true);
  if (message.size() <= max_size) return message;
  Record first = record;
  while (first.entries.size() > 1) {
    first.entries.resize(first.entries.size() * 3 / 4);
    if (!first.includes(token)) break;
    message = text(first, false);
    if (message.size() <= max_size) return message;
  }
  return std::nullopt;
}

std::optional<GrantMessage> GrantMessage::decode(std::string_view text, std::string_view process) {
  if (text.size() > max_size || text.size() < version.size() + process.size()) return std::nullopt;
  if (!equals(process, text.substr(version.size(), process.size()))) return std::nullopt;
  if (!text.starts_with(version)) return std::nullopt;
  text.remove_prefix(version.size());
  GrantMessage message;
  message.token = next_word(text);
  const auto cas = next_number(text);
  const std::string_view extent = next_word(text);
  if (!cas || (extent != "whole" && extent != "part")) return std::nullopt;
  message.grant = {std::string(text), *cas, extent == "whole"};
  return message;
}

}  // namespace memcachedlock::detail
