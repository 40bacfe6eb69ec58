// What workers saw, and whether it can be: the promises, checked afterwards.
#pragma once

#include <cstdint>
#include <istream>
#include <map>
#include <optional>
#include <string>
#include <vector>

/// One attempt to take a lock, and what came of it. Times are of the machine's monotonic clock, in
/// nanoseconds. What never happened is 0: a worker may be killed at any moment.
struct Attempt {
  std::string id;
  std::string key;
  std::int64_t asked = 0;
  std::int64_t limit = 0;      ///< how long it wanted to wait at most
  std::int64_t refused = 0;    ///< the wait ended without the lock
  std::int64_t acquired = 0;   ///< the wait ended with the lock
  std::string token;           ///< text form; several attempts may share one holding
  std::int64_t lease_end = 0;  ///< the latest that the holder was told
  std::int64_t lost = 0;       ///< found lost
  std::int64_t given_up = 0;   ///< the release was begun
  std::int64_t released = 0;   ///< the release had ended...
  std::string outcome;         ///< ...as "released", "lost" or "unavailable"

  /// Up to when the holder counted on being alone.
  [[nodiscard]] std::int64_t held_until() const;
  /// Up to when others may have found it held.
  [[nodiscard]] std::int64_t kept_until() const;
};

struct History {
  std::map<std::string, Attempt> attempts;  ///< by id
  /// "process key token" -> when that process's observer was notified. A process is what an id has
  /// before its first dot.
  std::multimap<std::string, std::int64_t> told_lost;
  std::vector<std::string> unreadable;  ///< lines; the last of a killed worker may be

  /// Reads the lines that a Writer wrote, of one worker.
  void read(std::istream& lines);
};

struct Verdict {
  std::vector<std::string> violations;
  std::size_t acquisitions = 0;
  std::size_t holdings = 0;
  std::size_t lost = 0;
};

/// Checks that no two leases of a key overlap, that tokens of a key rise, that no holder that was
/// notified "released" was followed by "lost", and that every wait ended within its limit and
/// `allowance`, except for workers that were killed, whose ids begin with one of `killed`.
Verdict check(const History& history, std::int64_t allowance,
              const std::vector<std::string>& killed);

/// The longest time for which nobody held a key that somebody waited for, after its first holder:
/// before, the guard against restarts may keep it closed.
struct Idle {
  std::int64_t time = 0;
  std::string id;  ///< of one that waited
};
Idle longest_idle(const History& history);
