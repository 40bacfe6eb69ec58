#include "wire/record.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>

#include "wire/words.hpp"

namespace memcachedlock::detail {

namespace {

constexpr std::string_view record_version = "mcl1";

void append_number(std::string& text, std::uint64_t number) {
  std::array<char, 20> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  text.append(digits.data(), end);
}

void write_member(std::string& word, std::string_view token, std::string_view label) {
  word.clear();
  word.reserve(token.size() + 1 + label.size());
  word += token;
  word += '@';
  word += label;
}

std::string member_word(std::string_view token, std::string_view label) {
  std::string word;
  write_member(word, token, label);
  return word;
}

/// "A:B", neither more than `most`, A not 0.
std::optional<std::pair<std::uint64_t, std::uint64_t>> two_numbers(std::string_view word,
                                                                   std::uint64_t most) {
  const auto colon = word.find(':');
  if (colon == std::string_view::npos) return {};
  std::string_view first_text = word.substr(0, colon);
  std::string_view second_text = word.substr(colon + 1);
  const auto first = next_number(first_text);
  const auto second = next_number(second_text);
  if (!first || !second || *first == 0 || *first > most || *second > most) return {};
  return std::pair(*first, *second);
}

/// "SINCE:AGE"
bool parse_times(std::string_view word, Record& record) {
  constexpr std::uint64_t latest = 1ULL << 50U;  // ms: beyond the year 30000
  const auto times = two_numbers(word, latest);
  if (!times || record.since.count() != 0) return false;
  record.since = std::chrono::milliseconds(times->first);
  record.written = record.since + std::chrono::milliseconds(times->second);
  return true;
}

/// "USUAL:DEVIATION"
bool parse_hold(std::string_view word, Record& record) {
  const auto hold = two_numbers(word, static_cast<std::uint64_t>(HoldTime::longest.count()));
  if (!hold || record.hold.usual.count() != 0) return false;
  record.hold.usual = std::chrono::microseconds(hold->first);
  record.hold.deviation = std::chrono::microseconds(hold->second);
  return true;
}

/// "EPOCH:SEQUENCE", or "0" where it is not known.
std::optional<FencingToken> parse_fence(std::string_view word) {
  if (word == "0") return FencingToken{};
  const auto fence = two_numbers(word, std::numeric_limits<std::uint64_t>::max());
  if (!fence) return {};
  return FencingToken{fence->first, fence->second};
}

/// "[END/]TOKEN@PLACE"
std::optional<Member> parse_member(std::string_view word) {
  Member member;
  const auto slash = word.substr(0, word.find('@')).find('/');
  if (slash != std::string_view::npos) {
    std::string_view number_text = word.substr(0, slash);
    const auto number = next_number(number_text);
    if (!number || *number == 0 || *number > latest_second) return {};
    member.end = static_cast<std::int64_t>(*number);
    word.remove_prefix(slash + 1);
  }
  if (word.empty()) return {};
  member.word = word;
  return member;
}

void append_member(std::string& text, const Member& member) {
  if (member.end != 0) {
    append_number(text, static_cast<std::uint64_t>(member.end));
    text += '/';
  }
  text += member.word;
}

auto find_token(const std::vector<Member>& members, std::string_view token) {
  return std::find_if(members.begin(), members.end(),
                      [&](const Member& member) { return member.token() == token; });
}

bool is_dead(const Member& member, std::int64_t time) {
  return member.end != 0 && member.end <= time;
}

}  // namespace

std::string Record::encode() const {
  std::string text;
  encode_into(text);
  return text;
}

void Record::encode_into(std::string& text) const {
  constexpr std::size_t usual = 160;
  text.clear();
  text.reserve(usual + 64 * waiters.size());
  text += record_version;
  text += reserved ? " reserved " : " held ";
  append_number(text, static_cast<std::uint64_t>(lease.count()));
  text += ' ';
  text += stamp;
  text += ' ';
  append_number(text, fence.epoch);
  if (fence) {
    text += ':';
    append_number(text, fence.sequence);
  }
  text += ' ';
  text += owner;
  for (const Member& member : holders) {
    text += ' ';
    append_member(text, member);
  }
  if (since.count() > 0) {
    text += " +";
    append_number(text, static_cast<std::uint64_t>(since.count()));
    text += ':';
    append_number(text, static_cast<std::uint64_t>((written - since).count()));
  }
  if (hold.usual.count() > 0) {
    text += " ~";
    append_number(text, static_cast<std::uint64_t>(hold.usual.count()));
    text += ':';
    append_number(text, static_cast<std::uint64_t>(hold.deviation.count()));
  }
  for (const Member& waiter : waiters) {
    text += " ?";
    append_member(text, waiter);
  }
}

std::optional<Record> Record::parse(std::string_view text) {
  if (next_word(text) != record_version) return {};
  const std::string_view state = next_word(text);
  if (state != "held" && state != "reserved") return {};
  const auto lease = next_lease(text);
  const std::string_view stamp = next_word(text);
  const auto fence = parse_fence(next_word(text));
  const std::string_view owner = next_word(text);
  if (!lease || stamp.empty() || !fence || owner.empty() || text.empty()) return {};
  Record record;
  record.reserved = state == "reserved";
  record.lease = *lease;
  record.stamp = stamp;
  record.fence = *fence;
  record.owner = owner;
  while (!text.empty()) {
    std::string_view word = next_word(text);
    if (word.empty()) return {};
    const char kind = word.front();
    if (kind == '+' || kind == '~' || kind == '?') word.remove_prefix(1);
    if (kind == '+') {
      if (!parse_times(word, record)) return {};
    } else if (kind == '~') {
      if (!parse_hold(word, record)) return {};
    } else {
      auto member = parse_member(word);
      if (!member) return {};
      (kind == '?' ? record.waiters : record.holders).push_back(*std::move(member));
    }
  }
  if (record.holders.empty()) return {};
  return record;
}

bool Record::holds(std::string_view token) const {
  return find_token(holders, token) != holders.end();
}

void Record::add_holder(std::string_view token, std::string_view label) {
  holders.push_back({member_word(token, label)});
}

void Record::set_holder(std::string_view token, std::string_view label) {
  holders.resize(1);
  Member& only = holders.front();
  only.end = 0;
  write_member(only.word, token, label);
}

void Record::remove_holder(std::string_view token) {
  std::erase_if(holders, [&](const Member& member) { return member.token() == token; });
}

void Record::set_end(std::string_view token, std::int64_t end) {
  for (Member& member : holders) {
    if (member.token() == token) member.end = end;
  }
}

bool Record::has_dead(std::int64_t time) const {
  return std::any_of(holders.begin(), holders.end(),
                     [&](const Member& member) { return is_dead(member, time); });
}

void Record::remove_dead(std::int64_t time) {
  std::erase_if(holders, [&](const Member& member) { return is_dead(member, time); });
}

std::string Record::waiter_word(std::string_view token, std::string_view label) {
  std::string word = " ?";
  word += member_word(token, label);
  return word;
}

std::optional<std::size_t> Record::queue_position(std::string_view token) const {
  const auto found = find_token(waiters, token);
  if (found == waiters.end()) return {};
  return static_cast<std::size_t>(found - waiters.begin());
}

void Record::remove_waiter(std::string_view token) {
  std::erase_if(waiters, [&](const Member& waiter) { return waiter.token() == token; });
}

void Record::grant_to_first(std::chrono::milliseconds grace) {
  reserved = false;
  lease = grace;
  fence = {};
  owner.assign(1, '-');  // g++ 12 warns of an assignment of the text
  holders.assign(1, waiters.front());
  std::erase(waiters, holders.front());  // it may have come twice, by a request that was repeated
  since = written = std::chrono::milliseconds(0);
}

void Record::stamp_times() {
  using std::chrono::milliseconds;
  const auto now = std::chrono::floor<milliseconds>(std::chrono::system_clock::now());
  written = now.time_since_epoch();
  if (since.count() == 0) since = written;
  written = std::max(written, since);  // that clock may have been set back
}

}  // namespace memcachedlock::detail
