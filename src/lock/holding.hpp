// One holding of a lock: acquired, extended, lost, released. What Lock, RLock and ZLock share.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <system_error>
#include <vector>

#include "base/failure.hpp"
#include "base/timer_thread.hpp"
#include "lock/place.hpp"
#include "memcachedlock/fencing_token.hpp"
#include "memcachedlock/options.hpp"
#include "memcachedlock/release.hpp"
#include "waiting/handoff.hpp"
#include "waiting/local_queue.hpp"
#include "waiting/lock_spec.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

class Holding;

/// Takes a second place at the server of `spec`, if it is free there; null if not. Throws
/// Unavailable, ServerError.
using TakePlace = std::shared_ptr<Holding> (*)(SharedSpec spec, std::string label, Place first,
                                               FencingToken fence);

/// Thread safe. It is held from its making until release(), withdraw(), reserve(), the loss of its
/// lease, or a fork (in the child). Once lost it stays lost. The lease is the holding's, whichever
/// object asks; extend() never shortens it.
class Holding final : public TimerThread::Task, public std::enable_shared_from_this<Holding> {
 public:
  /// A record in which `token` holds the lock; the lease counts from `started`. Unless `confirmed`,
  /// memcached does not know it yet, and start_renewal() begins one of the lock's whole timeout.
  Holding(SharedSpec spec, Record record, std::string token, const Item& item, std::uint64_t epoch,
          Clock::time_point started, std::chrono::milliseconds lease, bool confirmed, Cohort cohort,
          Place place, TakePlace take_place);
  /// Before other threads know it: it is held at this place too, and by the token that was got
  /// there. A lease counts as far as it does at both places.
  void join_first(const std::shared_ptr<Holding>& second);
  [[nodiscard]] const Place& place() const noexcept { return place_; }
  /// Of a second place, whose server asks for no other.
  void note_that_it_suffices() { suffices_.store(true); }
  /// The token on which members of its owner have agreed at its place; none if they have not.
  [[nodiscard]] FencingToken agreed_fence() const;

  /// Begins a new lease, at least `lease` long and never shorter than before. False if it is
  /// lost. Throws Unavailable; the lease then runs on as it was.
  bool extend(std::chrono::milliseconds lease);
  /// `failure`: that the server does not answer, so that it is not asked.
  Release release(const SharedFailure* failure = nullptr);
  /// release() by a background thread, for a caller that must not wait. False where there is none
  /// any more, or it can't be made.
  bool release_in_background();
  /// Takes back what was never granted, or not used: a release without an event.
  void withdraw();
  /// The same in the background.
  void withdraw_later() noexcept;
  /// Held for its owner, but by nobody, for `time`. `on_lapse` is called in the background when
  /// that has passed unused. False if the lease is lost, or may be.
  bool reserve(std::chrono::milliseconds time, std::function<void()> on_lapse);
  /// Held again, for a full lease. False if another holds it or may hold it.
  bool resume();
  /// Throws std::system_error where a thread can't be made; not soon after prepare_renewal().
  void start_renewal();
  /// The same for one that was just acquired; throws Unavailable, and it is withdrawn.
  void renew_or_withdraw();
  /// Makes the threads that start_renewal() needs. Throws Unavailable.
  static void prepare_renewal(const LockSpec& spec);
  /// Whether it could do so.
  static bool can_renew(const LockSpec& spec);
  /// Throws the Unavailable of that.
  [[noreturn]] static void raise_no_thread(const LockSpec& spec, const std::system_error& error);
  /// From now on its loss is reported in time, not only when found.
  void start_watch();

  [[nodiscard]] bool owns() const;
  [[nodiscard]] bool is_reserved() const { return state_.load() == State::reserved; }
  [[nodiscard]] std::chrono::milliseconds remaining() const;
  [[nodiscard]] FencingToken fencing_token() const noexcept { return fence_; }
  [[nodiscard]] std::stop_token lost();
  [[nodiscard]] const LockSpec& spec() const noexcept { return *spec_; }
  std::optional<TimerThread::Times> on_time(std::chrono::milliseconds limit) override;
  void on_stop() override;
  /// Renewals at one server share a round trip.
  [[nodiscard]] const void* group() const noexcept override {
    return is_reserved() ? nullptr : &spec_->server;
  }
  std::vector<std::optional<TimerThread::Times>> on_time_together(
      const TimerThread::Batch& batch, std::chrono::milliseconds limit) override MCL_NO_ANALYSIS;

  unsigned holds = 0;  // how often its owner is inside; guarded by the owners' table

 private:
  enum class State { held, reserved, lost, over };
  /// `uncounted`: the lease runs on as it was, as another place is asked for.
  enum class Write { done, lost, uncounted };

  /// Gives a lease up when it can't be kept any more. In a thread that never waits for the network,
  /// so that neither a renewal under way nor a slow server delays it.
  class LossWatch final : public TimerThread::Task {
   public:
    explicit LossWatch(Holding& holding) : holding_(holding) {}
    std::optional<TimerThread::Times> on_time(std::chrono::milliseconds limit) override;

   private:
    Holding& holding_;
  };

  /// Our lease, to begin anew now; its holding's mutex is locked.
  struct Rewriting {
    Holding* holding = nullptr;
    bool reserved = false;
    std::chrono::milliseconds lease{0};
    bool must_cas = false;  // a word did not do
    bool may_cas = true;
    bool by_cas = false;  // with the item's expiry, and so the whole record
    Record next{};        // by cas: as it was last sent
    std::int64_t end = 0;
    std::uint64_t count = 0;
    Clock::time_point lasts = {};  // as far as the item does, where the word landed
    std::optional<Write> outcome = {};
    Server* missing =
        nullptr;  // uncounted: to be taken too; null: the server's item must be seen to
    std::string trouble = {};  // uncounted: why it can't be
    bool differs = false;      // as ServersDiffer
  };
  /// All that extends, reserves, resumes and renews: one round trip for all of them, which are at
  /// one server, and another for those that others have written to meanwhile, or whose CAS ids are
  /// from a connection that is closed. Throws Unavailable, ServerError; what became of those that
  /// have no outcome then, or after so many rounds, is not known.
  static void rewrite(std::vector<Rewriting*> open, std::chrono::milliseconds limit,
                      int rounds) MCL_NO_ANALYSIS;
  [[nodiscard]] std::string why_not_rewritten() const;
  /// rewrite() of this one alone, at all its places.
  Write rewrite(bool reserved, std::chrono::milliseconds lease) MCL_REQUIRES(mutex_);
  Write rewrite_here(bool reserved, std::chrono::milliseconds lease) MCL_REQUIRES(mutex_);
  [[nodiscard]] Server::Rewrite prepare(Rewriting& one) MCL_REQUIRES(mutex_);
  void accept(Rewriting& one, Clock::time_point started, const std::optional<Item>& item,
              const std::optional<SeenItem>& seen) MCL_REQUIRES(mutex_);
  /// Whether a lease that begins anew counts, by the server's item that was read with it.
  bool counts(Rewriting& one, const std::optional<SeenItem>& seen);

  /// Makes the places complete that an uncounted lease asks for, in the background.
  class PlaceTask;
  void complete_places_later(Server* missing) noexcept;
  void complete_places(Server* missing);
  std::string uncounted(const Rewriting& one);
  void take_place(Server& other);
  bool join(const std::shared_ptr<Holding>& second);
  [[nodiscard]] bool is_live() const;
  void drop_second();
  void remove_everywhere_later() noexcept;
  [[nodiscard]] std::shared_ptr<Holding> second() const;
  [[nodiscard]] std::shared_ptr<Holding> first() const;
  [[nodiscard]] bool is_held_at(const Server& server) const;
  /// The second place does for itself: leaves this one.
  void supersede();
  [[nodiscard]] Clock::time_point deadline() const;
  /// Leaves the places after the first, and then this one.
  Release depart_everywhere() MCL_REQUIRES(mutex_);
  Release leave_second();

  /// A renewal under way.
  struct Renewal {
    std::size_t index = 0;  // in the batch
    Rewriting rewriting;
    bool confirms = false;
    bool answered = false;  // if only others came between each time
    bool is_news = true;    // for the observer
    std::string trouble;    // why it is not known what became of it
    std::optional<TimerThread::Times> again{};
  };
  /// Locks the mutex, and leaves it locked where a renewal is due, which is appended. Else when to
  /// be called again.
  std::optional<TimerThread::Times> begin_renewal(Clock::time_point now, std::size_t index,
                                                  std::vector<Renewal>& renewals) MCL_NO_ANALYSIS;
  /// Unlocks it.
  void end_renewal(Renewal& renewal, Clock::time_point started) MCL_NO_ANALYSIS;
  /// Notifies the observer of it. When to be called again.
  std::optional<TimerThread::Times> report(const Renewal& renewal);
  /// True if the next thread of this process that waits for the lock holds it now.
  bool pass_on() MCL_REQUIRES(mutex_);
  [[nodiscard]] bool may_hand_over(const LocalQueue::Claim& next) const MCL_REQUIRES(mutex_);
  bool hand_over(LocalQueue::Claim& next) MCL_REQUIRES(mutex_);
  /// Writes what makes the next the holder in our place, and what it must know of that.
  Handoff write_handoff(const LocalQueue::Claim& next) MCL_REQUIRES(mutex_);
  Release depart() MCL_REQUIRES(mutex_);
  void notify(EventKind kind, std::chrono::nanoseconds duration = {}, std::string_view detail = {},
              Release outcome = Release::released) const;
  bool lose();
  void announce_loss();
  /// Neither renewed nor watched any more.
  void end_tasks();
  [[nodiscard]] std::shared_ptr<TimerThread::Task> loss_watch();
  std::optional<TimerThread::Times> lapse();
  [[nodiscard]] TimerThread::Times next_times() const MCL_REQUIRES(mutex_);
  [[nodiscard]] Clock::time_point watch_until() const;

  const SharedSpec spec_;
  const std::string token_;
  FencingToken fence_;  // constant once other threads know it
  const Clock::time_point since_;
  const Clock::time_point began_;  // before the request that got it was sent, if there was one
  const Cohort cohort_;
  const unsigned generation_;
  const Place place_;
  const TakePlace take_place_;

  mutable Mutex mutex_;  // one request for this holding at a time
  Record record_ MCL_GUARDED_BY(mutex_);
  Cas cas_ MCL_GUARDED_BY(mutex_);
  unsigned unanswered_ MCL_GUARDED_BY(mutex_) = 0;  // stores that may land yet
  std::uint64_t crowded_at_ MCL_GUARDED_BY(mutex_) =
      0;  // the CAS id when others last came between each try
  std::chrono::milliseconds crowded_pause_ MCL_GUARDED_BY(mutex_){0};  // 0: the last was none
  bool confirmed_ MCL_GUARDED_BY(mutex_);
  std::atomic<State> state_{State::held};
  std::atomic<std::chrono::milliseconds> lease_;
  std::atomic<Clock::time_point> deadline_;
  std::atomic<bool> renewing_{false};
  std::atomic<bool> scheduled_{false};  // ever, with the server's thread
  std::atomic<bool> watched_{false};
  LossWatch loss_watch_{*this};
  std::string last_trouble_ MCL_GUARDED_BY(mutex_);  // of renewals that did not count
  Clock::time_point next_renewal_ MCL_GUARDED_BY(mutex_){};
  std::function<void()> on_lapse_ MCL_GUARDED_BY(mutex_);

  // In a chain: the first place, which the owner has, and those that were taken after it.
  mutable Mutex places_mutex_;
  std::shared_ptr<Holding> second_ MCL_GUARDED_BY(places_mutex_);
  std::vector<std::shared_ptr<Holding>> former_ MCL_GUARDED_BY(places_mutex_);  // that were dropped
  std::weak_ptr<Holding> first_ MCL_GUARDED_BY(places_mutex_);  // of which this is the second
  std::string place_trouble_ MCL_GUARDED_BY(places_mutex_);
  std::atomic<const Holding*> second_seen_{nullptr};
  std::atomic<bool> is_second_{false};
  std::atomic<bool> superseded_{false};      // by the second
  std::atomic<bool> dropped_second_{false};  // as this place does for itself again
  std::atomic<bool> suffices_{false};
  std::atomic<bool> completing_{false};  // its places, in the background

  mutable Mutex stop_mutex_;
  std::optional<std::stop_source> stop_ MCL_GUARDED_BY(stop_mutex_);
  bool announced_ MCL_GUARDED_BY(stop_mutex_) = false;
};

}  // namespace memcachedlock::detail
