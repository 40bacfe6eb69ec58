// A mutex that clang's thread safety analysis knows (-Wthread-safety); plain std::mutex elsewhere.
#pragma once

#include <mutex>

#if defined(__clang__)
#define MCL_ATTRIBUTE(x) __attribute__((x))
#else
#define MCL_ATTRIBUTE(x)
#endif

#define MCL_GUARDED_BY(x) MCL_ATTRIBUTE(guarded_by(x))
// For a mutex that one function locks and another unlocks.
#define MCL_NO_ANALYSIS MCL_ATTRIBUTE(no_thread_safety_analysis)
#define MCL_REQUIRES(...) MCL_ATTRIBUTE(requires_capability(__VA_ARGS__))

namespace memcachedlock::detail {

class MCL_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  void lock() MCL_ATTRIBUTE(acquire_capability()) { mutex_.lock(); }
  void unlock() MCL_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
  bool try_lock() MCL_ATTRIBUTE(try_acquire_capability(true)) { return mutex_.try_lock(); }

 private:
  std::mutex mutex_;
};

class MCL_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) MCL_ATTRIBUTE(acquire_capability(mutex)) : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() MCL_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace memcachedlock::detail
