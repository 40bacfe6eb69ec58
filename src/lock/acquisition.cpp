#include "lock/acquisition.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "lock/reentry_table.hpp"
#include "lock/remove_token.hpp"

namespace memcachedlock::detail {

Acquisition::Acquisition(SharedSpec spec, Hold& hold, Waiting how,
                         std::optional<std::chrono::nanoseconds> limit, std::function<void()> wake)
    : spec_(std::move(spec)),
      hold_(hold),
      how_(how),
      deadline_(limit ? std::optional(Clock::now() + *limit) : std::nullopt),
      wake_(std::move(wake)),
      owner_(hold.owner_for(*spec_, how == Waiting::event_loop)),
      owner_moves_(spec_->reenters() && how == Waiting::event_loop),
      uses_line_(how != Waiting::nothing &&
                 (!spec_->reenters() || spec_->options.owner == OwnerId::this_thread() ||
                  (owner_moves_ && !owner_.is_named()))),
      label_(how == Waiting::event_loop ? thread_label() : std::string()),
      backoff_(spec_->options) {}

Acquisition::~Acquisition() {
  give_up_both();
  leave_line();
}

Candidate& Acquisition::candidate() {
  if (!candidate_) {
    candidate_.emplace(spec_, spec_->reenters() ? owner_ : OwnerId::this_thread(),
                       how_ == Waiting::event_loop ? label_ : thread_label(), wake_,
                       how_ == Waiting::event_loop);
  }
  return *candidate_;
}

std::optional<Clock::time_point> Acquisition::step(bool cancelled) {
  const auto next = turn(cancelled);
  if (next) due_ = *next;
  return next;
}

std::optional<Clock::time_point> Acquisition::turn(bool cancelled) {
  notice_copy();
  const bool told = second_ ? second_->candidate.is_told() : candidate_ && candidate_->is_told();
  if (napping_) {
    LocalQueue::Woken woken;
    if (const auto until =
            waiter_->nap(deadline_, cancelled || told, second_ || candidate().is_queued(), woken)) {
      return until;
    }
    napping_ = false;
    if (woken.index() != 0 && attempt(std::move(woken))) return std::nullopt;
  }
  if (cancelled) {
    give_up_both();
    cancel();
  }
  if (told && waiter_) waiter_->ask_after({});
  if (!waiter_ && !told && !goes_on_ && Clock::now() < again_ && !is_late()) {  // called early
    return deadline_ ? std::min(again_, *deadline_) : again_;
  }
  if (is_my_turn()) {
    LocalQueue::Woken woken;
    // The event loops' thread asks one lock at a time. After it waited for an answer
    // that did not come, all acquires due meanwhile share that failure.
    if (how_ == Waiting::event_loop) {
      if (auto failure = server().failure_since(due_)) woken = *std::move(failure);
    }
    if (attempt(std::move(woken))) return std::nullopt;
  }
  if (goes_on_) return Clock::now();
  if (is_late()) {
    give_up_both();
    notify_given_up(GiveUp::timed_out);
    return std::nullopt;
  }
  napping_ = waiter_.has_value();
  if (napping_) return Clock::now();
  return deadline_ ? std::min(again_, *deadline_) : again_;
}

/// In a child that was forked meanwhile, by an observer: the line is the parent's, and so are the
/// threads that would wake this one.
void Acquisition::notice_copy() {
  if (generation_ == process_generation()) return;
  generation_ = process_generation();
  waiter_.reset();
  napping_ = uses_line_ = goes_on_ = false;
  second_.reset();  // the parent's
}

bool Acquisition::is_my_turn() {
  // A thread may look once more after its deadline. An event loop's thread has others to serve.
  const bool goes_on = std::exchange(goes_on_, false);
  if (how_ == Waiting::event_loop && ever_asked_ && is_late() && !goes_on) return false;
  if (goes_on) return true;
  if (waiter_ && !waiter_->may_ask()) return false;
  if (waiter_) {
    // A seat is in the record of the place that its thread asked.
    if (second_) return true;
    if (auto seat = waiter_->take_seat()) {
      if (&seat->spec->server == &spec_->server) {
        candidate().take_seat(std::move(seat->token));
      } else {
        remove_token_later(seat->spec, seat->token, WasStored::yes);
      }
    }
  }
  ever_asked_ = true;
  return true;
}

/// ask(), and what becomes of its errors.
bool Acquisition::attempt(LocalQueue::Woken woken) {
  const bool proceeds = spec_->options.on_unavailable == OnUnavailable::proceed;
  const auto began = Clock::now();
  asked_ = false;
  try {
    try {
      return ask(std::move(woken));
    } catch (const Unavailable& error) {
      // Its server may have been left out of the list, as it is dead.
      const bool has_moved =
          asked_ &&
          (spec_->cluster->agreement().look_around(server(), spec_->key) || !spec_->is_current());
      if (!has_moved) throw;
      give_up_both();
      go_to(nullptr);
      return ask({});
    }
  } catch (const LeaseLost& error) {
    // An outer lock of its owner was lost. The store behind a ZLock still protects its
    // data.
    if (spec_->type != LockType::zlock) {
      notify_given_up(GiveUp::lost);
      throw;
    }
    proceed_unlocked(error.what());
  } catch (const ServersDiffer& error) {  // wrong configuration is no outage
    report_failure(error, began);
    if (proceeds) notify_given_up(GiveUp::unavailable);
    throw;
  } catch (const Unavailable& error) {
    report_failure(error, began);
    if (!proceeds) throw;
    proceed_unlocked(error.what());
  } catch (const ServerError& error) {
    report_failure(error, began);
    if (!proceeds) throw;
    proceed_unlocked(error.what());
  }
  return true;
}

/// Removes a lock that was handed over, unless it is taken.
class Acquisition::UnusedHandoff {
 public:
  UnusedHandoff(const SharedSpec& spec, const LocalQueue::Woken& woken)
      : spec_(spec), handoff_(std::get_if<Handoff>(&woken)) {}
  ~UnusedHandoff() {
    if (handoff_ != nullptr) remove_token_later(spec_, handoff_->token, WasStored::yes);
  }
  UnusedHandoff(const UnusedHandoff&) = delete;
  UnusedHandoff& operator=(const UnusedHandoff&) = delete;
  void dismiss() noexcept { handoff_ = nullptr; }

 private:
  const SharedSpec& spec_;
  const Handoff* handoff_;
};

bool Acquisition::ask(LocalQueue::Woken woken) {
  if (const auto* given = std::get_if<Handoff>(&woken); given != nullptr) {
    if (given->server != &spec_->server) go_to(given->server);
  }
  UnusedHandoff unused(spec_, woken);
  if ((!waiter_ || owner_moves_) && reenter()) return true;
  if (const auto* failure = std::get_if<SharedFailure>(&woken)) failure->raise(spec_->key.text());
  if (!waiter_ && uses_line_ && others_wait()) {
    join_line();
    if (!waiter_->may_ask()) {
      notify_contended();
      return false;
    }
  }
  constexpr int max_places = 8;  // that it is sent to, one after the other
  auto* handoff = std::get_if<Handoff>(&woken);
  asked_ = handoff == nullptr;
  for (int tries = 0; tries < max_places; ++tries) {
    if (second_) {
      if (Clock::now() >= second_->until) {
        give_up_both();
        go_to(nullptr);
      } else if (const auto ended =
                     act_on_second(second_->candidate.ask(how_ != Waiting::nothing, false))) {
        return *ended;
      }
      continue;
    }
    if (!spec_->is_current() && handoff == nullptr && !(candidate_ && candidate_->is_queued())) {
      go_to(nullptr);
    }
    const bool may_queue = how_ != Waiting::nothing && (waiter_ || !uses_line_);
    if (spec_->options.renew) Holding::prepare_renewal(*spec_);
    (void)candidate();  // which may need memory
    unused.dismiss();
    auto result = handoff != nullptr ? candidate().receive(std::move(*handoff))
                                     : candidate().ask(may_queue, uses_line_);
    handoff = nullptr;
    if (const auto ended = act_on(std::move(result))) return *ended;
  }
  // Its lists change all the time.
  constexpr std::chrono::milliseconds pause{10};
  again_ = Clock::now() + pause;
  if (waiter_) waiter_->ask_after(pause);
  return false;
}

std::optional<bool> Acquisition::act_on(Candidate::Attempt result) {
  if (auto* holding = std::get_if<std::shared_ptr<Holding>>(&result)) return settle(*holding);
  if (const auto* guarded = std::get_if<Candidate::Guarded>(&result)) {
    leave_line();  // those behind may not have to wait for it
    again_ = guarded->until;
    return false;
  }
  if (auto* half = std::get_if<Candidate::Half>(&result)) {
    begin_second(std::move(*half));
    return go_on();
  }
  if (const auto* elsewhere = std::get_if<Candidate::Elsewhere>(&result)) {
    go_to(elsewhere->where);
    return go_on();
  }
  back_off(std::get<Candidate::Contended>(result).contention);
  return false;
}

std::optional<bool> Acquisition::act_on_second(Candidate::Attempt result) {
  if (auto* holding = std::get_if<std::shared_ptr<Holding>>(&result)) {
    const auto first = std::move(second_->first);
    second_.reset();
    first->join_first(*holding);
    if (!first->owns()) {  // it took too long
      first->withdraw();
      go_to(nullptr);
      return go_on();
    }
    return settle_places(first);
  }
  if (std::get_if<Candidate::SamePlace>(&result) != nullptr) {
    const auto first = std::move(second_->first);
    second_.reset();
    return settle_places(first);
  }
  if (const auto* contended = std::get_if<Candidate::Contended>(&result)) {
    if (second_->is_left_over) {  // whoever waits for the other place alone waits there
      Server& other = second_->spec->server;
      give_up_both();
      notify_contended();
      if (how_ == Waiting::nothing) return false;
      go_to(&other);
      const auto now = Clock::now();
      again_ = now;
      if (waiter_) waiter_->ask_after({});
      return false;
    }
    if (how_ != Waiting::nothing) {
      const auto now = Clock::now();
      const auto pause = second_->backoff.after(contended->contention, now);
      again_ = std::min<Clock::time_point>(now + pause, second_->until);
      if (waiter_) waiter_->ask_after(again_ - now);
      notify_contended();
      return false;
    }
    give_up_both();
    notify_contended();
    return false;
  }
  give_up_both();
  if (const auto* guarded = std::get_if<Candidate::Guarded>(&result)) {
    leave_line();
    again_ = guarded->until;
    return false;
  }
  go_to(nullptr);
  return go_on();
}

/// At once; for event loops in the thread of the server that is asked then, as it may be silent.
std::optional<bool> Acquisition::go_on() {
  if (how_ != Waiting::event_loop) return std::nullopt;
  constexpr int most = 8;  // before it pauses, as a thread does
  goes_on_ = ++places_ < most;
  if (goes_on_) return false;
  places_ = 0;
  again_ = Clock::now() + std::chrono::milliseconds(10);
  if (waiter_) waiter_->ask_after(again_ - Clock::now());
  return false;
}

/// Its leases begin when it is held at all its places.
bool Acquisition::settle_places(const std::shared_ptr<Holding>& first) {
  if (spec_->options.renew) first->renew_or_withdraw();
  return settle(first);
}

void Acquisition::go_to(Server* where) {
  if (candidate_) candidate_->leave_later();
  candidate_.reset();
  Server& server =
      where != nullptr ? *where : spec_->cluster->agreement().first_server_of(spec_->key);
  spec_ = spec_->at(server);
}

void Acquisition::begin_second(Candidate::Half half) {
  SharedSpec spec = spec_->at(*half.other);
  const bool is_for_loop = how_ == Waiting::event_loop;
  second_.emplace(std::move(half), std::move(spec),
                  spec_->reenters() ? owner_ : OwnerId::this_thread(),
                  is_for_loop ? label_ : thread_label(), wake_, is_for_loop);
}

Acquisition::Second::Second(Candidate::Half half, SharedSpec at, OwnerId owner,
                            const std::string& label, const std::function<void()>& wake,
                            bool is_for_loop)
    : first(std::move(half.holding)),
      is_left_over(half.is_left_over),
      spec(std::move(at)),
      candidate(spec, std::move(owner), label, wake, is_for_loop),
      backoff(spec->options),
      until(Clock::now() + first->remaining() * 2 / 3) {
  candidate.set_first_place(first->place(), half.floor, first->agreed_fence());
}

void Acquisition::give_up_both() noexcept {
  if (!second_) return;
  second_->candidate.leave_later();
  second_->first->withdraw_later();
  second_.reset();
  candidate_.reset();
}

bool Acquisition::settle(const std::shared_ptr<Holding>& holding) {
  auto entered = holding;
  OwnerId by;
  try {
    by = owner_;
    if (spec_->reenters()) entered = ReentryTable::instance().put(owner_, holding);
  } catch (...) {  // no memory
    holding->withdraw();
    throw;
  }
  const bool is_new = entered == holding;
  if (!is_new) holding->withdraw();  // its owner got it in another thread meanwhile
  hold_.take(std::move(entered), std::move(by), how_ == Waiting::event_loop);
  acquired_ = true;
  if (is_new) {
    notify_end(EventKind::acquired);
  } else {
    notify_given_up(GiveUp::entered);
  }
  return true;
}

Server& Acquisition::server() const { return second_ ? second_->spec->server : spec_->server; }

Mailbox* Acquisition::mailbox() const {
  if (second_) return second_->candidate.is_queued() ? &second_->spec->server.mailbox() : nullptr;
  return candidate_ && candidate_->is_queued() ? &spec_->server.mailbox() : nullptr;
}

void Acquisition::back_off(const Contention& contention) {
  // It has yet to join the line, from where it may enter the queue.
  const bool unseen = uses_line_ && !waiter_;
  const auto now = Clock::now();
  const Clock::duration pause = unseen ? Clock::duration(0) : backoff_.after(contention, now);
  notify_contended();
  notice_copy();  // by an observer
  again_ = now + pause;
  if (uses_line_ && !waiter_) join_line();
  if (waiter_) waiter_->ask_after(pause);
}

/// True when the owner is inside, or comes back to its reservation.
bool Acquisition::reenter() {
  if (!spec_->reenters()) return false;
  OwnerId by = owner_;  // before it is counted: a copy may need memory
  ReentryTable& table = ReentryTable::instance();
  auto inside = table.enter(*spec_, owner_);
  if (!inside) return false;
  const bool for_loop = how_ == Waiting::event_loop;
  if (!inside->is_reserved()) {
    hold_.take(std::move(inside), std::move(by), for_loop);
    acquired_ = true;
    if (contention_reported_) notify_given_up(GiveUp::entered);
    return true;
  }
  if (spec_->options.renew) Holding::prepare_renewal(*spec_);
  if (!inside->resume()) {
    table.forget(owner_, inside);
    return false;
  }
  hold_.take(table.put(owner_, inside), std::move(by), for_loop);
  acquired_ = true;
  if (spec_->options.renew) hold_.holding->start_renewal();
  notify_end(EventKind::acquired);
  return true;
}

void Acquisition::report_failure(const Error& error, Clock::time_point began) {
  Server& asked_server = server();
  give_up_both();
  const SharedFailure failure = SharedFailure::of(error);
  Event event;
  const bool differs = failure.kind == SharedFailure::Kind::servers_differ;
  event.kind = differs ? EventKind::servers_differ : EventKind::unavailable;
  event.detail = error.what();
  notify(event);
  notice_copy();  // by an observer
  if (asked_ && waiter_) waiter_->fail(failure);
  // A slow failure concerns the server's other keys too, not only this key.
  const bool took_long = Clock::now() - began >= spec_->cluster->options().operation_timeout / 2;
  if (asked_ && took_long && failure.kind == SharedFailure::Kind::unavailable &&
      how_ == Waiting::event_loop && error.server() == asked_server.name()) {
    asked_server.note_failure(failure);
  }
  if (spec_->options.on_unavailable == OnUnavailable::fail) {
    notify_given_up(GiveUp::unavailable);
  }
}

void Acquisition::proceed_unlocked(const char* why) {
  hold_.take_unprotected(owner_);
  acquired_ = true;
  notify_end(EventKind::proceeded_unlocked, why);
}

void Acquisition::cancel() {
  notify_given_up(GiveUp::cancelled);
  const std::string& key = spec_->key.text();
  throw Cancelled(fmt::format("waiting for \"{}\" was cancelled", key), key, spec_->server.name());
}

/// If so, asking at once would fail or jump the line.
bool Acquisition::others_wait() const {
  return LocalQueue::has(*spec_) || spec_->history.contended();
}

void Acquisition::join_line() { waiter_.emplace(candidate().bid(), wake_); }

void Acquisition::leave_line() noexcept {
  if (const auto seat = out_of_line()) Candidate::leave_seat(*seat);
}

/// The seat in the record's queue that nobody took over.
std::optional<Seat> Acquisition::out_of_line() noexcept {
  if (!waiter_) return std::nullopt;
  auto left = waiter_->leave(candidate_ ? candidate_->give_seat() : std::nullopt,
                             candidate_ && candidate_->succeeded());
  waiter_.reset();
  napping_ = false;
  if (left.unused) remove_token_later(spec_, *left.unused, WasStored::yes);
  return std::move(left.seat);
}

void Acquisition::abandon() noexcept {
  give_up_both();
  if (const auto seat = out_of_line()) remove_token_later(seat->spec, seat->token, WasStored::yes);
  if (candidate_) candidate_->leave_later();
}

void Acquisition::notify(Event event) const {
  if (hold_.holding != nullptr) event.token = hold_.holding->fencing_token();
  spec_->notify(event);
}

void Acquisition::notify_contended() {
  if (std::exchange(contention_reported_, true)) return;
  Event event;
  event.kind = EventKind::contended;
  notify(event);
}

void Acquisition::notify_end(EventKind kind, std::string_view detail, GiveUp reason) {
  Event event;
  event.kind = kind;
  event.duration = Clock::now() - started_;
  event.detail = detail;
  event.ends_contention = std::exchange(contention_reported_, false);
  event.give_up = reason;
  notify(event);
}

void Acquisition::notify_given_up(GiveUp reason) { notify_end(EventKind::given_up, {}, reason); }

}  // namespace memcachedlock::detail
