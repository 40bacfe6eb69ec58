// What is known of a server's epochs: whether it has lost its locks, and which acquires must wait
// after that.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/clock.hpp"
#include "base/mutex.hpp"
#include "memcachedlock/options.hpp"
#include "server/server_clock.hpp"
#include "wire/server_item.hpp"

namespace memcachedlock::detail {

/// Whether a lease may be given, by what the epoch item says.
struct Admission {
  bool open = false;
  std::uint64_t epoch = 0;       ///< for the fencing token
  std::uint64_t start = 0;       ///< ClockReading::start_number() of the server that said so
  Clock::time_point retry_at{};  ///< where it is not open: when it will be
  std::shared_ptr<const ServerItem> item = {};  ///< by which it is given
};

/// A server that has lost its memory has lost the locks in it, whose leases still run. The guard
/// counts from when this process has first seen the new epoch, by its own clock: no other host's
/// wall clock decides. A strict acquire that knew none before may also go by the server's clock:
/// the item says when it was made. No epoch is forgotten in a forked child.
///
/// Thread safe; asks nobody. The number never falls; the guard once open stays open until the next
/// epoch.
class EpochWatch {
 public:
  /// With what the parent of a forked child knew, or null; `least` is
  /// ClientOptions::restart_window.
  EpochWatch(const EpochWatch* parent, std::chrono::milliseconds least);

  /// Whether an item is the one that was seen last, in the same start of the server, and
  /// serves for a lease of this length. `cas` is its CAS id.
  [[nodiscard]] bool is_current(const ServerItem& item, std::uint64_t cas,
                                std::chrono::milliseconds lease, std::uint64_t start) const;
  /// A new item for one that is missing, still without a list. Its number is higher than `seen`,
  /// the highest of other servers, by two, as a move may have the one between; and its longest
  /// lease no shorter than `longest`. `reading` is of just now, `made` the time of the server's
  /// clock at the latest.
  [[nodiscard]] ServerItem fresh(std::chrono::milliseconds longest, const ClockReading& reading,
                                 std::int64_t made, std::uint64_t seen) const;
  /// How an item is to be that is not as it must be; nothing where it is well.
  [[nodiscard]] std::optional<ServerItem> wanted(const ServerItem& found, std::uint64_t cas,
                                                 std::chrono::milliseconds lease,
                                                 std::uint64_t start) const;
  /// What the item is. For how long leases from before are waited for, where the server has lost
  /// them since the last time.
  std::optional<std::chrono::milliseconds> see(const ServerItem& found, std::uint64_t cas,
                                               std::chrono::milliseconds lease, std::uint64_t start,
                                               Clock::time_point now);
  /// Whether the item was replaced by another earlier, and was asked for since: no restart brings
  /// one back, so there are two servers.
  [[nodiscard]] bool is_back(const ServerItem& found, Clock::time_point asked) const;
  /// Whether this very item was found well before, and was written since: it was never lost, so what
  /// it says now has come from that by moves.
  [[nodiscard]] bool has_gone_on(std::uint64_t id, std::uint64_t cas) const;
  /// `time` is that of the server's clock, at the earliest; nothing where it was not asked since
  /// the epoch was first seen.
  [[nodiscard]] Admission decide(RestartGuard guard, Clock::time_point now,
                                 std::optional<std::int64_t> time);

  [[nodiscard]] bool knows_any() const;
  /// Of the epoch that was seen last.
  [[nodiscard]] Clock::time_point first_seen() const;
  [[nodiscard]] std::uint64_t number() const;
  /// Whether it is the epoch that was seen last, and was seen before `time`.
  [[nodiscard]] bool is_since(const ServerItem* found, Clock::time_point time) const;

 private:
  struct Known {
    std::uint64_t id = 0;      // 0: none was seen yet
    std::uint64_t number = 0;  // the highest
    std::uint64_t cas = 0;     // of the item
    std::uint64_t start = 0;   // of the server that keeps it
    std::int64_t made = 0;     // by its clock
    Clock::time_point first_seen{};
    std::chrono::milliseconds window{0};     // for so long the guard waits from then on
    std::chrono::milliseconds max_lease{0};  // seen or used so far
    bool follows_another = false;            // an earlier epoch was known
    bool waited_out = false;                 // leases from before it have ended
    std::array<std::uint64_t, 8> former{};   // the ids before
    std::size_t replaced = 0;                // how many there were
  };
  [[nodiscard]] const Known& known() const { return known_[now_.load(std::memory_order_acquire)]; }
  void set(const Known& next) MCL_REQUIRES(mutex_);

  const std::chrono::milliseconds least_window_;
  mutable Mutex mutex_;
  // Written aside, then made the valid one: a fork finds the one or the other, whatever the
  // parent's threads do, and the child takes no mutex of the parent.
  std::array<Known, 2> known_{};
  std::atomic<unsigned> now_{0};
};

}  // namespace memcachedlock::detail
