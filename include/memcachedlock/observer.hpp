// What happens to locks, as events.
#pragma once

#include <chrono>
#include <functional>
#include <string_view>

#include "memcachedlock/detail/export.hpp"
#include "memcachedlock/lease.hpp"

namespace memcachedlock {

enum class EventKind {
  acquired,            ///< duration: how long it was waited for
  contended,           ///< another holds it; once a wait
  given_up,            ///< not acquired; duration: how long it was waited for; detail: timed_out,
                       ///< cancelled, unavailable, lost, or entered, where its owner got in by
                       ///< another thread meanwhile and this one entered after it
  released,            ///< duration: how long it was held; detail: unavailable, where memcached did
                       ///< not answer
  extended,            ///< the lease was renewed
  lost,                ///< the lease ended while held
  reserved,            ///< a ZLock keeps it for its owner; duration: for how long
  conflict,            ///< the store refused a write under a ZLock
  retried,             ///< the callable of a ZLock runs again; attempt counts from 1
  unavailable,         ///< memcached could not be asked; detail: why
  proceeded_unlocked,  ///< OnUnavailable::proceed let the caller go on without the lock
  restart_seen         ///< the server restarted or was flushed; duration: how long it is guarded
};

[[nodiscard]] MEMCACHEDLOCK_EXPORT std::string_view to_string(EventKind kind) noexcept;

enum class LockType { lock, rlock, zlock };

[[nodiscard]] MEMCACHEDLOCK_EXPORT std::string_view to_string(LockType type) noexcept;

/// One thing that happened. The views live only during the call.
struct Event {
  EventKind kind{};
  std::string_view key;  ///< as the user gave it; empty for restart_seen
  std::string_view scope;
  std::string_view server;
  LockType lock = LockType::lock;  ///< but for restart_seen, which is of the whole server
  std::chrono::nanoseconds duration{0};
  int attempt = 0;
  FencingToken token{};
  std::string_view detail;
  /// Ends a wait of which `contended` has told: acquired, given_up or proceeded_unlocked.
  bool ends_contention = false;
};

/// Is told of every event of a client's locks. Called from the thread in which it happens, also
/// from the background thread, often at once from several: an implementation must be thread safe
/// and quick. What it throws is swallowed.
class MEMCACHEDLOCK_EXPORT Observer {
 public:
  virtual ~Observer();
  virtual void on_event(const Event& event) = 0;
  /// A request that was answered. Does nothing unless it is overridden.
  virtual void on_round_trip(std::string_view server, std::chrono::nanoseconds duration);
};

/// Writes one line an event, to standard error or to `sink`. Lines are never mixed.
class MEMCACHEDLOCK_EXPORT LogObserver : public Observer {
 public:
  LogObserver();
  explicit LogObserver(std::function<void(std::string_view line)> sink);
  ~LogObserver() override;
  void on_event(const Event& event) override;

 private:
  std::function<void(std::string_view)> sink_;
};

}  // namespace memcachedlock
