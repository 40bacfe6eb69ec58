#include "waiting/local_queue.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <unordered_map>
#include <utility>

#include "base/process.hpp"
#include "lock/candidate.hpp"
#include "lock/departure.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

// While a thread of this process holds the lock, it will hand it over, or wake the first. All the
// same the first asks at times: it may have been lost.
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
    static auto& all = *new PerProcess<Queues>;  // locks may outlive static storage
    return all.get();
  }
  Shard& shard(const std::string& name) {
    return shards[std::hash<std::string>{}(name) % shards.size()];
  }
};

std::string name_of(const Server& server, const Key& key) {
  return server.name() + ' ' + key.item();
}

}  // namespace

struct LocalQueue::Entry {
  enum class State { busy, asleep, claimed, served, failed };

  explicit Entry(Candidate& who) : candidate(who) {}
  Candidate& candidate;
  State state = State::busy;  // guarded by the queue's mutex, as what follows
  Handed handed;
  SharedFailure failure;
  Clock::time_point asked{};  // when it last began to ask
  Clock::time_point since = Clock::now();
  std::function<void()> wake;  // instead of a thread that sleeps

  void notify() {
    if (wake) wake();
    changed.notify_all();
  }
  std::condition_variable_any changed;
};

LocalQueue::LocalQueue() = default;
LocalQueue::~LocalQueue() = default;

std::shared_ptr<LocalQueue> LocalQueue::find(const Server& server, const Key& key) {
  Queues& queues = Queues::instance();
  if (queues.waiting.load() == 0) return nullptr;
  const std::string name = name_of(server, key);
  Queues::Shard& shard = queues.shard(name);
  const MutexLock lock(shard.mutex);
  const auto found = shard.by_name.find(name);
  return found != shard.by_name.end() ? found->second : nullptr;
}

bool LocalQueue::has(const Server& server, const Key& key) { return find(server, key) != nullptr; }

std::optional<LocalQueue::Claim> LocalQueue::claim(const Server& server, const Key& key) {
  auto queue = find(server, key);
  if (!queue) return std::nullopt;
  const MutexLock lock(queue->mutex_);
  if (queue->entries_.empty()) return std::nullopt;
  Entry& first = *queue->entries_.front();
  if (first.state != Entry::State::asleep) return std::nullopt;
  first.state = Entry::State::claimed;
  return Claim(queue, first);
}

void LocalQueue::wake(const Server& server, const Key& key, Clock::duration pause) {
  const auto queue = find(server, key);
  if (!queue) return;
  const MutexLock lock(queue->mutex_);
  queue->ask_at_ = std::min(queue->ask_at_, Clock::now() + pause);
  ++queue->wakes_;
  if (!queue->entries_.empty()) queue->entries_.front()->notify();
}

LocalQueue::Place::Place(const Server& server, Candidate& candidate)
    : generation_(process_generation()),
      name_(name_of(server, candidate.spec()->key)),
      entry_(std::make_unique<Entry>(candidate)) {
  Queues& queues = Queues::instance();
  Queues::Shard& shard = queues.shard(name_);
  const MutexLock lock(shard.mutex);
  auto& queue = shard.by_name[name_];
  if (!queue) queue = std::make_shared<LocalQueue>();
  queue_ = queue;
  const MutexLock queue_lock(queue_->mutex_);
  position_ = queue_->entries_.insert(queue_->entries_.end(), entry_.get());
  wakes_seen_ = queue_->wakes_;
  queues.waiting.fetch_add(1);
}

LocalQueue::Place::~Place() {
  if (generation_ != process_generation()) return;
  Candidate& candidate = entry_->candidate;
  std::optional<std::string> left = candidate.give_place();
  std::optional<std::string> not_taken;  // a lock that it was handed, and nobody will use
  {
    // Who has claimed it writes to it yet.
    const MutexLock lock(queue_->mutex_);
    while (entry_->state == Entry::State::claimed) {
      entry_->changed.wait_until(queue_->mutex_, Clock::now() + look_around);
    }
    if (entry_->state == Entry::State::served) not_taken = entry_->handed.token;
    entry_->state = Entry::State::busy;  // from now on it can't be claimed
  }
  {
    Queues& queues = Queues::instance();
    Queues::Shard& shard = queues.shard(name_);
    const MutexLock lock(shard.mutex);
    const MutexLock queue_lock(queue_->mutex_);
    const bool was_first = is_first();
    queue_->entries_.erase(position_);
    queues.waiting.fetch_sub(1);
    if (queue_->entries_.empty()) {
      shard.by_name.erase(name_);
      if (!left) left = std::exchange(queue_->place_, std::nullopt);
    } else {
      if (left) queue_->place_ = std::exchange(left, std::nullopt);
      if (candidate.succeeded()) {
        queue_->ask_at_ = Clock::now() + held_here;
        // One of the same owner gets in by it.
        Entry& next = *queue_->entries_.front();
        if (next.candidate.owner() == candidate.owner() &&
            candidate.owner() != OwnerId::this_thread()) {
          queue_->ask_at_ = Clock::now();
          next.notify();
        }
      } else {
        // How long this one would have paused, for whatever reason, is no business of the next.
        if (was_first) queue_->ask_at_ = std::min(queue_->ask_at_, Clock::now());
        queue_->entries_.front()->notify();
      }
    }
  }
  if (left) candidate.leave_place(*left);
  if (not_taken) take_out_later(candidate.spec(), *not_taken, Arrival::certain);
}

bool LocalQueue::Place::is_first() const { return queue_->entries_.front() == entry_.get(); }

bool LocalQueue::Place::may_ask() {
  const MutexLock lock(queue_->mutex_);
  if (!is_first() || Clock::now() < queue_->ask_at_) return false;
  wakes_seen_ = queue_->wakes_;
  entry_->asked = Clock::now();
  if (queue_->place_) entry_->candidate.take_place(*std::exchange(queue_->place_, std::nullopt));
  return true;
}

void LocalQueue::Place::ask_after(Clock::duration pause) {
  const MutexLock lock(queue_->mutex_);
  if (!is_first()) return;
  const bool woken = queue_->wakes_ != wakes_seen_;  // while it asked
  queue_->ask_at_ = Clock::now() + (woken ? Clock::duration(0) : pause);
}

void LocalQueue::Place::fail(const SharedFailure& failure) {
  const MutexLock lock(queue_->mutex_);
  for (Entry* entry : queue_->entries_) {
    const bool is_ours = entry->candidate.spec()->backend == entry_->candidate.spec()->backend;
    if (!is_ours || entry->state != Entry::State::asleep || entry->since > entry_->asked) continue;
    entry->failure = failure;
    entry->state = Entry::State::failed;
    entry->notify();
  }
}

LocalQueue::Woken LocalQueue::Place::sleep(std::optional<Clock::time_point> limit,
                                           const std::stop_token& stop) {
  Entry& entry = *entry_;
  // Whoever stops waits for the mutex, so that the wait below cannot miss it.
  const std::stop_callback on_stop(stop, [this] {
    const MutexLock lock(queue_->mutex_);
    entry_->notify();
  });
  const MutexLock lock(queue_->mutex_);
  entry.state = Entry::State::asleep;
  while (const auto until = sleep_on(limit, stop.stop_requested())) {
    entry.changed.wait_until(queue_->mutex_, *until);
  }
  return get_up();
}

std::optional<Clock::time_point> LocalQueue::Place::sleep_on(std::optional<Clock::time_point> limit,
                                                             bool stop) const {
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

LocalQueue::Woken LocalQueue::Place::get_up() {
  switch (std::exchange(entry_->state, Entry::State::busy)) {
    case Entry::State::served:
      return std::move(entry_->handed);
    case Entry::State::failed:
      return std::move(entry_->failure);
    default:
      return std::monostate();
  }
}

std::optional<Clock::time_point> LocalQueue::Place::nap(std::optional<Clock::time_point> limit,
                                                        bool stop, Woken& woken) {
  const MutexLock lock(queue_->mutex_);
  if (entry_->state == Entry::State::busy) entry_->state = Entry::State::asleep;
  const auto until = sleep_on(limit, stop);
  if (!until) woken = get_up();
  return until;
}

void LocalQueue::Place::on_change(std::function<void()> wake) {
  const MutexLock lock(queue_->mutex_);
  entry_->wake = std::move(wake);
}

LocalQueue::Claim::Claim(std::shared_ptr<LocalQueue> queue, Entry& entry) noexcept
    : queue_(std::move(queue)), entry_(&entry) {}

LocalQueue::Claim::Claim(Claim&& other) noexcept
    : queue_(std::move(other.queue_)), entry_(std::exchange(other.entry_, nullptr)) {}

LocalQueue::Claim::~Claim() {
  if (entry_ == nullptr) return;
  const MutexLock lock(queue_->mutex_);
  entry_->state = Entry::State::asleep;
  entry_->notify();
}

const Candidate& LocalQueue::Claim::candidate() const noexcept { return entry_->candidate; }

void LocalQueue::Claim::serve(Handed handed) {
  Entry& entry = *std::exchange(entry_, nullptr);
  const MutexLock lock(queue_->mutex_);
  entry.handed = std::move(handed);
  entry.state = Entry::State::served;
  entry.notify();  // under the mutex: it is gone soon after
}

}  // namespace memcachedlock::detail
