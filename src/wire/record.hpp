// What memcached keeps of a lock: a log of short words, in the order in which they came.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "memcachedlock/fencing_token.hpp"

namespace memcachedlock::detail {

/// How long holders have lately kept a lock, and how many have released it.
struct HoldTime {
  std::chrono::microseconds usual{0};      ///< 0: not known
  std::chrono::microseconds deviation{0};  ///< mean distance from `usual`; 0: not known
  std::uint64_t releases = 0;              ///< since the item was made
  static constexpr std::chrono::microseconds longest = std::chrono::hours(1);

  friend bool operator==(const HoldTime&, const HoldTime&) = default;
};

/// A holder or a waiter: `TOKEN:x:LEASE_MS:END:COUNT:SINCE_MS:TOLD_AT:OWNER@HOST:PID:THREAD`. The
/// `x`, for an exclusive lock, is the only mode so far.
struct Entry {
  std::string token;
  std::chrono::milliseconds lease{0};
  /// Its lease, or its wait, is over when the server's clock shows this; seconds, 0: not known.
  std::int64_t end = 0;
  std::uint64_t count = 0;             ///< rises with each word that gives it a lease anew
  std::chrono::milliseconds since{0};  ///< it came, by its wall clock, from 1970; 0: not known
  std::string told_at = "-";           ///< see Mailbox::address()
  std::string place;                   ///< OWNER@HOST:PID:THREAD; OWNER is `-` or a name's word
  /// Whether `end` is that of a lease: it came when nobody was before it, or has confirmed.
  bool confirmed = false;
  bool reserved = false;  ///< kept for its owner, but nobody works under it
  FencingToken fence{};   ///< a named owner's, for its members; else {0, 0}, or for inspect()

  [[nodiscard]] std::string_view owner() const {
    return std::string_view(place).substr(0, place.find('@'));
  }
  /// HOST:PID:THREAD
  [[nodiscard]] std::string_view label() const;
  [[nodiscard]] bool has_ended(std::int64_t time) const { return end != 0 && end <= time; }
  friend bool operator==(const Entry&, const Entry&) = default;
};

/// What the words of a lock's item amount to:
///   mcl2 EXPIRY WORD [WORD ...]
///   ?ENTRY            came: holds from here on if nobody is before it, else waits
///   +ENTRY            as rewritten: its END is that of a lease
///   *ENTRY            as rewritten: waits, or was let in and has not confirmed
///   =TOKEN:END        its lease begins anew, by a renewal or a confirmation
///   >TOKEN:ENTRY      a holder without a named owner has handed over to ENTRY, in its place
///   -TOKEN            has left
///   !TOKEN:COUNT      taken out, if its COUNT is still this
///   %TOKEN:COUNT:END  reserved for its owner, if its COUNT is still this
///   #TOKEN:FENCE      the fencing token, for members of its owner
///   ~HOLD_US:DEVIATION_US:RELEASES
/// A word about a token that is not there changes nothing. Words are added by memcached's `append`,
/// so they never conflict; all who read one log agree on its holder. `cas` replaces a log by a
/// shorter one of the same meaning.
struct Record {
  static constexpr std::size_t max_dead_words = 40;

  std::int64_t expiry = 0;  ///< of the item, by the server's clock; 0: not known
  /// Holders first, then waiters, in their order. Members of one named owner stand together.
  std::vector<Entry> entries;
  HoldTime hold;
  std::size_t words = 0;  ///< of the text it was parsed from

  /// The log of these entries, as short as it can be.
  [[nodiscard]] std::string encode() const;
  /// encode() into `text`, reusing its memory.
  void encode_into(std::string& text) const;
  /// Nothing when the text is no record of ours.
  [[nodiscard]] static std::optional<Record> parse(std::string_view text);
  /// Whether it is meant to be one, though it may be none that this library writes.
  [[nodiscard]] static bool is_of_this_version(std::string_view text);
  /// Whether it is a record as another version of this library writes it.
  [[nodiscard]] static bool is_of_another_version(std::string_view text);
  /// Whether the token was still there just before its first `-TOKEN` in this text. Nothing if that
  /// word is not in the text (any more).
  [[nodiscard]] static std::optional<bool> left(std::string_view text, std::string_view token);

  /// How many of the entries hold the lock: one, or the members of its named owner.
  [[nodiscard]] std::size_t holders() const;
  /// Null if it is not there.
  [[nodiscard]] const Entry* find(std::string_view token) const;
  [[nodiscard]] Entry* find(std::string_view token);
  [[nodiscard]] bool includes(std::string_view token) const { return find(token) != nullptr; }
  [[nodiscard]] bool holds(std::string_view token) const;
  /// How many waiters precede it in the queue; nothing if it is not a waiter.
  [[nodiscard]] std::optional<std::size_t> queue_position(std::string_view token) const;
  [[nodiscard]] std::size_t waiters() const { return entries.size() - holders(); }
  /// How many words the log has more than it needs.
  [[nodiscard]] std::size_t dead_words() const {
    return words > entries.size() ? words - entries.size() : 0;
  }
  /// Whether it is time to write it anew, for whoever reads it and may write.
  [[nodiscard]] bool is_long() const {
    return dead_words() > std::max(max_dead_words, entries.size() / 4);
  }
  void remove(std::string_view token);
  /// Reads one more word; `is_ours` becomes false if it is none that this library writes.
  void apply(std::string_view word, bool& is_ours);
};

/// The words, with their leading space, to be appended to a log.
void append_entry_word(std::string& text, const Entry& entry);  ///< ?ENTRY
void append_handoff_word(std::string& text, std::string_view token, const Entry& next);
void append_lease_word(std::string& text, std::string_view token, std::int64_t end);
void append_leave_word(std::string& text, std::string_view token);
void append_removal_word(std::string& text, std::string_view token, std::uint64_t count);
void append_reserve_word(std::string& text, std::string_view token, std::uint64_t count,
                         std::int64_t end);
void append_fence_word(std::string& text, std::string_view token, const FencingToken& fence);
void append_hold_word(std::string& text, const HoldTime& hold);

/// By the wall clock, from 1970.
[[nodiscard]] std::chrono::milliseconds wall_clock_now();

}  // namespace memcachedlock::detail
