// What can be chosen for a lock.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace memcachedlock {

/// Who re-enters an RLock, and for whom a ZLock keeps its reservation.
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

  /// The calling thread, if this is this_thread(); else the same.
  [[nodiscard]] OwnerId resolved() const;
  /// Shared between processes.
  [[nodiscard]] bool is_named() const noexcept { return !name_.empty(); }
  /// A word for the lock's record; "-" unless named.
  [[nodiscard]] std::string word() const;
  /// Of an owner of this process; 0 for the calling thread, and for one that is named.
  [[nodiscard]] std::uint64_t number() const noexcept { return number_; }

 private:
  std::uint64_t number_ = 0;  // 0: the calling thread, or named
  std::string name_;
};

/// What to do when memcached cannot be asked.
enum class OnUnavailable {
  fail,    ///< throw Unavailable or ServerError
  proceed  ///< run unlocked and tell the observer
};

/// Who waits, after a server's restart, until the leases given before it have ended.
enum class RestartGuard {
  known,   ///< clients that knew the server before the restart
  strict,  ///< all clients
  off      ///< nobody
};

/// The options of Lock and RLock.
struct LockOptions {
  /// Lifetime of the lease; more than 0, at most 30 days less 2 seconds.
  std::chrono::milliseconds timeout{30'000};
  /// Longest pause between two checks while waiting; more than 0, at most as long as a lease.
  /// Threads of one process wait for each other without checks.
  std::chrono::milliseconds interval{50};
  /// Keep the lease alive from a background thread while held.
  bool renew = false;
  /// Put in front of the key, to separate locks of the same key.
  std::string scope = {};
  /// Whose an RLock or ZLock is, and who may enter it again. A Lock is its object's.
  OwnerId owner = OwnerId::this_thread();
  /// For an acquire. A release or an extension tells what it came to.
  OnUnavailable on_unavailable = OnUnavailable::fail;
  /// Whether to wait after a server's restart until leases from before have ended.
  RestartGuard restart_guard = RestartGuard::known;
  /// First come, first served between processes too: who has to wait enters a queue, one place a
  /// process, and goes before all that are not fair. try_lock() never does. A waiter that died is
  /// passed over after 2 s; a holder that died, once somebody has seen its lease run out. In the
  /// queue only the next in line keeps to `interval`. Who is not fair polls, and enters the queue
  /// when it has waited for 50 ms and for 8 times as long as holders lately kept the lock, unless 4
  /// are in it.
  bool fair = false;
};

}  // namespace memcachedlock
