// Time left, fencing token, lost: what is known of one held lock.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <memory>
#include <stop_token>

#include "memcachedlock/fencing_token.hpp"

namespace memcachedlock {

namespace detail {
class Holding;
}

/// What the code under a lock may ask about it. Copies refer to the same holding and may be used
/// from any thread; costs no request. A default-made Lease (the code runs unlocked) has no token,
/// no time left and is never lost.
class MEMCACHEDLOCK_EXPORT Lease {
 public:
  /// A lease of no lock: no token, no time left, never lost.
  Lease() noexcept;
  ~Lease();
  /// Refers to the same holding.
  Lease(const Lease&) noexcept;
  /// Refers to the holding of the other.
  Lease& operator=(const Lease&) noexcept;

  /// Held, and not expired by the local boot clock.
  [[nodiscard]] bool owns_lock() const;
  /// Until the lease runs out; 0 when it is not held.
  [[nodiscard]] std::chrono::milliseconds remaining() const;
  /// This holding's token; unchanged after the holding has ended.
  [[nodiscard]] FencingToken fencing_token() const;
  /// Stop is requested once the lease is known to be lost; see BasicLock::lost().
  [[nodiscard]] std::stop_token lost() const;

 private:
  friend class BasicLock;
  explicit Lease(std::shared_ptr<detail::Holding> holding) noexcept;
  std::shared_ptr<detail::Holding> holding_;
};

}  // namespace memcachedlock
