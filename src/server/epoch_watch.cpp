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

bool EpochWatch::is_current(const ServerItem& item, std::uint64_t cas, milliseconds lease,
                            std::uint64_t start) const {
  const MutexLock lock(mutex_);
  const Known& now = known();
  // A server may keep its memory over a restart (memcached -e).
  return item.id == now.id && cas == now.cas && lease <= now.max_lease && start == now.start;
}

ServerItem EpochWatch::fresh(milliseconds longest, const ClockReading& reading, std::int64_t made,
                             std::uint64_t seen) const {
  const MutexLock lock(mutex_);
  const Known& before = known();
  ServerItem item;
  item.id = random_bits();
  // CAS ids begin again with each start of the server, so the number must be higher than before.
  // One that was lost by itself may have been raised since this start.
  item.number =
      std::max({reading.start_number(), reading.time_number(), before.number + 1, seen + 2});
  item.number = std::min(item.number, ServerItem::max_number);
  item.max_lease = std::max(before.max_lease, longest);
  item.made = made;
  return item;
}

std::optional<ServerItem> EpochWatch::wanted(const ServerItem& found, std::uint64_t cas,
                                             milliseconds lease, std::uint64_t start) const {
  const MutexLock lock(mutex_);
  const Known& before = known();
  ServerItem next = found;
  next.max_lease = std::max({before.max_lease, lease, found.max_lease});
  // Lower: the server's clock was set back before its start. Or it was read before what is known.
  const bool other = found.id != before.id;
  if (found.number < before.number ||
      (other && found.number == before.number && start == before.start && cas < before.cas)) {
    next.number = before.number + (other ? 1 : 0);
    return next;
  }
  if (found.max_lease < next.max_lease) return next;
  return std::nullopt;
}

std::optional<milliseconds> EpochWatch::see(const ServerItem& found, std::uint64_t cas,
                                            milliseconds lease, std::uint64_t start,
                                            Clock::time_point now) {
  const MutexLock lock(mutex_);
  Known next = known();
  std::optional<milliseconds> restart;
  if (found.number < next.number) return restart;  // another thread has seen a later one meanwhile
  if (found.id != next.id) {
    next.follows_another = next.id != 0;
    if (next.id != 0) next.former.at(next.replaced++ % next.former.size()) = next.id;
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
  set(next);
  return restart;
}

Admission EpochWatch::decide(RestartGuard guard, Clock::time_point now,
                             std::optional<std::int64_t> time) {
  const MutexLock lock(mutex_);
  Known next = known();
  Admission admission{true, next.number, next.start, {}, {}};
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

bool EpochWatch::is_back(const ServerItem& found, Clock::time_point asked) const {
  const MutexLock lock(mutex_);
  const Known& now = known();
  return found.id != now.id && asked > now.first_seen &&
         std::find(now.former.begin(), now.former.end(), found.id) != now.former.end();
}

bool EpochWatch::has_gone_on(std::uint64_t id, std::uint64_t cas) const {
  const MutexLock lock(mutex_);
  return known().id == id && cas > known().cas;
}

bool EpochWatch::is_since(const ServerItem* found, Clock::time_point time) const {
  const MutexLock lock(mutex_);
  return found != nullptr && found->id == known().id && known().first_seen < time;
}

}  // namespace memcachedlock::detail
