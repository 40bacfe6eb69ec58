#include "departure.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "keeper.hpp"
#include "memcachedlock/error.hpp"
#include "pace.hpp"
#include "process.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

class Departure final : public Keeper::Task {
 public:
  Departure(std::shared_ptr<Backend> backend, Key key, std::string token, milliseconds lease)
      : backend_(std::move(backend)),
        key_(std::move(key)),
        token_(std::move(token)),
        until_(Clock::now() + 2 * lease + grace + ServerClock::longest_rounding +
               backend_->options().operation_timeout) {}

  std::optional<Keeper::Times> on_time(milliseconds limit) override {
    Server& server = backend_->server_of(key_);
    try {
      if (Clock::now() >= server.resting_until()) {
        const View view = server.read(key_, limit);
        const auto record = view.lock ? Record::parse(view.lock->value) : std::nullopt;
        if (record && (record->has(token_) || record->place_of(token_)) &&
            take_out(server, key_, token_, *record, view.lock->cas) == Release::released) {
          return std::nullopt;
        }
      }
    } catch (const Error&) {
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
  const Clock::time_point until_;
  milliseconds pause_ = first_pause;
};

}  // namespace

milliseconds lifetime(const Record& record, bool fair) {
  return fair || !record.waiters.empty() ? 2 * record.lease + grace : record.lease;
}

Release take_out(Server& server, const Key& key, const std::string& token, Record record, Cas cas) {
  std::string granted_to;  // by an attempt of ours whose outcome is not known
  std::optional<Record> found;
  const auto is_in = [&](const std::optional<Item>& item) {
    found = item ? Record::parse(item->value) : std::nullopt;
    if (!found || !(found->has(token) || found->place_of(token))) return false;
    record = *found;
    cas = item->cas;
    return true;
  };
  for (int tries = 0; tries < most_tries; ++tries) {
    if (record.has(token) && record.members.size() > 1) {
      Record next = record;
      next.remove(token);
      if (next.fence == 0) next.fence = cas.id;
      next.stamp = next_stamp();
      const View view = server.cas_and_read(key, next.encode(), lifetime(next, false), cas);
      if (is_in(view.lock)) continue;
      // Of the same holding, and without us: that was this attempt, or an earlier one.
      const bool ours = found && found->owner == next.owner && found->fence == next.fence;
      return ours ? Release::released : Release::lost;
    }
    Swap swap{};
    if (!record.has(token)) {
      Record next = record;  // with the holder's stamp: it has not written
      next.remove_waiter(token);
      swap = server.swap(key, next.encode(), lifetime(next, true), cas);
    } else if (record.waiters.empty()) {
      swap = server.remove_if(key, cas);
    } else {
      Record next = record;
      next.grant(grace);
      next.hold = Recent::instance().hold(key);
      next.stamp = next_stamp();
      granted_to = next.members.front().substr(0, next.members.front().find('@'));
      swap = server.swap(key, next.encode(), lifetime(next, true), cas);
    }
    if (swap == Swap::done) return Release::released;
    if (swap == Swap::absent || !is_in(server.read_lock(key).lock)) {
      // Nobody takes a holder out within its lease, so whoever follows was granted it by us.
      const bool followed = found && !granted_to.empty() && found->has(granted_to);
      return followed ? Release::released : Release::lost;
    }
  }
  return Release::unavailable;
}

void take_out_later(const std::shared_ptr<Backend>& backend, const Key& key,
                    const std::string& token, milliseconds lease) {
  const auto now = Clock::now();
  Keeper::instance().schedule(std::make_shared<Departure>(backend, key, token, lease),
                              {now + Departure::first_pause, now + lease});
}

}  // namespace memcachedlock::detail
