// RLock: the same owner may enter again.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <cstddef>
#include <string_view>
#include <utility>

#include "memcachedlock/lock.hpp"

namespace memcachedlock {

/// A lock that its owner (LockOptions::owner; a thread unless another is given) may take again,
/// through this object or another on the same key. All count together; the last release frees it.
///
/// Entering again inside one process costs no request and neither renews nor shortens the lease of
/// the first entry. An owner made by OwnerId::named() is shared between processes: each process
/// that enters is kept in the lock's record, and the last one to leave frees it.
///
/// A lease that was lost is reported at every depth: each release() returns Release::lost, and
/// entering again throws LeaseLost.
class MEMCACHEDLOCK_EXPORT RLock : public BasicLock {
 public:
  /// Makes no request. Throws InvalidKey, InvalidOption.
  [[nodiscard]] RLock(const MemcachedClient& client, std::string_view key, LockOptions options = {})
      : BasicLock(client, key, std::move(options), LockType::rlock) {}
  /// nullptr is no key.
  RLock(const MemcachedClient&, std::nullptr_t, LockOptions = {}) = delete;
};

}  // namespace memcachedlock
