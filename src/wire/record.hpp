// What memcached keeps of a lock: a short, versioned text.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "memcachedlock/fencing_token.hpp"

namespace memcachedlock::detail {

/// How long holders have lately kept a lock.
struct HoldTime {
  std::chrono::microseconds usual{0};      ///< 0: not known
  std::chrono::microseconds deviation{0};  ///< mean distance from `usual`; 0: not known
  static constexpr std::chrono::microseconds longest = std::chrono::hours(1);

  friend bool operator==(const HoldTime&, const HoldTime&) = default;
};

/// A holder or a waiter, as it stands in a record: `[END/]TOKEN@HOST:PID:THREAD`.
struct Member {
  std::string word;      ///< TOKEN@HOST:PID:THREAD
  std::int64_t end = 0;  ///< its lease is over at this time of the server's clock; 0: not known

  [[nodiscard]] std::string_view token() const {
    return std::string_view(word).substr(0, word.find('@'));
  }
  friend bool operator==(const Member&, const Member&) = default;
};

/// The value of a lock's item. In words:
///   mcl1 held|reserved LEASE_MS STAMP FENCE OWNER MEMBER [MEMBER ...]
/// then, for readers, since when the lock is held and how long after that the record was written;
/// if known, how long holders keep it; and the members that queue for it:
///   [+SINCE_MS:AGE_MS] [~HOLD_US:DEVIATION_US] [?MEMBER ...]
/// A newcomer to the queue appends the last word itself, by memcached's `append`.
struct Record {
  bool reserved = false;
  std::chrono::milliseconds lease{0};  ///< the longest of its members'
  std::string stamp;                   ///< new for each write, so that a writer recognises its own
  FencingToken fence{};         ///< {0, 0}: the item's CAS id, which the first writer can't know
  std::string owner = "-";      ///< a named owner's word; "-" where one process owns it
  std::vector<Member> holders;  ///< who holds it; several for a named owner only
  std::chrono::milliseconds since{
      0};  ///< held, by its holder's wall clock, from 1970; 0: not known
  std::chrono::milliseconds written{0};  ///< lease start, by that clock
  HoldTime hold;
  std::vector<Member> waiters;  ///< the queue, in the order in which they came

  [[nodiscard]] std::string encode() const;
  /// encode() into `text`, reusing its memory.
  void encode_into(std::string& text) const;
  /// Nothing when the text is no record of ours.
  [[nodiscard]] static std::optional<Record> parse(std::string_view text);

  [[nodiscard]] bool holds(std::string_view token) const;
  /// `label` is that of the thread that will hold it (thread_label()).
  void add_holder(std::string_view token, std::string_view label);
  /// Replaces all holders by this one.
  void set_holder(std::string_view token, std::string_view label);
  void remove_holder(std::string_view token);
  /// No effect if it is no holder.
  void set_end(std::string_view token, std::int64_t end);
  /// Whether the lease of one of them is over at `time` of the server's clock.
  [[nodiscard]] bool has_dead(std::int64_t time) const;
  void remove_dead(std::int64_t time);

  /// A queue member to append, with its leading space.
  [[nodiscard]] static std::string waiter_word(std::string_view token, std::string_view label);
  /// How many waiters precede it in the queue; nullopt if absent.
  [[nodiscard]] std::optional<std::size_t> queue_position(std::string_view token) const;
  /// Whether it holds the lock or is in the queue.
  [[nodiscard]] bool includes(std::string_view token) const {
    return holds(token) || queue_position(token).has_value();
  }
  void remove_waiter(std::string_view token);
  /// The first of the queue becomes the holder, for a lease of `grace`, in which it must rewrite
  /// the record.
  void grant_to_first(std::chrono::milliseconds grace);
  /// A lease begins now; if `since` is 0, so does the hold.
  void stamp_times();
};

}  // namespace memcachedlock::detail
