// The holder of a lock and its waiters; and taking it from a holder. For people that look after
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

/// What a lock's record said at one moment. Times compare the wall clock of the holder's host with
/// the local one, so they are as exact as the two clocks agree.
struct LockStatus {
  /// Key as given to inspect(); in a list as on the server: "key" or "scope^key", where either may
  /// be the SHA-256 of what was too long or not printable.
  std::string key;
  std::string item;    ///< on the server, with the prefix
  std::string server;  ///< its address
  /// While the list of servers changes: the server at which it is to be held besides; else empty.
  std::string moves_to;
  /// Kept for its owner between two attempts of a ZLock.
  bool reserved = false;
  /// The owner's name, if it was made by OwnerId::named(); else empty.
  std::string owner;
  /// One; with a named owner, one for each lock object inside.
  std::vector<Participant> holders;
  /// The queue, first come first. Threads behind the first of their process do not appear.
  std::vector<Participant> waiters;
  /// How long a lease is.
  std::chrono::milliseconds timeout{0};
  /// Until the lease ends; 0 if it has run out. Nothing if the lock was granted to a waiter that
  /// has not noticed yet.
  std::optional<std::chrono::milliseconds> lease_left;
  /// Since it was acquired; nothing if `lease_left` is nothing.
  std::optional<std::chrono::milliseconds> held_for;
  /// How long holders have lately kept it; 0 if that is not known.
  std::chrono::microseconds usual_hold{0};
  /// How many have released it since its item was made, which goes when nobody holds or waits.
  std::uint64_t releases = 0;
  /// {0, 0} if others have entered the queue since the lock was acquired: the record does not say
  /// it then.
  FencingToken token;
};

/// The lock's holder and queue; nothing when it is free. Thread safe; one `gets` of two keys.
/// Throws InvalidKey, Unavailable, ServersDiffer, and ServerError if the item is not a lock.
[[nodiscard]] MEMCACHEDLOCK_EXPORT std::optional<LockStatus> inspect(const MemcachedClient& client,
                                                                     std::string_view key,
                                                                     std::string_view scope = {});

/// All locks with the client's prefix on one of its servers, sorted by key. Lists the keys of the
/// server over a connection of its own in the text protocol (`lru_crawler metadump`,
/// memcached 1.4.31 or later; before 1.6.10 a lock may be missed that is written meanwhile), then
/// one `gets` for 32 of them. Throws ServersDiffer, Unavailable, also if the list of keys takes
/// longer than `limit`, and ServerError if the server does not list its keys, as one that asks for
/// a login.
[[nodiscard]] MEMCACHEDLOCK_EXPORT std::vector<LockStatus> list_locks(
    const MemcachedClient& client, const ServerAddress& server,
    std::chrono::milliseconds limit = std::chrono::minutes(1));

/// How an attempt to free somebody else's lock ended.
enum class Broken {
  freed,   ///< it is free, or granted to the first in its queue
  changed  ///< that holder had left it before; a later holder was left alone
};

/// Frees a lock whose holder is known to be gone or stuck. It removes the holders in `status` and
/// no others, also if they have renewed their lease since `status` was read. A holder that is alive
/// goes on working until its next renewal finds the lease lost; only a fencing token keeps it from
/// writing. Commands: a `get`, then `append` + `gets` for each holder, and a `cas` if nobody is
/// left. Throws InvalidKey if the item has another prefix than the client's, Unavailable,
/// ServerError.
MEMCACHEDLOCK_EXPORT Broken break_lock(const MemcachedClient& client, const LockStatus& status);

}  // namespace memcachedlock
