// Who holds a lock and who waits for it; and taking it from a holder. For people who look after
// services, and tools of theirs: a program that wants a lock has lock.hpp.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "memcachedlock/client.hpp"
#include "memcachedlock/fencing_token.hpp"

namespace memcachedlock {

/// A thread that holds a lock, or waits for it.
struct Participant {
  std::string token;  ///< of its acquisition; no two share it
  std::string host;   ///< as gethostname() tells
  int pid = 0;        ///< of the process, on that host
  int thread = 0;  ///< the system's number, as gettid() tells; of the one that asked for the lock

  /// Whether they are the same acquisition.
  friend bool operator==(const Participant&, const Participant&) = default;
};

/// What a lock's record said at one moment. Times are of the wall clock of the holder's host,
/// compared with ours, so they are as good as the two agree.
struct LockStatus {
  /// Key as given to inspect(); in a list as on the server: "key" or "scope^key", where either may
  /// be the SHA-256 of what was too long or not printable.
  std::string key;
  std::string item;    ///< on the server, with the prefix
  std::string server;  ///< its address
  /// Kept for its owner between two attempts of a ZLock.
  bool reserved = false;
  /// The name, where OwnerId::named() owns it; else empty.
  std::string owner;
  /// One, but for a named owner: then one for each hold.
  std::vector<Participant> holders;
  /// The queue (see LockOptions::fair), first come first. Others that wait are not known.
  std::vector<Participant> waiters;
  /// How long a lease is.
  std::chrono::milliseconds timeout{0};
  /// Of the lease; 0 when it has run out. Nothing where it was handed to a waiter that has not
  /// taken it up yet.
  std::optional<std::chrono::milliseconds> lease_left;
  /// Since it was acquired; nothing as above.
  std::optional<std::chrono::milliseconds> held_for;
  /// How long holders have lately kept it; 0 where nobody knows.
  std::chrono::microseconds usual_hold{0};
  /// {0, 0} where the record does not tell, as others have entered the queue since. One that left
  /// the queue again may make it appear higher than the holder's own.
  FencingToken token;
};

/// The lock's holder and queue; nothing when it is free. Thread safe; one `gets` of two keys.
/// Throws InvalidKey, Unavailable, and ServerError where something else uses the name.
[[nodiscard]] MEMCACHEDLOCK_EXPORT std::optional<LockStatus> inspect(const MemcachedClient& client,
                                                                     std::string_view key,
                                                                     std::string_view scope = {});

/// All locks with the client's prefix on one of its servers, sorted by key. Lists the keys of the
/// server over a connection of its own in the text protocol (`lru_crawler metadump`,
/// memcached 1.4.31 or later; before 1.6.10 a lock may be missed that is written meanwhile), then
/// one `gets` for 31 of them. The list of keys takes at most `limit`: then Unavailable is thrown,
/// as is known of no lock whether it was the last. Throws Unavailable, and ServerError where the
/// server does not list its keys: one that asks for a login does not.
[[nodiscard]] MEMCACHEDLOCK_EXPORT std::vector<LockStatus> list_locks(
    const MemcachedClient& client, const ServerAddress& server,
    std::chrono::milliseconds limit = std::chrono::minutes(1));

/// How an attempt to free somebody else's lock ended.
enum class Broken {
  freed,   ///< it is free, or granted to the first in its queue
  changed  ///< that holder had left it before; whoever holds it now was left alone
};

/// Frees a lock whose holder is known to be gone or stuck. Compare-and-delete of just the holders
/// in `status`: one that renewed its lease meanwhile is still the same. A holder that is alive goes
/// on working until its next renewal finds the lease lost; only a fencing token keeps it from
/// writing. Commands: a `gets`, and a `cas` for each hold. Throws Unavailable, ServerError.
MEMCACHEDLOCK_EXPORT Broken break_lock(const MemcachedClient& client, const LockStatus& status);

}  // namespace memcachedlock
