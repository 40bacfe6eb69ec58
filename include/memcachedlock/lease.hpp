// Time left, fencing token, lost: what is known of one held lock.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <compare>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>

namespace memcachedlock {

namespace detail {
class Tenure;
}

/// A number that rises with each new holder of a key, also over a restart of the server. A store
/// that keeps the highest token it has seen can refuse a writer whose lease has ended (Kleppmann,
/// "How to do distributed locking", 2016). The token {0, 0} means that no lock was held.
struct MEMCACHEDLOCK_EXPORT FencingToken {
  std::uint64_t epoch = 0;     ///< rises when the server restarts or is flushed
  std::uint64_t sequence = 0;  ///< memcached's CAS id; rises within one epoch

  /// Always 33 characters, "epoch-sequence" in hex; sorts as text just as the tokens do.
  [[nodiscard]] std::string to_string() const;

  /// Whether a lock was held.
  explicit operator bool() const noexcept { return epoch != 0 || sequence != 0; }
  /// The later holder's is the greater.
  friend auto operator<=>(const FencingToken&, const FencingToken&) = default;
};

/// How a release ended.
enum class Release {
  released,    ///< the lock was ours until now and is free
  lost,        ///< the lease had ended or was taken away before; another holder was left alone
  unavailable  ///< the server did not answer; the lock is freed in the background when it does
               ///< again, and frees itself when its lease has run out
};

/// What the code under a lock may ask about it. Copies refer to the same holding and may be used
/// from any thread; costs no request. A default-made Lease (the code runs unlocked) has no token,
/// no time left and is never lost.
class MEMCACHEDLOCK_EXPORT Lease {
 public:
  /// Of nothing.
  Lease() noexcept;
  ~Lease();
  /// Of the same holding.
  Lease(const Lease&) noexcept;
  /// Of the same holding as the other.
  Lease& operator=(const Lease&) noexcept;

  /// Held, and by the local steady clock not run out.
  [[nodiscard]] bool owns_lock() const;
  /// Until the lease runs out; 0 when it is not held.
  [[nodiscard]] std::chrono::milliseconds remaining() const;
  /// Of this holding, also when it has ended.
  [[nodiscard]] FencingToken fencing_token() const;
  /// Stopped once the lease is known to be lost, and before another could hold the lock.
  [[nodiscard]] std::stop_token lost() const;

 private:
  friend class BasicLock;
  explicit Lease(std::shared_ptr<detail::Tenure> tenure) noexcept;
  std::shared_ptr<detail::Tenure> tenure_;
};

}  // namespace memcachedlock
