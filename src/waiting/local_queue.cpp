#include "waiting/local_queue.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <unordered_map>
#include <utility>

#include "base/process.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

// While a thread of this process holds the lock, it hands it over or wakes the first waiter. Yet
// the first asks at times: the lock may be lost.
constexpr milliseconds held_here{50};

// How often a sleeper looks whether it has become the first.
constexpr milliseconds look_around{1'000};

/// All queues of this process, by server and item.
struct Queues {
  struct Shard {
    Mutex mutex;
    std::unordered_map<std::string, std::shared_ptr<LocalQueue>> by_name MCL_GUARDED_BY(mutex);
  };
  std::atomic<std::size_t> waiting{0};
  std::array<Shard, 64> shards;

  static Queues& instance() {
    static constinit PerProcessForever<Queues> all;
    return all.get();
  }
  Shard& shard(const std::string& name) {
    return shards[std::hash<std::string>{}(name) % shards.size()];
  }
};

}  // namespace

struct LocalQueue::Entry {
  enum class State { busy, asleep, claimed, served, failed, left };

  Entry(Bid its_bid, std::function<void()> its_wake)
      : bid(std::move(its_bid)), wake(std::move(its_wake)) {}
  const Bid bid;
  const std::function<void()> wake;
  State state = State::busy;  // guarded by the queue's mutex, as what follows
  Handoff handoff;
  SharedFailure failure;
  Clock::time_point asked{};  // when it last began to ask
  Clock::time_point since = Clock::now();
  bool queued = false;  // in the record; unchanged while it sleeps

  void notify() const { wake(); }
};

LocalQueue::LocalQueue() = default;
LocalQueue::~LocalQueue() = default;

std::shared_ptr<LocalQueue> LocalQueue::find(const LockSpec& spec) {
  Queues& queues = Queues::instance();
  if (queues.waiting.load() == 0) return nullptr;
  Queues::Shard& shard = queues.shard(spec.name);
  const MutexLock lock(shard.mutex);
  const auto found = shard.by_name.find(spec.name);
  return found != shard.by_name.end() ? found->second : nullptr;
}

bool LocalQueue::has(const LockSpec& spec) { return find(spec) != nullptr; }

std::optional<LocalQueue::Claim> LocalQueue::claim(const LockSpec& spec) {
  auto queue = find(spec);
  if (!queue) return std::nullopt;
  const MutexLock lock(queue->mutex_);
  if (queue->entries_.empty()) return std::nullopt;
  const std::shared_ptr<Entry> first = queue->entries_.front();
  if (first->state != Entry::State::asleep) return std::nullopt;
  first->state = Entry::State::claimed;
  return Claim(queue, first);
}

void LocalQueue::wake(const LockSpec& spec) {
  const auto queue = find(spec);
  if (!queue) return;
  const MutexLock lock(queue->mutex_);
  queue->ask_at_ = std::min(queue->ask_at_, Clock::now());
  ++queue->wakes_;
  if (!queue->entries_.empty()) queue->entries_.front()->notify();
}

LocalQueue::Waiter::Waiter(Bid bid, std::function<void()> wake)
    : generation_(process_generation()),
      entry_(std::make_shared<Entry>(std::move(bid), std::move(wake))) {
  Queues& queues = Queues::instance();
  const std::string& name = entry_->bid.spec->name;
  Queues::Shard& shard = queues.shard(name);
  const MutexLock lock(shard.mutex);
  auto& queue = shard.by_name[name];
  if (!queue) queue = std::make_shared<LocalQueue>();
  queue_ = queue;
  const MutexLock queue_lock(queue_->mutex_);
  position_ = queue_->entries_.insert(queue_->entries_.end(), entry_);
  wakes_seen_ = queue_->wakes_;
  queues.waiting.fetch_add(1);
}

LocalQueue::Waiter::~Waiter() { (void)leave(std::nullopt, false); }

LocalQueue::Waiter::Left LocalQueue::Waiter::leave(std::optional<Seat> seat, bool acquired) {
  if (std::exchange(left_, true) || generation_ != process_generation()) return {};
  Left left{std::move(seat), std::nullopt};
  Queues& queues = Queues::instance();
  const std::string& name = entry_->bid.spec->name;
  Queues::Shard& shard = queues.shard(name);
  const MutexLock lock(shard.mutex);
  const MutexLock queue_lock(queue_->mutex_);
  // A holder that has claimed it finds that out when it serves it.
  if (entry_->state == Entry::State::served) left.unused = entry_->handoff.token;
  entry_->state = Entry::State::left;
  const bool was_first = is_first();
  queue_->entries_.erase(position_);
  queues.waiting.fetch_sub(1);
  if (queue_->entries_.empty()) {
    shard.by_name.erase(name);
    if (!left.seat) left.seat = std::exchange(queue_->seat_, std::nullopt);
    return left;
  }
  if (left.seat) queue_->seat_ = std::exchange(left.seat, std::nullopt);
  Entry& next = *queue_->entries_.front();
  if (!acquired) {
    // How long this one would have paused, for whatever reason, is no business of the next.
    if (was_first) queue_->ask_at_ = std::min(queue_->ask_at_, Clock::now());
    next.notify();
    return left;
  }
  queue_->ask_at_ = Clock::now() + held_here;
  // A waiter of that owner can re-enter.
  const OwnerId& owner = entry_->bid.owner;
  if (next.bid.owner == owner && owner != OwnerId::this_thread()) {
    queue_->ask_at_ = Clock::now();
    next.notify();
  }
  return left;
}

bool LocalQueue::Waiter::is_first() const { return queue_->entries_.front() == entry_; }

bool LocalQueue::Waiter::may_ask() {
  const MutexLock lock(queue_->mutex_);
  if (!is_first() || Clock::now() < queue_->ask_at_) return false;
  wakes_seen_ = queue_->wakes_;
  entry_->asked = Clock::now();
  return true;
}

std::optional<Seat> LocalQueue::Waiter::take_seat() {
  const MutexLock lock(queue_->mutex_);
  return std::exchange(queue_->seat_, std::nullopt);
}

void LocalQueue::Waiter::ask_after(Clock::duration pause) {
  const MutexLock lock(queue_->mutex_);
  if (!is_first()) return;
  const bool woken = queue_->wakes_ != wakes_seen_;  // while it asked
  queue_->ask_at_ = Clock::now() + (woken ? Clock::duration(0) : pause);
}

void LocalQueue::Waiter::fail(const SharedFailure& failure) {
  const MutexLock lock(queue_->mutex_);
  for (const std::shared_ptr<Entry>& entry : queue_->entries_) {
    const bool is_ours = entry->bid.spec->cluster == entry_->bid.spec->cluster;
    if (!is_ours || entry->state != Entry::State::asleep || entry->since > entry_->asked) continue;
    entry->failure = failure;
    entry->state = Entry::State::failed;
    entry->notify();
  }
}

std::optional<Clock::time_point> LocalQueue::Waiter::sleep_on(
    std::optional<Clock::time_point> limit, bool stop) const {
  if (entry_->state == Entry::State::served || entry_->state == Entry::State::failed) {
    return std::nullopt;
  }
  const auto now = Clock::now();
  Clock::time_point until = now + look_around + milliseconds(queue_->entries_.size());
  if (entry_->state == Entry::State::claimed) return until;
  if (stop || (limit && now >= *limit)) return std::nullopt;
  if (is_first()) {
    if (now >= queue_->ask_at_) return std::nullopt;
    until = std::min(until, queue_->ask_at_);
  }
  return limit ? std::min(until, *limit) : until;
}

LocalQueue::Woken LocalQueue::Waiter::get_up() {
  switch (std::exchange(entry_->state, Entry::State::busy)) {
    case Entry::State::served:
      return std::move(entry_->handoff);
    case Entry::State::failed:
      return std::move(entry_->failure);
    default:
      return std::monostate();
  }
}

std::optional<Clock::time_point> LocalQueue::Waiter::nap(std::optional<Clock::time_point> limit,
                                                         bool stop, bool queued, Woken& woken) {
  const MutexLock lock(queue_->mutex_);
  if (entry_->state == Entry::State::busy) {
    entry_->queued = queued;
    entry_->state = Entry::State::asleep;
  }
  const auto until = sleep_on(limit, stop);
  if (!until) woken = get_up();
  return until;
}

LocalQueue::Claim::Claim(std::shared_ptr<LocalQueue> queue, std::shared_ptr<Entry> entry) noexcept
    : queue_(std::move(queue)), entry_(std::move(entry)) {}

LocalQueue::Claim::Claim(Claim&& other) noexcept = default;

LocalQueue::Claim::~Claim() {
  if (entry_ == nullptr) return;
  const MutexLock lock(queue_->mutex_);
  if (entry_->state != Entry::State::claimed) return;
  entry_->state = Entry::State::asleep;
  entry_->notify();
}

const Bid& LocalQueue::Claim::bid() const noexcept { return entry_->bid; }

bool LocalQueue::Claim::is_queued() const noexcept { return entry_->queued; }

bool LocalQueue::Claim::serve(Handoff handoff) {
  const MutexLock lock(queue_->mutex_);
  if (entry_->state != Entry::State::claimed) return false;
  entry_->handoff = std::move(handoff);
  entry_->state = Entry::State::served;
  entry_->notify();
  return true;
}

}  // namespace memcachedlock::detail
