// What one acquire remembers from one request to the next.
#pragma once

#include <chrono>
#include <functional>
#include <optional>

#include "candidate.hpp"
#include "local_queue.hpp"
#include "memcachedlock/lock.hpp"
#include "pace.hpp"

namespace memcachedlock {

struct BasicLock::Wait {
  /// Who waits.
  enum class Way {
    once,       // nobody: one request
    thread,     // the thread that asks
    background  // no thread: async_acquire.cpp
  };

  Wait(const BasicLock& lock, Way way)
      : owner(lock.depth_ == 0 ? lock.options_.owner.resolved() : lock.owner_),
        by_owner(lock.reenters()),
        owner_moves(by_owner && way == Way::background),
        waits(way != Way::once),
        lines_up(waits && (!by_owner || lock.options_.owner == OwnerId::this_thread() ||
                           (owner_moves && !owner.is_named()))),
        candidate(lock.client_.backend_, lock.key_, lock.options_,
                  by_owner ? owner : OwnerId::this_thread(), lock.type_),
        pauses(lock.options_) {}

  const OwnerId owner;
  const bool by_owner;
  /// Its owner may get in by another thread while it stands in line.
  const bool owner_moves;
  const bool waits;
  /// In the queue of this process's threads. Not an owner that other threads or processes share:
  /// it may get in where those before it can't.
  const bool lines_up;
  const std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
  detail::Candidate candidate;
  detail::Pauses pauses;
  std::function<void()> wake;  // when its place in line may have changed
  std::optional<detail::LocalQueue::Place> place;
  std::chrono::steady_clock::time_point again{};  // when to ask next
  bool told_contended = false;
};

}  // namespace memcachedlock
