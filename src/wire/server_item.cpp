#include "wire/server_item.hpp"

#include <fmt/format.h>

#include <charconv>
#include <iterator>

#include "wire/words.hpp"

namespace memcachedlock::detail {

namespace {

constexpr std::string_view item_version = "mcl-server1";
constexpr char mark = '*';
constexpr char unconfirmed = '?';
constexpr char move_to = '>';
constexpr char at_floor = '@';

/// A socket's path may have any of these.
bool is_plain(char c) {
  return c > ' ' && c <= '~' && std::string_view("*?>@%,").find(c) == std::string_view::npos;
}

void append_escaped(std::string& text, std::string_view entry) {
  for (const char c : entry) {
    if (is_plain(c)) {
      text += c;
    } else {
      fmt::format_to(std::back_inserter(text), "%{:02x}", static_cast<unsigned char>(c));
    }
  }
}

std::optional<std::string> unescaped(std::string_view text) {
  std::string entry;
  while (!text.empty()) {
    if (text.front() != '%') {
      if (!is_plain(text.front())) return std::nullopt;
      entry += text.front();
      text.remove_prefix(1);
      continue;
    }
    unsigned code = 0;
    if (text.size() < 3) return std::nullopt;
    const auto [end, error] = std::from_chars(text.data() + 1, text.data() + 3, code, 16);
    if (error != std::errc{} || end != text.data() + 3) return std::nullopt;
    const char c = static_cast<char>(code);
    if (c == ',' || is_plain(c)) return std::nullopt;
    entry += c;
    text.remove_prefix(3);
  }
  return entry;
}

void append_list(std::string& text, const MarkedList& list) {
  std::string_view rest = list.text;
  for (;;) {
    const auto comma = rest.find(',');
    const std::string_view entry = rest.substr(0, comma);
    if (entry == list.self) text += mark;
    append_escaped(text, entry);
    if (comma == std::string_view::npos) return;
    text += ',';
    rest.remove_prefix(comma + 1);
  }
}

std::optional<MarkedList> parse_list(std::string_view text) {
  if (text.size() > 4 * ServerItem::max_list) return std::nullopt;
  MarkedList list;
  for (std::size_t entries = 1;; ++entries) {
    const auto comma = text.find(',');
    std::string_view word = text.substr(0, comma);
    const bool marked = word.starts_with(mark);
    if (marked) word.remove_prefix(1);
    const auto entry = unescaped(word);
    if (!entry || entry->empty() || (marked && !list.self.empty())) return std::nullopt;
    if (entries > ServerItem::max_servers) return std::nullopt;
    if (marked) list.self = *entry;
    list.text += *entry;
    if (comma == std::string_view::npos) break;
    list.text += ',';
    text.remove_prefix(comma + 1);
  }
  if (list.text.size() > ServerItem::max_list) return std::nullopt;
  return list;
}

}  // namespace

std::string ServerItem::encode() const {
  std::string text =
      fmt::format("{} {:016x} {} {} {} ", item_version, id, number, max_lease.count(), made);
  if (!confirmed) text += unconfirmed;
  append_list(text, list);
  if (next) {
    text += move_to;
    append_list(text, *next);
    fmt::format_to(std::back_inserter(text), "{}{}", at_floor, floor);
  }
  return text;
}

std::optional<ServerItem> ServerItem::parse(std::string_view text) {
  if (next_word(text) != item_version) return {};
  const std::string_view id_text = next_word(text);
  ServerItem item;
  const char* const id_end = id_text.data() + id_text.size();
  const auto [end, error] = std::from_chars(id_text.data(), id_end, item.id, 16);
  if (item.id == 0 || error != std::errc{} || end != id_end) return {};
  const auto number = next_number(text);
  const auto lease = next_lease(text);
  const auto made = next_number(text);
  if (!number || *number == 0 || *number > max_number || !lease || !made || *made > latest_second) {
    return {};
  }
  item.number = *number;
  item.max_lease = *lease;
  item.made = static_cast<std::int64_t>(*made);
  std::string_view lists = next_word(text);
  if (!text.empty()) return {};
  item.confirmed = !lists.starts_with(unconfirmed);
  if (!item.confirmed) lists.remove_prefix(1);
  const auto arrow = lists.find(move_to);
  auto list = parse_list(lists.substr(0, arrow));
  if (!list) return {};
  item.list = *std::move(list);
  if (arrow == std::string_view::npos) return item;
  lists.remove_prefix(arrow + 1);
  const auto at = lists.find(at_floor);
  if (at == std::string_view::npos || !item.confirmed) return {};
  item.next = parse_list(lists.substr(0, at));
  std::string_view digits = lists.substr(at + 1);
  const auto floor = next_number(digits);
  if (!item.next || !floor || *floor == 0 || *floor > max_number || !digits.empty()) return {};
  item.floor = *floor;
  return item;
}

std::string ServerItem::lists() const {
  return next ? fmt::format("{} > {}", list.text, next->text) : list.text;
}

}  // namespace memcachedlock::detail
