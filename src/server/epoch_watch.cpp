#include "server/epoch_watch.hpp"

#include <algorithm>

#include "base/process.hpp"

namespace memcachedlock::detail {

using std::chrono::milliseconds;

EpochWatch::EpochWatch(const EpochWatch* parent, milliseconds least) : least_window_(least) {
  if (parent != nullptr) known_[0] = parent->known();
}

void EpochWatch::set(const Known& next) {
  const unsigned other = 1 - now_.load(std::memory_order_relaxed);
  known_.at(other) = next;
  now_.store(other, std::memory_order_release);
}

bool EpochWatch::is_current(const EpochItem& item, milliseconds lease, std::uint64_t start) const {
  const MutexLock lock(mutex_);
  // A server may keep its memory over a restart (memcached -e).
  return item == item_ && lease <= known().max_lease && start == known().start;
}

std::optional<EpochItem> EpochWatch::wanted(const std::optional<EpochItem>& found,
                                            std::uint64_t cas, milliseconds lease,
                                            std::uint64_t start, std::int64_t time) const {
  const MutexLock lock(mutex_);
  const Known& before = known();
  const milliseconds longest =
      std::max({before.max_lease, lease, found ? found->max_lease : milliseconds(0)});
  if (!found) {
    // CAS ids begin again with each start of the server, so the number must be higher than before.
    const std::uint64_t least = before.number + (start == before.start ? 0 : 1);
    return EpochItem{random_bits(), std::max<std::uint64_t>({start, least, 1}), longest, time};
  }
  EpochItem next = *found;
  next.max_lease = longest;
  // Lower: the server's clock was set back before its start. Or it was read before what is known.
  const bool other = found->id != before.id;
  if (found->number < before.number ||
      (other && found->number == before.number && start == before.start && cas < before.cas)) {
    next.number = before.number + (other ? 1 : 0);
    return next;
  }
  if (found->max_lease < longest) return next;
  return std::nullopt;
}

std::optional<milliseconds> EpochWatch::see(const EpochItem& found, std::uint64_t cas,
                                            milliseconds lease, std::uint64_t start,
                                            Clock::time_point now) {
  const MutexLock lock(mutex_);
  Known next = known();
  std::optional<milliseconds> restart;
  if (found.number < next.number) return restart;  // another thread has seen a later one meanwhile
  if (found.id != next.id) {
    next.follows_another = next.id != 0;
    next.id = found.id;
    next.first_seen = now;
    next.waited_out = false;
    // What was in use before, as far as this process knows.
    next.window = std::max(next.max_lease, least_window_);
    if (next.follows_another) restart = std::max(next.window, found.max_lease);
  }
  next.number = found.number;
  next.cas = cas;
  next.start = start;
  next.made = found.made;
  next.max_lease = std::max({next.max_lease, found.max_lease, lease});
  if (!next.waited_out) next.window = std::max(next.window, found.max_lease);
  item_ = found;
  set(next);
  return restart;
}

Admission EpochWatch::decide(RestartGuard guard, Clock::time_point now,
                             std::optional<std::int64_t> time) {
  const MutexLock lock(mutex_);
  Known next = known();
  Admission admission{true, next.number, next.start, {}};
  const bool guarded =
      guard == RestartGuard::strict || (guard == RestartGuard::known && next.follows_another);
  if (!guarded || next.waited_out) return admission;
  admission.retry_at = next.first_seen + next.window;
  // A client that knew another may have been led to another server, whose age says nothing.
  if (time && !next.follows_another) {
    const milliseconds age = std::chrono::seconds(std::max<std::int64_t>(*time - next.made, 0));
    admission.retry_at = std::min<Clock::time_point>(admission.retry_at, now + next.window - age);
  }
  admission.open = now >= admission.retry_at;
  if (admission.open) {
    // Decided once: a longer lease that is used from now on was not given before.
    next.waited_out = true;
    set(next);
  }
  return admission;
}

bool EpochWatch::knows_any() const {
  const MutexLock lock(mutex_);
  return known().id != 0;
}

Clock::time_point EpochWatch::first_seen() const {
  const MutexLock lock(mutex_);
  return known().first_seen;
}

std::uint64_t EpochWatch::number() const {
  const MutexLock lock(mutex_);
  return known().number;
}

bool EpochWatch::is_since(const std::optional<EpochItem>& found, Clock::time_point time) const {
  const MutexLock lock(mutex_);
  return found && found->id == known().id && known().first_seen < time;
}

}  // namespace memcachedlock::detail
