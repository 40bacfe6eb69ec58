#include "departure.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "keeper.hpp"
#include "local_queue.hpp"
#include "memcachedlock/error.hpp"
#include "pace.hpp"
#include "process.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

class Departure final : public Keeper::Task {
 public:
  Departure(std::shared_ptr<Backend> backend, Key key, std::string token, milliseconds lease,
            Arrival arrival)
      : backend_(std::move(backend)),
        key_(std::move(key)),
        token_(std::move(token)),
        arrival_(arrival),
        until_(Clock::now() + 2 * lease + grace + ServerClock::longest_rounding +
               backend_->options().operation_timeout) {}

  std::optional<Keeper::Times> on_time(milliseconds limit) override {
    Server& server = backend_->server_of(key_);
    try {
      if (Clock::now() >= server.resting_until()) {
        const auto view = server.read(key_, limit);
        const auto outcome = take_out(server, key_, token_, view);
        const bool done =
            outcome == Release::released || (!outcome && arrival_ == Arrival::certain);
        // To whom it looked like a holder of this process, who would wake him. An earlier try that
        // was not answered may have done it.
        if (done || std::exchange(unanswered_, false)) LocalQueue::wake(server, key_);
        if (done) return std::nullopt;
      }
    } catch (const Error&) {
      unanswered_ = true;
      server.rest(Clock::now() + rest_time);
    }
    pause_ = std::min(pause_ * 2, milliseconds(1'000));
    const auto next = Clock::now() + pause_;
    return next < until_ ? std::optional(Keeper::Times{next, until_}) : std::nullopt;
  }

  static constexpr milliseconds first_pause{25};

 private:
  const std::shared_ptr<Backend> backend_;
  const Key key_;
  const std::string token_;
  const Arrival arrival_;
  const Clock::time_point until_;
  milliseconds pause_ = first_pause;
  bool unanswered_ = false;
};

/// Whether `found` is what became of `written`: held by one of those to whom it was left.
bool follows(const Record& found, const Record& written) {
  return std::any_of(found.members.begin(), found.members.end(), [&](const std::string& member) {
    return std::find(written.members.begin(), written.members.end(), member) !=
           written.members.end();
  });
}

}  // namespace

milliseconds lifetime(const Record& record, bool fair) {
  return fair || !record.waiters.empty() ? 2 * record.lease + grace : record.lease;
}

TakenOut take_out(Server& server, const Key& key, const std::string& token, Record record, Cas cas,
                  Belief belief) {
  Record next;  // what the last attempt wrote, if it did
  bool others_wrote = false;
  for (int tries = 0; tries < most_patient_tries; ++tries) {
    if (tries != 0 || belief == Belief::likely_outdated) {
      const auto item = server.read_lock(key).lock;
      auto found = record_in(item);
      if (!found || !found->includes(token)) {
        // It may have been done by a request that was not answered, and then sent again. Nobody
        // takes a holder out within its lease, so what follows ours was left by us.
        const bool done = found && follows(*found, next);
        return {done ? Release::released : Release::lost, others_wrote};
      }
      others_wrote = others_wrote || item->cas.id != cas.id;
      record = *std::move(found);
      cas = item->cas;
    }
    Swap swap{};
    if (record.has(token) && record.members.size() == 1 && record.waiters.empty()) {
      next = {};
      swap = server.remove_if(key, cas);
    } else {
      next = record;
      if (!record.has(token)) {
        next.remove_waiter(token);  // and the holder's stamp stays: it has not written
      } else if (record.members.size() > 1) {
        next.remove(token);
        if (next.fence == 0) next.fence = cas.id;
        next.stamp = next_stamp();
      } else {
        next.grant(grace);
        next.hold = Recent::of(key).hold();
        next.stamp = next_stamp();
      }
      swap = server.swap(key, next.encode(), lifetime(next, false), cas);
    }
    if (swap == Swap::done) return {Release::released, others_wrote};
    if (swap == Swap::absent) return {Release::lost, others_wrote};
  }
  return {Release::unavailable, others_wrote};
}

std::optional<Release> take_out(Server& server, const Key& key, const std::string& token,
                                const View& view) {
  auto record = record_in(view.lock);
  if (!record || !record->includes(token)) return std::nullopt;
  return take_out(server, key, token, *std::move(record), view.lock->cas).outcome;
}

void take_out_later(const std::shared_ptr<Backend>& backend, const Key& key,
                    const std::string& token, milliseconds lease, Arrival arrival) {
  const auto now = Clock::now();
  Keeper::instance().schedule(std::make_shared<Departure>(backend, key, token, lease, arrival),
                              {now + Departure::first_pause, now + lease});
}

}  // namespace memcachedlock::detail
