// What one lock object holds.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <memory>

#include "memcachedlock/options.hpp"
#include "memcachedlock/release.hpp"

namespace memcachedlock::detail {

class Holding;
struct LockSpec;

/// Moved as a whole. Free: depth is 0. Used by one thread at a time.
struct MEMCACHEDLOCK_EXPORT Hold {
  unsigned depth = 0;        ///< how often the object was locked; more than 1 for RLock, ZLock only
  unsigned unprotected = 0;  ///< how many of these, the last ones, without the lock
  unsigned generation = 0;   ///< the process that locked it
  bool on_loop = false;      ///< acquired for an event loop, which must not wait for a release
  OwnerId owner;             ///< who locked it
  OwnerId loop_owner;        ///< of acquires for event loops, once there was one
  std::shared_ptr<Holding> holding;

  /// Held by the parent, before the fork that made this process.
  [[nodiscard]] MEMCACHEDLOCK_HIDDEN bool is_inherited() const noexcept;
  /// Before an acquire: true when it enters again what runs without a lock. Throws
  /// std::system_error where a Lock is held already.
  [[nodiscard]] MEMCACHEDLOCK_HIDDEN bool enter_unprotected(const LockSpec& spec);
  /// The owner of an acquire. A coroutine has no thread, so without a name the lock object itself
  /// is the owner of what an event loop acquires.
  [[nodiscard]] MEMCACHEDLOCK_HIDDEN OwnerId owner_for(const LockSpec& spec, bool for_loop);
  /// One level deeper: with the lock, or without it.
  MEMCACHEDLOCK_HIDDEN void take(std::shared_ptr<Holding> entered, OwnerId by, bool for_loop);
  MEMCACHEDLOCK_HIDDEN void take_unprotected(const OwnerId& by);
  /// Throws std::system_error where nothing is held.
  MEMCACHEDLOCK_HIDDEN void require(const LockSpec& spec) const;
  /// One level less. The holding, if that was the last level of all objects in which its owner is:
  /// the caller releases it, or with `keep` reserves it. Else `outcome` is set. Throws as
  /// require().
  [[nodiscard]] MEMCACHEDLOCK_HIDDEN std::shared_ptr<Holding> leave(const LockSpec& spec, bool keep,
                                                                    Release& outcome);
  /// Free, whatever it was.
  MEMCACHEDLOCK_HIDDEN void clear() noexcept;
};

}  // namespace memcachedlock::detail
