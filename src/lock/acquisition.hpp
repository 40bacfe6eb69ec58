// One acquire of a lock, from the first look at it until it is held or given up.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/process.hpp"
#include "lock/candidate.hpp"
#include "lock/holding.hpp"
#include "memcachedlock/detail/hold.hpp"
#include "memcachedlock/error.hpp"
#include "memcachedlock/observer.hpp"
#include "memcachedlock/options.hpp"
#include "waiting/backoff.hpp"
#include "waiting/local_queue.hpp"
#include "waiting/lock_spec.hpp"

namespace memcachedlock::detail {

/// What waits for it.
enum class Waiting { nothing, thread, event_loop };

/// A state machine that a thread and an event loop drive alike: step() until it has ended. Used by
/// one thread at a time. Once destroyed, all that it wrote is held, removed, handed on, or being
/// removed in the background.
class Acquisition {
 public:
  /// No limit: as long as it takes. `wake` is called in any thread, and must not wait: step() is
  /// then due at once.
  Acquisition(SharedSpec spec, Hold& hold, Waiting how,
              std::optional<std::chrono::nanoseconds> limit, std::function<void()> wake);
  ~Acquisition();
  Acquisition(const Acquisition&) = delete;
  Acquisition& operator=(const Acquisition&) = delete;

  /// Usually few requests; never sleeps. When to call it again, unless `wake` is called before;
  /// nothing when it has ended. Throws what BasicLock::lock() does, and has ended then, too.
  std::optional<Clock::time_point> step(bool cancelled);
  /// What the thread that drives it should read until the next step; null if nothing comes there.
  [[nodiscard]] Mailbox* mailbox() const;
  /// Whether it has ended with the lock held, or with leave to go on without it.
  [[nodiscard]] bool acquired() const noexcept { return acquired_; }
  /// The server that the next step asks.
  [[nodiscard]] Server& server() const;
  /// The lock, at the place where it was locked.
  [[nodiscard]] const SharedSpec& spec() const noexcept { return spec_; }
  /// Ends the acquire; what it has written is removed in the background.
  void abandon() noexcept;

 private:
  class UnusedHandoff;

  std::optional<Clock::time_point> turn(bool cancelled);
  /// Made when it is needed: to enter again needs none.
  Candidate& candidate();
  void notice_copy();
  [[nodiscard]] bool is_my_turn();
  [[nodiscard]] bool is_late() const { return deadline_ && Clock::now() >= *deadline_; }
  /// One attempt, or what arrived while it was in line; true if the acquire has ended.
  bool attempt(LocalQueue::Woken woken);
  bool ask(LocalQueue::Woken woken);
  /// What an answer leads to; nothing where it is to be asked again at once.
  std::optional<bool> act_on(Candidate::Attempt result);
  std::optional<bool> act_on_second(Candidate::Attempt result);
  std::optional<bool> go_on();
  bool settle_places(const std::shared_ptr<Holding>& first);
  /// It goes on at another server, or where the client's lists say now.
  void go_to(Server* where);
  void begin_second(Candidate::Half half);
  void give_up_both() noexcept;
  bool reenter();
  bool settle(const std::shared_ptr<Holding>& holding);
  void back_off(const Contention& contention);
  void report_failure(const Error& error, Clock::time_point began);
  void proceed_unlocked(const char* why);
  [[noreturn]] void cancel();
  [[nodiscard]] bool others_wait() const;
  void join_line();
  void leave_line() noexcept;
  std::optional<Seat> out_of_line() noexcept;
  void notify(Event event) const;
  void notify_contended();
  void notify_end(EventKind kind, std::string_view detail = {}, GiveUp reason = GiveUp::none);
  void notify_given_up(GiveUp reason);

  SharedSpec spec_;  // of the place that is asked first
  Hold& hold_;
  const Waiting how_;
  const std::optional<Clock::time_point> deadline_;
  const std::function<void()> wake_;
  const OwnerId owner_;
  /// Whether its owner may get in by another thread while it stands in line.
  const bool owner_moves_;
  /// Whether it stands in the line of this process. Not for an owner that other threads or
  /// processes share: it may enter when waiters ahead can't.
  bool uses_line_;
  const std::string label_;  // of the thread that has begun it, if that is not this one
  unsigned generation_ = process_generation();
  const Clock::time_point started_ = Clock::now();

  std::optional<Candidate> candidate_;
  /// While the list of servers changes: it is held at the first place, and asked for at this one.
  struct Second {
    Second(Candidate::Half half, SharedSpec at, OwnerId owner, const std::string& label,
           const std::function<void()>& wake, bool is_for_loop);
    std::shared_ptr<Holding> first;
    bool is_left_over;
    SharedSpec spec;
    Candidate candidate;
    Backoff backoff;
    Clock::time_point until;  // gives up both: who waits here does not renew the first
  };
  std::optional<Second> second_;
  Backoff backoff_;
  std::optional<LocalQueue::Waiter> waiter_;
  bool napping_ = false;  // in line
  bool goes_on_ = false;  // at once, in another thread perhaps
  int places_ = 0;        // how often it did
  bool acquired_ = false;
  bool asked_ = false;  // memcached, in the last attempt
  bool ever_asked_ = false;
  bool contention_reported_ = false;
  Clock::time_point again_{};         // when to ask next, out of line
  Clock::time_point due_ = started_;  // since when this step is wanted
};

}  // namespace memcachedlock::detail
