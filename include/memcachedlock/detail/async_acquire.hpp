// Operations on locks that no thread waits for.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>

#include "memcachedlock/lease.hpp"
#include "memcachedlock/lock.hpp"

namespace memcachedlock::detail {

/// Something that a background thread of the lock's server does. Only one operation at a time may
/// use a lock object, which must stay where it is until the end. The object itself need not live
/// longer than start().
class MEMCACHEDLOCK_EXPORT AsyncOperation {
 public:
  AsyncOperation(const AsyncOperation&) = delete;
  AsyncOperation& operator=(const AsyncOperation&) = delete;

  /// Throws std::system_error where the thread can't be made; nothing is begun then.
  void start();
  /// From any thread: an acquire ends with Cancelled, unless it has ended. A release goes on.
  void cancel() noexcept;
  /// From any thread: it begins no other request, and will be abandoned.
  void forsake() noexcept;
  /// From any other thread: afterwards the lock object is not used any more, and nobody is notified
  /// of an end. Waits for a request that is under way.
  void abandon() noexcept;

 protected:
  class MEMCACHEDLOCK_HIDDEN Task;
  explicit AsyncOperation(std::shared_ptr<Task> task);
  ~AsyncOperation();

 private:
  const std::shared_ptr<Task> task_;
};

/// Asks for the lock, and stands in the same queue as the threads of the process do.
class MEMCACHEDLOCK_EXPORT AsyncAcquire : public AsyncOperation {
 public:
  /// Called once, in the background thread: with what went wrong, or whether the lock is held.
  using Done = std::function<void(std::exception_ptr, bool)>;

  /// No limit: as long as it takes. Where LockOptions::owner is OwnerId::this_thread(), the lock
  /// object itself is the owner. Throws std::system_error as lock() does.
  AsyncAcquire(BasicLock& lock, std::optional<std::chrono::nanoseconds> limit, Done done);
  ~AsyncAcquire();

 private:
  class MEMCACHEDLOCK_HIDDEN AcquireTask;
};

/// release().
class MEMCACHEDLOCK_EXPORT AsyncRelease : public AsyncOperation {
 public:
  /// Called once, in the background thread.
  using Done = std::function<void(std::exception_ptr, Release)>;

  AsyncRelease(BasicLock& lock, Done done);
  ~AsyncRelease();

 private:
  class MEMCACHEDLOCK_HIDDEN ReleaseTask;
};

}  // namespace memcachedlock::detail
