// Lock: mutual exclusion between processes; and what Lock, RLock and ZLock have in common.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stop_token>
#include <string_view>
#include <utility>

#include "memcachedlock/client.hpp"
#include "memcachedlock/detail/hold.hpp"
#include "memcachedlock/detail/wait_limit.hpp"
#include "memcachedlock/fencing_token.hpp"
#include "memcachedlock/key.hpp"
#include "memcachedlock/lease.hpp"
#include "memcachedlock/options.hpp"
#include "memcachedlock/release.hpp"

namespace memcachedlock {

namespace detail {
class AsyncAcquire;
class AsyncRelease;
struct SharedFailure;
}  // namespace detail

/// The members of all three locks: the standard's *TimedLockable*, so that std::unique_lock,
/// std::lock_guard and std::scoped_lock work, and what a lease adds to it.
///
///  state       | how it gets there                   | owns_lock | lock()           | release()
///  ------------|-------------------------------------|-----------|------------------|------------
///  free        | made, or released                   | false     | waits, then held | throws
///  held        | lock(), try_lock...()               | true      | throws (1)       | released
///  lost        | the lease ran out, or was taken     | false     | throws (1)       | lost
///  unprotected | memcached gone, with `proceed`      | false     | throws (1)       | unavailable
///
///  (1) std::system_error, resource_deadlock_would_occur; an RLock or ZLock enters again instead,
///      and throws LeaseLost in the state lost.
///
/// @dotfile states.dot "The states of a lock"
///
/// @dotfile acquire.dot "The acquire path"
///
/// A lease lost stays lost until it is released. An object is used by one thread at a time; making
/// or moving one costs no request. In a child after fork nothing is held.
///
/// Commands: an acquire is `add` + `gets` of two keys in one round trip; a named owner adds
/// `append` + `gets`. Before, the first use of a server reads its epoch, and each new connection,
/// then the client every 20 s, the server's clock (`stats`). A release is one `cas`, an extension
/// `cas` + `gets` in one round trip; with others in the lock's record, both are `append` + `gets`.
/// If a thread of this process holds the lock, it usually hands it over by `cas` or `append`, and
/// `gets`; the first that waits looks after 50 ms all the same, then every `interval`. Who waits
/// for another process enters the queue in the lock's record by `append` + `gets`, and is told by a
/// datagram when it holds the lock (ClientOptions::notify). Its lease has its full length once that
/// is confirmed, by `append` + `gets` in the background; until then remaining() shows at most 2 s.
/// It looks now and then all the same, by one `gets`, and about twice for each `timeout` it says
/// that it waits on, by `append` + `gets`; now and then `cas` + `gets`, so that the item lasts and
/// stays short.
class MEMCACHEDLOCK_EXPORT BasicLock {
 public:
  /// Waits until the lock is held; each failed check costs one round trip. Throws Unavailable or
  /// ServerError (unless OnUnavailable::proceed), std::system_error when already held.
  void lock() &;
  /// lock(), which throws Cancelled once `stop` is requested.
  void lock(const std::stop_token& stop) &;
  /// A temporary would release it at once.
  void lock() && = delete;
  void lock(const std::stop_token&) && = delete;
  /// Asks once. False: another holds it, or the restart guard is closed. Throws as lock().
  [[nodiscard]] bool try_lock();
  /// Waits at most `limit`; a request already in flight may end later. Zero, less, and NaN ask
  /// once, more than a year is no limit. Throws as lock().
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& limit);
  /// try_lock_for() for the time left, computed once, at the call; setting that clock
  /// later changes nothing.
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<Clock, Duration>& deadline);

  /// Releases, and never throws: what went wrong reaches the observer.
  void unlock() noexcept;
  /// Frees the lock, if it is still ours. Throws std::system_error (operation_not_permitted) when
  /// nothing is held.
  [[nodiscard]] Release release();
  /// Begins a new lease of this holding: as long as its last one, or as LockOptions::timeout of
  /// this object if that is longer. False if the lock is lost. Throws Unavailable, with the old
  /// lease still running, and std::system_error when nothing is held.
  [[nodiscard]] bool extend();

  /// Held, and by a clock that runs while the machine sleeps, the lease has not run out.
  [[nodiscard]] bool owns_lock() const;
  /// Until the lease runs out; 0 when it is not held.
  [[nodiscard]] std::chrono::milliseconds remaining() const;
  /// Rises for each holder of the key. {0, 0} when no lock is held; a lost lock still shows its
  /// own.
  [[nodiscard]] FencingToken fencing_token() const;
  /// Stop is requested once the lease is known to be lost: an eighth of the lease, at most 500 ms,
  /// before it ends without having been renewed. If the item was evicted, flushed or broken before,
  /// that is known only when the next request finds it. Callbacks run in the thread that learns of
  /// it and must be quick. They may use a copy of lease(), not the lock, which is one thread's.
  [[nodiscard]] std::stop_token lost() const;
  /// Gives the four values above to the code under the lock.
  [[nodiscard]] Lease lease() const;

 protected:
  /// Throws InvalidKey, InvalidOption.
  BasicLock(const MemcachedClient& client, std::string_view key, LockOptions options,
            LockType type);
  /// Releases what is held: in the background if it was acquired by asio.hpp.
  ~BasicLock();
  /// Takes over what is held; `other` is free afterwards.
  BasicLock(BasicLock&& other) noexcept;
  /// Releases what is held before.
  BasicLock& operator=(BasicLock&& other) noexcept;

  /// Reserves the lock for its owner for `time`; this object is then free.
  void reserve(std::chrono::milliseconds time);
  /// Notifies the client's observer, if it has one.
  void notify(EventKind kind, int attempt = 0, std::string_view detail = {}) const noexcept;

 private:
  friend class detail::AsyncAcquire;
  friend class detail::AsyncRelease;

  /// Nothing: without limit.
  using Limit = std::optional<std::chrono::nanoseconds>;
  bool acquire(Limit limit, const std::stop_token& stop);
  MEMCACHEDLOCK_HIDDEN void refresh();
  MEMCACHEDLOCK_HIDDEN Release leave(std::optional<std::chrono::milliseconds> reservation,
                                     const detail::SharedFailure* failure = nullptr);
  MEMCACHEDLOCK_HIDDEN void leave_for_good() noexcept;

  std::shared_ptr<const detail::LockSpec> spec_;
  detail::Hold hold_;
};

/// One holder at a time, and not twice in the same thread either.
class MEMCACHEDLOCK_EXPORT Lock : public BasicLock {
 public:
  /// Makes no request. Throws InvalidKey, InvalidOption.
  [[nodiscard]] Lock(const MemcachedClient& client, std::string_view key, LockOptions options = {})
      : BasicLock(client, key, std::move(options), LockType::lock) {}
  /// nullptr is no key.
  Lock(const MemcachedClient&, std::nullptr_t, LockOptions = {}) = delete;
};

template <class Rep, class Period>
bool BasicLock::try_lock_for(const std::chrono::duration<Rep, Period>& limit) {
  return acquire(detail::wait_limit(limit), {});
}

template <class Clock, class Duration>
bool BasicLock::try_lock_until(const std::chrono::time_point<Clock, Duration>& deadline) {
  return acquire(detail::wait_limit(deadline), {});
}

}  // namespace memcachedlock
