// A release that a commit or abort hook makes later.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <functional>
#include <memory>
#include <utility>

namespace memcachedlock {

/// Releases a lock when it is called, or when its last copy is gone: for a commit or abort hook.
/// Copies share the lock; what is called after the first call does nothing. Calls must not overlap.
class DeferredRelease {
 public:
  /// `lock` is held. One with a reserve(), as ZLock has it, can be kept reserved.
  template <class AnyLock>
  explicit DeferredRelease(AnyLock lock) {
    end_ = [held = std::make_shared<AnyLock>(std::move(lock)),
            done = std::make_shared<bool>()](bool reserve) {
      if (std::exchange(*done, true)) return;
      if constexpr (requires { held->reserve(); }) {
        if (reserve) {
          held->reserve();
          return;
        }
      }
      held->unlock();
    };
  }
  /// Releases it.
  void operator()() const { end_(false); }
  /// For a transaction that has conflicted and will be begun again: a ZLock is kept reserved for
  /// its owner, any other lock released.
  void reserve() const { end_(true); }

 private:
  std::function<void(bool reserve)> end_;
};

/// Its earlier name.
using Handover = DeferredRelease;

}  // namespace memcachedlock
