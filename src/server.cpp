#include "server.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "memcachedlock/error.hpp"
#include "tell_observer.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// How far the wall clocks of two hosts may differ before an epoch's age is misjudged.
constexpr milliseconds clock_skew{1'000};

nanoseconds wall_clock() { return std::chrono::system_clock::now().time_since_epoch(); }
nanoseconds clock_offset() { return wall_clock() - Clock::now().time_since_epoch(); }

}  // namespace

Server::Server(ServerAddress address, const ClientOptions& options)
    : address_(std::move(address)),
      name_(address_.to_string()),
      options_(options),
      epoch_key_(Key::epoch_item(options.prefix)),
      clock_offset_(clock_offset()) {}

void Server::raise(const Failure& failure, std::string_view key) const {
  const std::string concerned = key.empty() ? "" : fmt::format(" (key \"{}\")", key);
  if (failure.kind == Failure::Kind::refused) {
    throw ServerError(fmt::format("{} does not answer as memcached does: {}; check the address and "
                                  "ClientOptions::protocol{}",
                                  name_, failure.what(), concerned),
                      std::string(key), name_);
  }
  throw Unavailable(fmt::format("{} is unavailable: {}; check that memcached runs there, that "
                                "the network lets it through, and whether it asks for a login{}",
                                name_, failure.what(), concerned),
                    std::string(key), name_);
}

template <class Request>
auto Server::ask(std::string_view key, milliseconds limit, Request&& request) {
  const milliseconds longest_wait = std::clamp(limit, milliseconds(1), options_.operation_timeout);
  Pool& pool = pool_.get(address_, options_);
  for (bool again = false;; again = true) {
    std::optional<Pool::Loan> loan = pool.lend(longest_wait);
    if (!loan) {
      throw Unavailable(fmt::format("{}: all {} connections were in use for {} ms; raise "
                                    "ClientOptions::connections or look why the server is slow",
                                    name_, options_.connections, longest_wait.count()),
                        std::string(key), name_);
    }
    try {
      (*loan)->begin(longest_wait);
      const auto started = options_.observer ? Clock::now() : Clock::time_point{};
      auto answer = request(**loan);
      tell_observer(options_, [&](Observer& observer) {
        observer.on_round_trip(name_, Clock::now() - started);
      });
      (*loan)->end();
      loan->keep();
      return answer;
    } catch (const Failure& failure) {
      if (failure.kind != Failure::Kind::disconnected || !loan->used_before() || again) {
        raise(failure, key);
      }
      loan->discard_idle();
    }
  }
}

std::time_t Server::expiry(Connection& connection, milliseconds lease) {
  ServerClock& clock = clock_.get();
  if (!connection.has_read_clock() || clock.wants_reading(Clock::now())) {
    clock.add(connection.read_clock());
  }
  return clock.expiry(lease);
}

View Server::add_and_read(const Key& key, std::string_view value, milliseconds lease) {
  return ask(key.text(), longest, [&](Connection& connection) {
    return connection.add_and_read(key.item(), epoch_key_, value, expiry(connection, lease));
  });
}

View Server::cas_and_read(const Key& key, std::string_view value, milliseconds lease,
                          const Cas& cas, milliseconds limit) {
  return ask(key.text(), limit, [&](Connection& connection) {
    if (!connection.knows(cas)) return connection.read(key.item(), epoch_key_);
    return connection.cas_and_read(key.item(), epoch_key_, value, expiry(connection, lease), cas);
  });
}

std::vector<std::optional<Item>> Server::cas_and_read_all(const std::vector<Rewrite>& all,
                                                          milliseconds limit) {
  return ask(all.front().key->text(), limit, [&](Connection& connection) {
    std::vector<Connection::Rewrite> requests;
    requests.reserve(all.size());
    for (const Rewrite& one : all) {
      requests.push_back({one.key->item(), one.value, expiry(connection, one.lease), one.cas});
    }
    return connection.cas_and_read_all(requests);
  });
}

View Server::read(const Key& key, milliseconds limit) {
  return ask(key.text(), limit,
             [&](Connection& connection) { return connection.read(key.item(), epoch_key_); });
}

std::vector<View> Server::read_all(std::span<const Key> keys) {
  std::vector<std::string_view> items;
  items.reserve(keys.size());
  for (const Key& key : keys) items.emplace_back(key.item());
  return ask(keys.front().text(), longest,
             [&](Connection& connection) { return connection.read_all(items, epoch_key_); });
}

View Server::read_lock(const Key& key) {
  return ask(key.text(), longest,
             [&](Connection& connection) { return connection.read(key.item()); });
}

View Server::append_and_read(const Key& key, std::string_view text) {
  return ask(key.text(), longest,
             [&](Connection& connection) { return connection.append_and_read(key.item(), text); });
}

Swap Server::swap(const Key& key, std::string_view value, milliseconds lease, const Cas& cas) {
  return ask(key.text(), longest, [&](Connection& connection) {
    if (!connection.knows(cas)) return Swap::changed;
    return connection.swap(key.item(), value, expiry(connection, lease), cas);
  });
}

Swap Server::remove_if(const Key& key, const Cas& cas) {
  bool sent = false;
  return ask(key.text(), longest, [&](Connection& connection) {
    if (!connection.knows(cas)) {
      const View view = connection.read(key.item(), epoch_key_);
      if (view.lock) return Swap::changed;
      // By the first sending, or by a restart.
      return sent && is_since(view.epoch, cas.asked) ? Swap::done : Swap::absent;
    }
    sent = true;
    return connection.remove_if(key.item(), cas);
  });
}

Statistics Server::statistics(const char* which) {
  return ask({}, longest, [&](Connection& connection) { return connection.statistics(which); });
}

bool Server::is_since(const std::optional<Item>& epoch, Clock::time_point time) {
  const auto found = epoch ? Epoch::parse(epoch->value) : std::nullopt;
  Memory& memory = memory_.get();
  const MutexLock lock(memory.mutex);
  return found && found->number == memory.epoch && memory.first_seen < time;
}

Admission Server::prepare(const Key& key, milliseconds lease, RestartGuard guard) {
  Memory& memory = memory_.get();
  {
    const MutexLock lock(memory.mutex);
    if (memory.epoch != 0) return decide(memory, guard);
  }
  return admit(key, read(key).epoch, lease, guard);
}

Admission Server::admit(const Key& key, const std::optional<Item>& item, milliseconds lease,
                        RestartGuard guard) {
  Memory& memory = memory_.get();
  Admission admission;
  std::optional<milliseconds> restart;
  {
    const MutexLock lock(memory.mutex);
    const bool as_before =
        item && item->value == memory.epoch_text && lease <= memory.longest_lease;
    const std::uint64_t epoch = as_before ? memory.epoch : settle(key, memory, item, lease);
    if (epoch != memory.epoch) {
      memory.follows_another = memory.epoch != 0;
      memory.epoch = epoch;
      memory.first_seen = Clock::now();
      memory.waited_out = false;
      if (memory.follows_another) restart = memory.longest_lease;
    }
    admission = decide(memory, guard);
    memory.longest_lease = std::max(memory.longest_lease, lease);
  }
  if (restart && options_.observer) {
    Event event;
    event.kind = EventKind::restart_seen;
    event.server = name_;
    event.duration = *restart;
    event.token = FencingToken{admission.epoch, 0};
    tell_observer(options_, [&](Observer& observer) { observer.on_event(event); });
  }
  return admission;
}

/// Brings the epoch item to what it must be: there, no lower than any seen, its longest lease no
/// shorter than `lease` and any known. No request where it is so already.
std::uint64_t Server::settle(const Key& key, Memory& memory, std::optional<Item> item,
                             milliseconds lease) {
  constexpr int most_tries = 8;  // each failed one means that another client changed it
  for (int tries = 0; tries < most_tries; ++tries) {
    if (item && item->cas.id == 0) {
      throw ServerError(fmt::format("{} runs without compare-and-swap, so locks could not be "
                                    "released safely: start memcached without -C (--disable-cas)",
                                    name_),
                        key.text(), name_);
    }
    const std::optional<Epoch> found = item ? Epoch::parse(item->value) : std::nullopt;
    if (found) memory.longest_lease = std::max(memory.longest_lease, found->longest_lease);
    Epoch wanted{0, std::max(memory.longest_lease, lease)};
    if (found && found->number >= memory.epoch) {
      if (found->longest_lease >= wanted.longest_lease) {
        memory.epoch_text = item->value;
        return found->number;
      }
      wanted.number = found->number;
    } else {
      wanted.number = std::max(static_cast<std::uint64_t>(wall_clock().count()), memory.epoch + 1);
    }
    const bool create = !item;
    const View view = ask(key.text(), longest, [&](Connection& connection) {
      constexpr std::time_t forever = 0;
      const std::string value = wanted.encode();
      return create ? connection.add_and_read(epoch_key_, epoch_key_, value, forever)
                    : connection.cas_and_read(epoch_key_, epoch_key_, value, forever, item->cas);
    });
    item = view.lock;
    if (create && item && item->cas.id == 0) {
      ask(key.text(), longest, [&](Connection& connection) {
        connection.remove(epoch_key_);  // leave such a server as it was
        return 0;
      });
    }
  }
  throw ServerError(fmt::format("{} does not keep what it is given: is its memory full (-M), or "
                                "are its items evicted at once? Give it more memory (-m)",
                                name_),
                    key.text(), name_);
}

Admission Server::decide(Memory& memory, RestartGuard guard) const {
  Admission admission{true, memory.epoch, {}};
  const bool guarded =
      guard == RestartGuard::strict || (guard == RestartGuard::known && memory.follows_another);
  if (!guarded || memory.waited_out) return admission;

  // A lease given before the restart ends within the longest one after it. The epoch's age by
  // the wall clock counts only while that clock has not been set.
  const auto now = Clock::now();
  Clock::time_point open_at = memory.first_seen + memory.longest_lease;
  const nanoseconds drift = std::chrono::abs(clock_offset() - clock_offset_);
  if (drift < clock_skew) {
    const nanoseconds age = wall_clock() - nanoseconds(memory.epoch);
    open_at = std::min(open_at, now + memory.longest_lease + clock_skew - age);
  }
  admission.retry_at = open_at;
  // Decided once: a longer lease that somebody uses from now on was not given before the restart.
  admission.open = memory.waited_out = now >= open_at;
  return admission;
}

std::optional<Record> record_in(const std::optional<Item>& item) {
  return item ? Record::parse(item->value) : std::nullopt;
}

void reject_item(const Key& key, const Server& server) {
  throw ServerError(
      fmt::format("the item \"{}\" on {} is no lock: something else uses this name; choose "
                  "another key, or another ClientOptions::prefix",
                  key.item(), server.name()),
      key.text(), server.name());
}

}  // namespace memcachedlock::detail
