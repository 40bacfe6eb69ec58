#include "waiting/backoff.hpp"

#include <algorithm>
#include <random>

namespace memcachedlock::detail {

namespace {

using std::chrono::microseconds;

// As long as a round trip on a fast network.
constexpr microseconds shortest{50};

}  // namespace

Backoff::Backoff(const LockOptions& options) : longest_(options.interval) {}

Clock::duration Backoff::after(const Contention& contention, Time now) {
  if (contention.queue_position && contention.told) return while_told(contention);
  if (contention.queue_position && !contention.local) return while_queued(contention, now);
  last_position_.reset();
  if (contention.local) return std::min<Clock::duration>(longest_, contention.lease);
  return outside(contention);
}

/// A look is only for the case that what it is told is lost. So it comes when its turn is long
/// overdue, and then less and less often while the same one holds the lock.
Clock::duration Backoff::while_told(const Contention& contention) {
  constexpr int patience = 4;
  constexpr std::chrono::milliseconds shortest_pause{5};
  const std::size_t position = *contention.queue_position;
  const Clock::duration turn =
      std::max<Clock::duration>(contention.hold.usual, shortest) + 2 * contention.round_trip;
  constexpr std::size_t far_back = 8;
  const Clock::duration most = position == 0         ? max_pause_of_next
                               : position < far_back ? max_pause_in_queue
                                                     : 2 * max_pause_in_queue;
  const bool same = contention.holder == last_holder_ && last_position_ == position;
  last_holder_ = contention.holder;
  last_position_ = position;
  step_ = same ? 2 * step_ : std::min(patience * static_cast<int>(position + 1) * turn, most);
  step_ = std::clamp<Clock::duration>(step_, shortest_pause, most);
  return step_;
}

/// Long pauses, and short ones only while its turn may come.
Clock::duration Backoff::while_queued(const Contention& contention, Time now) {
  const Clock::duration hold = std::max(contention.hold.usual, shortest);
  const Clock::duration deviation =
      contention.hold.deviation.count() > 0
          ? std::clamp<Clock::duration>(contention.hold.deviation, hold / 64, hold / 4)
          : hold / 8;
  estimate(contention, now, hold, deviation);
  const Time first_end = began_first_ + hold - 2 * deviation;
  const Time last_end = began_last_ + hold + 2 * deviation;
  // The longer the holder is overdue, the longer the pause.
  const Clock::duration overdue =
      std::clamp<Clock::duration>((now - last_end) / 4, Clock::duration(0), max_pause_in_queue);
  if (*contention.queue_position == 0) {
    const Clock::duration step = (last_end - first_end) / 6;
    const Clock::duration pause = now < first_end ? first_end - now : std::max(step, overdue);
    return std::min(pause, std::min<Clock::duration>(longest_, max_pause_of_next));
  }
  Time until;
  if (*contention.queue_position == 1) {
    // Just after it becomes next, to learn when that holder began.
    until = last_end + contention.round_trip;
    if (until - first_end > hold / 2) until = first_end + (until - first_end) / 2;
  } else {
    // Until it may first be second.
    until = began_first_ + static_cast<std::int64_t>(*contention.queue_position) * hold - hold / 2;
  }
  return std::min<Clock::duration>(
      std::max<Clock::duration>({until - now, overdue, hold / 8, shortest}), max_pause_in_queue);
}

/// When the holder began.
void Backoff::estimate(const Contention& contention, Time now, Clock::duration hold,
                       Clock::duration deviation) {
  const Clock::duration hand_over = 2 * contention.round_trip;
  if (!contention.confirmed) {  // it begins just now
    began_first_ = now;
    began_last_ = now + hand_over;
  } else if (!last_position_ || contention.holder != last_holder_) {
    Time first = now - hold;
    Time last = now;
    if (last_position_) {
      first = std::max(first, looked_at_);
      if (*last_position_ > *contention.queue_position) {  // so many turns have passed since
        const auto turns = static_cast<std::int64_t>(*last_position_ - *contention.queue_position);
        first = std::max(first, began_first_ + turns * hold);
        last = std::min(last, began_last_ + turns * (hold + 2 * deviation + hand_over));
      }
    }
    began_first_ = std::min(first, now);
    began_last_ = std::max(last, began_first_);
  }
  last_holder_ = contention.holder;
  last_position_ = contention.queue_position;
  looked_at_ = now;
}

/// There is no room in the queue. Less and less often, and not all at once.
Clock::duration Backoff::outside(const Contention& contention) {
  thread_local std::minstd_rand random(std::random_device{}());
  std::uniform_real_distribution<double> jitter(0.5, 1.5);
  const Clock::duration hold = std::max(contention.hold.usual, shortest);
  const Clock::duration most = std::min<Clock::duration>(longest_, max_pause_in_queue);
  step_ = std::min(step_.count() == 0 ? hold : step_ * 3 / 2, most);
  return std::min(std::chrono::duration_cast<Clock::duration>(step_ * jitter(random)), most);
}

}  // namespace memcachedlock::detail
