// What happens to locks, as events.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <functional>
#include <string_view>

#include "memcachedlock/fencing_token.hpp"
#include "memcachedlock/release.hpp"

namespace memcachedlock {

/// What happened.
enum class EventKind {
  acquired,            ///< duration: how long it was waited for
  contended,           ///< another holds it; once a wait
  given_up,            ///< not acquired; duration: how long it was waited for; give_up: why
  released,            ///< duration: how long it was held; release: how that ended
  extended,            ///< the lease was renewed
  lost,                ///< the lease ended while held
  reserved,            ///< a ZLock keeps it for its owner; duration: for how long
  conflict,            ///< the store refused a write under a ZLock
  retried,             ///< the callable of a ZLock runs again; attempt counts from 1
  unavailable,         ///< memcached did not answer, or not as a lock needs it; detail: why
  misused,             ///< unlock() of a lock that is not held; detail: which
  proceeded_unlocked,  ///< OnUnavailable::proceed let the caller go on without the lock
  restart_seen,        ///< the server restarted or was flushed; duration: how long it is guarded
  servers_differ,      ///< this client and others use different lists of servers; detail: which
  servers_moved        ///< this client locks by a new list of servers now; detail: OLD > NEW
};

/// Its name, as it stands above.
[[nodiscard]] MEMCACHEDLOCK_EXPORT std::string_view to_string(EventKind kind) noexcept;

/// Why an acquire was given up.
enum class GiveUp {
  none,         ///< it was not
  timed_out,    ///< its limit passed, or try_lock() did not get it
  cancelled,    ///< stop was requested
  unavailable,  ///< memcached did not answer, or not as a lock needs it
  lost,         ///< its owner is inside already, but that lease is lost
  entered       ///< its owner entered in another thread meanwhile, and this thread after it
};

/// Its name, as it stands above.
[[nodiscard]] MEMCACHEDLOCK_EXPORT std::string_view to_string(GiveUp reason) noexcept;

/// Which class of lock.
enum class LockType {
  lock,   ///< Lock
  rlock,  ///< RLock
  zlock   ///< ZLock
};

/// Its name, as it stands above.
[[nodiscard]] MEMCACHEDLOCK_EXPORT std::string_view to_string(LockType type) noexcept;

/// How a waiter learned that it holds a lock which another had.
enum class GrantKind {
  told,   ///< by a datagram, in time
  found,  ///< it looked
  late    ///< by a datagram, when it had found it or did not wait any more
};

/// Its name, as it stands above.
[[nodiscard]] MEMCACHEDLOCK_EXPORT std::string_view to_string(GrantKind kind) noexcept;

/// One thing that happened. The views live only during the call.
struct Event {
  EventKind kind{};         ///< what happened, and what the other members mean for it
  std::string_view key;     ///< as the user gave it; empty for restart_seen and servers_moved
  std::string_view scope;   ///< LockOptions::scope
  std::string_view server;  ///< its address
  LockType lock = LockType::lock;        ///< unset for restart_seen and servers_moved
  std::chrono::nanoseconds duration{0};  ///< 0 if no duration applies
  int attempt = 0;                       ///< of a ZLock's callable, counted from 1; else 0
  FencingToken token{};                  ///< where a lock is held
  std::string_view detail;               ///< words for people
  /// True if this wait reported `contended` before: of acquired, given_up and proceeded_unlocked.
  bool ends_contention = false;
  GiveUp give_up = GiveUp::none;        ///< of given_up
  Release release = Release::released;  ///< of released: released or unavailable
};

/// Receives every event of a client's locks in the thread in which it happens, sometimes a
/// background thread. Calls overlap: an implementation must be thread safe, and must not block.
/// What it throws is swallowed.
class MEMCACHEDLOCK_EXPORT Observer {
 public:
  virtual ~Observer();
  /// Something has happened.
  virtual void on_event(const Event& event) = 0;
  /// A request that was answered. Does nothing unless it is overridden.
  virtual void on_round_trip(std::string_view server, std::chrono::nanoseconds duration);
  /// A waiter of this process was let in. Does nothing unless it is overridden.
  virtual void on_grant(std::string_view server, GrantKind kind);
};

/// Writes one line an event, to standard error or to `sink`. Lines are never mixed.
class MEMCACHEDLOCK_EXPORT LogObserver : public Observer {
 public:
  /// To standard error.
  LogObserver();
  /// `sink` is called from several threads, with a line that ends in a newline.
  explicit LogObserver(std::function<void(std::string_view line)> sink);
  ~LogObserver() override;
  /// Writes the line.
  void on_event(const Event& event) override;

 private:
  std::function<void(std::string_view)> sink_;
};

}  // namespace memcachedlock
