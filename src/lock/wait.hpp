// What one acquire remembers from one request to the next.
#pragma once

#include <functional>
#include <optional>

#include "lock/candidate.hpp"
#include "memcachedlock/lock.hpp"
#include "waiting/local_queue.hpp"
#include "waiting/pace.hpp"

namespace memcachedlock {

namespace detail {

/// Who waits.
enum class WayToWait {
  once,       // nobody: one request
  thread,     // the thread that asks
  background  // no thread: async_acquire.cpp
};

}  // namespace detail

/// How to go on with an acquire: ask, or with what came while it stood in line.
struct BasicLock::Attempt {
  detail::LocalQueue::Woken woken = std::monostate();
};

struct BasicLock::Wait {
  using Way = detail::WayToWait;

  Wait(BasicLock& lock, Way how)
      : way(how),
        owner(lock.owner_of(how)),
        by_owner(lock.reenters()),
        owner_moves(by_owner && way == Way::background),
        waits(way != Way::once),
        lines_up(waits && (!by_owner || lock.spec_->options.owner == OwnerId::this_thread() ||
                           (owner_moves && !owner.is_named()))),
        candidate(lock.spec_, by_owner ? owner : OwnerId::this_thread()),
        pauses(lock.spec_->options) {}

  const Way way;
  const OwnerId owner;
  const bool by_owner;
  /// Its owner may get in by another thread while it stands in line.
  const bool owner_moves;
  const bool waits;
  /// In the queue of this process's threads. Not an owner that other threads or processes share:
  /// it may get in where those before it can't.
  const bool lines_up;
  const detail::Clock::time_point started = detail::Clock::now();
  detail::Candidate candidate;
  detail::Pauses pauses;
  std::function<void()> wake;  // when its place in line may have changed
  std::optional<detail::LocalQueue::Place> place;
  detail::Clock::time_point again{};  // when to ask next
  bool asked = false;                 // memcached, in the last attempt
  bool told_contended = false;
};

}  // namespace memcachedlock
