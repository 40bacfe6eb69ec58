#include "wire/record.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>

#include "wire/words.hpp"

namespace memcachedlock::detail {

namespace {

constexpr std::string_view record_version = "mcl2";
// Anybody may have written it, and to look for a token takes longer the more there are.
constexpr std::size_t max_entries = 4'000;
// Each word is compared with each entry. A log of few entries may fill an item: whoever can't read
// it can't shorten it.
constexpr std::size_t max_comparisons = max_entries * max_entries;
constexpr std::uint64_t latest_ms = 1ULL << 50U;  // beyond the year 30000
constexpr std::uint64_t max_number = std::numeric_limits<std::uint64_t>::max();

void append_number(std::string& text, std::uint64_t number) {
  std::array<char, 20> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  text.append(digits.data(), end);
}

void append_number_after(std::string& text, char separator, std::uint64_t number) {
  text += separator;
  append_number(text, number);
}

/// What stands before the next colon, which is taken off with it.
std::string_view next_part(std::string_view& text) {
  const auto colon = text.find(':');
  const std::string_view part = text.substr(0, colon);
  text = colon == std::string_view::npos ? std::string_view{} : text.substr(colon + 1);
  return part;
}

/// A part that is a number of at most `most`; false if it is none.
bool take_number(std::string_view& text, std::uint64_t most, std::uint64_t& number) {
  const std::string_view part = next_part(text);
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
  return !part.empty() && error == std::errc{} && end == part.data() + part.size() &&
         number <= most;
}

void append_entry(std::string& text, const Entry& entry, std::uint64_t count) {
  text += entry.token;
  text += ":x";
  append_number_after(text, ':', static_cast<std::uint64_t>(entry.lease.count()));
  append_number_after(text, ':', static_cast<std::uint64_t>(entry.end));
  append_number_after(text, ':', count);
  append_number_after(text, ':', static_cast<std::uint64_t>(entry.since.count()));
  text += ':';
  text += entry.told_at;
  text += ':';
  text += entry.place;
}

bool parse_entry(std::string_view text, Entry& entry) {
  constexpr std::chrono::milliseconds longest = std::chrono::hours(24 * 30);
  constexpr std::size_t longest_address = 38;
  std::uint64_t lease = 0;
  std::uint64_t end = 0;
  std::uint64_t since = 0;
  entry.token = next_part(text);
  const std::string_view mode = next_part(text);
  if (entry.token.empty() || mode != "x" ||
      !take_number(text, static_cast<std::uint64_t>(longest.count()), lease) ||
      !take_number(text, latest_second, end) || !take_number(text, max_number, entry.count) ||
      !take_number(text, latest_ms, since)) {
    return false;
  }
  entry.lease = std::chrono::milliseconds(lease);
  entry.end = static_cast<std::int64_t>(end);
  entry.since = std::chrono::milliseconds(since);
  entry.told_at = next_part(text);
  entry.place = text;
  return !entry.told_at.empty() && entry.told_at.size() <= longest_address &&
         entry.place.find('@') != std::string::npos && entry.place.front() != '@';
}

bool parse_hold(std::string_view text, HoldTime& hold) {
  constexpr auto longest = static_cast<std::uint64_t>(HoldTime::longest.count());
  std::uint64_t usual = 0;
  std::uint64_t deviation = 0;
  std::uint64_t releases = 0;
  if (!take_number(text, longest, usual) || !take_number(text, longest, deviation) ||
      !take_number(text, max_number, releases) || usual == 0 || !text.empty()) {
    return false;
  }
  hold = {std::chrono::microseconds(usual), std::chrono::microseconds(deviation), releases};
  return true;
}

bool are_of_one(const Entry& one, const Entry& other) {
  const std::string_view owner = one.owner();
  return owner != "-" && owner == other.owner();
}

/// Behind those of its named owner that stand there, else at the end.
std::size_t place_for(const std::vector<Entry>& entries, const Entry& entry) {
  if (entry.owner() == "-") return entries.size();
  std::size_t at = 0;
  while (at < entries.size() && !are_of_one(entries[at], entry)) ++at;
  while (at < entries.size() && are_of_one(entries[at], entry)) ++at;
  return at;
}

/// All members of an owner have the token that was first written for one of them.
void share_fence(std::vector<Entry>& entries, const Entry& from) {
  const FencingToken fence = from.fence;
  for (Entry& entry : entries) {
    if (!entry.fence && are_of_one(entry, from)) entry.fence = fence;
  }
}

}  // namespace

std::string_view Entry::label() const {
  const auto at = place.find('@');
  return at == std::string::npos ? std::string_view{} : std::string_view(place).substr(at + 1);
}

std::string Record::encode() const {
  std::string text;
  encode_into(text);
  return text;
}

void Record::encode_into(std::string& text) const {
  constexpr std::size_t usual = 160;
  text.clear();
  text.reserve(usual * std::max<std::size_t>(entries.size(), 1));
  text += record_version;
  append_number_after(text, ' ', static_cast<std::uint64_t>(expiry));
  for (const Entry& entry : entries) {
    // The word that reserves it raises the count.
    const bool reserved = entry.reserved && entry.count > 0;
    text += entry.confirmed ? " +" : " *";
    append_entry(text, entry, entry.count - (reserved ? 1 : 0));
    if (reserved) append_reserve_word(text, entry.token, entry.count - 1, entry.end);
    if (entry.fence) append_fence_word(text, entry.token, entry.fence);
  }
  if (hold.usual.count() > 0) append_hold_word(text, hold);
}

std::optional<Record> Record::parse(std::string_view text) {
  if (next_word(text) != record_version) return {};
  const auto expiry = next_number(text);
  if (!expiry || *expiry > latest_second) return {};
  Record record;
  record.expiry = static_cast<std::int64_t>(*expiry);
  bool is_ours = true;
  std::size_t comparisons = 0;
  while (is_ours && !text.empty()) {
    comparisons += record.entries.size();
    if (comparisons > max_comparisons) return {};
    record.apply(next_word(text), is_ours);
  }
  if (!is_ours) return {};
  return record;
}

void Record::apply(std::string_view word, bool& is_ours) {
  if (word.empty()) {
    is_ours = false;
    return;
  }
  ++words;
  const char kind = word.front();
  word.remove_prefix(1);
  if (kind == '~') {
    is_ours = parse_hold(word, hold);
    return;
  }
  if (kind == '?' || kind == '+' || kind == '*') {
    Entry entry;
    is_ours = parse_entry(word, entry) && entries.size() < max_entries;
    if (!is_ours || includes(entry.token)) return;
    const std::size_t at = place_for(entries, entry);
    if (at > 0 && are_of_one(entries[at - 1], entry)) entry.fence = entries[at - 1].fence;
    entries.insert(entries.begin() + static_cast<std::ptrdiff_t>(at), std::move(entry));
    Entry& placed = entries[at];
    placed.confirmed = kind == '+' || (kind == '?' && at < holders());
    return;
  }
  const std::string_view token = next_part(word);
  Entry* const entry = find(token);
  std::uint64_t count = 0;
  std::uint64_t end = 0;
  if (kind == '-') {
    is_ours = !token.empty() && word.empty();
    if (is_ours) remove(token);
  } else if (kind == '=') {
    is_ours = take_number(word, latest_second, end) && word.empty();
    if (!is_ours || entry == nullptr) return;
    // A renewal that comes late must not shorten what a later one gave.
    const auto until = static_cast<std::int64_t>(end);
    const bool counts = entry->confirmed && !entry->reserved && entry->end != 0 && until != 0;
    entry->end = counts ? std::max(entry->end, until) : until;
    ++entry->count;
    entry->reserved = false;
    entry->confirmed = entry->confirmed || holds(token);
  } else if (kind == '>') {
    Entry next;
    is_ours = !token.empty() && parse_entry(word, next);
    if (!is_ours || !holds(token) || includes(next.token)) return;
    // A named owner's members hold by each other's places.
    if (entry->owner() != "-" || next.owner() != "-") return;
    next.confirmed = true;
    *entry = std::move(next);
  } else if (kind == '!') {
    is_ours = take_number(word, max_number, count) && word.empty();
    if (is_ours && entry != nullptr && entry->count == count) remove(token);
  } else if (kind == '%') {
    is_ours = take_number(word, max_number, count) && take_number(word, latest_second, end) &&
              word.empty();
    if (!is_ours || entry == nullptr || entry->count != count || !holds(token)) return;
    entry->end = static_cast<std::int64_t>(end);
    ++entry->count;
    entry->reserved = true;
    entry->confirmed = true;
  } else if (kind == '#') {
    FencingToken fence{};
    is_ours = take_number(word, max_number, fence.epoch) &&
              take_number(word, max_number, fence.sequence) && word.empty() && fence.epoch != 0;
    if (!is_ours || entry == nullptr || entry->fence) return;
    entry->fence = fence;
    share_fence(entries, Entry(*entry));
  } else {
    is_ours = false;
  }
}

bool Record::is_of_this_version(std::string_view text) { return next_word(text) == record_version; }

bool Record::is_of_another_version(std::string_view text) {
  const std::string_view version = next_word(text);
  constexpr std::string_view name = "mcl";
  return version != record_version && version.starts_with(name) && version.size() > name.size() &&
         version[name.size()] >= '0' && version[name.size()] <= '9';
}

std::optional<bool> Record::left(std::string_view text, std::string_view token) {
  (void)next_word(text);
  (void)next_word(text);
  Record record;
  bool is_ours = true;
  while (is_ours && !text.empty()) {
    const std::string_view word = next_word(text);
    if (!word.empty() && word.front() == '-' && word.substr(1) == token) {
      return record.includes(token);
    }
    record.apply(word, is_ours);
  }
  return std::nullopt;
}

std::size_t Record::holders() const {
  if (entries.empty()) return 0;
  std::size_t count = 1;
  while (count < entries.size() && are_of_one(entries[count], entries.front())) ++count;
  return count;
}

const Entry* Record::find(std::string_view token) const {
  if (token.empty()) return nullptr;
  // Those of one process differ only at the end.
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) {
    return entry.token.back() == token.back() && entry.token == token;
  });
  return found != entries.end() ? &*found : nullptr;
}

Entry* Record::find(std::string_view token) {
  return const_cast<Entry*>(std::as_const(*this).find(token));  // NOLINT: ours, and not const
}

bool Record::holds(std::string_view token) const {
  const Entry* const found = find(token);
  return found != nullptr && static_cast<std::size_t>(found - entries.data()) < holders();
}

std::optional<std::size_t> Record::queue_position(std::string_view token) const {
  const Entry* const found = find(token);
  if (found == nullptr) return {};
  const auto at = static_cast<std::size_t>(found - entries.data());
  const std::size_t first = holders();
  if (at < first) return {};
  return at - first;
}

void Record::remove(std::string_view token) {
  std::erase_if(entries, [&](const Entry& entry) { return entry.token == token; });
}

void append_entry_word(std::string& text, const Entry& entry) {
  text += " ?";
  append_entry(text, entry, entry.count);
}

void append_handoff_word(std::string& text, std::string_view token, const Entry& next) {
  text += " >";
  text += token;
  text += ':';
  append_entry(text, next, next.count);
}

void append_lease_word(std::string& text, std::string_view token, std::int64_t end) {
  text += " =";
  text += token;
  append_number_after(text, ':', static_cast<std::uint64_t>(end));
}

void append_leave_word(std::string& text, std::string_view token) {
  text += " -";
  text += token;
}

void append_removal_word(std::string& text, std::string_view token, std::uint64_t count) {
  text += " !";
  text += token;
  append_number_after(text, ':', count);
}

void append_reserve_word(std::string& text, std::string_view token, std::uint64_t count,
                         std::int64_t end) {
  text += " %";
  text += token;
  append_number_after(text, ':', count);
  append_number_after(text, ':', static_cast<std::uint64_t>(end));
}

void append_fence_word(std::string& text, std::string_view token, const FencingToken& fence) {
  text += " #";
  text += token;
  append_number_after(text, ':', fence.epoch);
  append_number_after(text, ':', fence.sequence);
}

void append_hold_word(std::string& text, const HoldTime& hold) {
  append_number_after(text += ' ', '~', static_cast<std::uint64_t>(hold.usual.count()));
  append_number_after(text, ':', static_cast<std::uint64_t>(hold.deviation.count()));
  append_number_after(text, ':', hold.releases);
}

std::chrono::milliseconds wall_clock_now() {
  return std::chrono::floor<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
}

}  // namespace memcachedlock::detail
