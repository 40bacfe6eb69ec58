// An acquire that no thread waits for.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>

#include "memcachedlock/detail/export.hpp"
#include "memcachedlock/lease.hpp"
#include "memcachedlock/lock.hpp"

namespace memcachedlock::detail {

/// Asks for the lock from a background thread that all of the process's share, and stands in the
/// same queue as its threads do. The lock must stay where it is until the end, and nobody else may
/// use it.
class MEMCACHEDLOCK_EXPORT AsyncAcquire {
 public:
  using Time = std::chrono::steady_clock::time_point;
  /// Called once, in the background thread: with what went wrong, or whether the lock is held.
  using Done = std::function<void(std::exception_ptr, bool)>;

  /// Who calls is the lock's owner, where that is OwnerId::this_thread(). Throws
  /// std::system_error as lock() does.
  AsyncAcquire(BasicLock& lock, std::optional<Time> deadline, Done done);
  ~AsyncAcquire();
  AsyncAcquire(const AsyncAcquire&) = delete;
  AsyncAcquire& operator=(const AsyncAcquire&) = delete;

  /// It need not live longer than this call.
  void start();
  /// From any thread: it ends with Cancelled, unless it has ended.
  void cancel() noexcept;

 private:
  class Task;
  const std::shared_ptr<Task> task_;
};

/// Calls it once in that thread.
MEMCACHEDLOCK_EXPORT void in_background(std::function<void()> what);

}  // namespace memcachedlock::detail
