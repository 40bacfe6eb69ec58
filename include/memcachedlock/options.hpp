// What can be chosen for a lock.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace memcachedlock {

/// The owner that re-enters an RLock, and for which a ZLock keeps its reservation.
class MEMCACHEDLOCK_EXPORT OwnerId {
 public:
  /// Whichever thread calls lock(): resolved at that moment, so options can be shared by threads.
  [[nodiscard]] static OwnerId this_thread();
  /// A fresh owner of this process: a request, a transaction or a coroutine that changes threads.
  [[nodiscard]] static OwnerId unique();
  /// Shared by every process that uses the same text. Throws InvalidOption when it is empty.
  [[nodiscard]] static OwnerId named(std::string_view text);

  /// Whether both are the same owner; this_thread() is only itself until it is resolved().
  friend bool operator==(const OwnerId&, const OwnerId&) = default;

  /// The calling thread if this is this_thread(); else a copy.
  [[nodiscard]] OwnerId resolved() const;
  /// Shared between processes.
  [[nodiscard]] bool is_named() const noexcept { return !name_.empty(); }
  /// A word for the lock's record; "-" unless named.
  [[nodiscard]] std::string word() const;
  /// The number of an owner of this process; 0 for this_thread() and named().
  [[nodiscard]] std::uint64_t number() const noexcept { return number_; }

 private:
  std::uint64_t number_ = 0;  // 0: the calling thread, or named
  std::string name_;
};

/// What to do when memcached cannot be asked.
enum class OnUnavailable {
  fail,    ///< throw Unavailable or ServerError
  proceed  ///< run unlocked and notify the observer
};

/// Which clients wait, after a server's restart, until the leases given before it have ended.
enum class RestartGuard {
  known,   ///< clients that knew the server before the restart
  strict,  ///< all clients
  off      ///< none
};

/// The options of Lock and RLock. Who waits is served first come, first served, between processes
/// too: a waiter enters the queue in the lock's record, one for all threads of a process that stand
/// in line; these hand the lock on to each other a few times before others have it. try_lock()
/// never enters. A waiter that died is passed over after 2 s, and 2 s later where many wait; a
/// holder that died when the server's clock shows that its lease is over, which may be 4 s later.
struct LockOptions {
  /// Lifetime of the lease; more than 0, at most 30 days less 2 seconds. One that had to wait and
  /// was told that it holds the lock has 2 seconds at most until that is confirmed, in the
  /// background, 50 ms later.
  std::chrono::milliseconds timeout{30'000};
  /// Longest pause between two looks at the lock of the next in its queue, where it can't be told
  /// (ClientOptions::notify); more than 0, at most 30 days less 2 seconds. Other pauses last up to
  /// a second. Of the threads of a process in one line, only the first looks.
  std::chrono::milliseconds interval{50};
  /// Keep the lease alive from a background thread while held.
  bool renew = false;
  /// Put in front of the key, to separate locks of the same key.
  std::string scope = {};
  /// The owner that may enter an RLock or ZLock again. Lock ignores it.
  OwnerId owner = OwnerId::this_thread();
  /// Applies to acquiring only; release() and extend() report failures themselves.
  OnUnavailable on_unavailable = OnUnavailable::fail;
  /// Whether to wait after a server's restart until leases from before have ended.
  RestartGuard restart_guard = RestartGuard::known;
};

}  // namespace memcachedlock
