#include "server/server.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <system_error>
#include <type_traits>
#include <utility>

#include "base/signal_mask.hpp"
#include "memcachedlock/error.hpp"
#include "server/notify_observer.hpp"
#include "server/probe.hpp"
#include "server/resolver.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

// One for each background thread that may ask a server: its own two, and those of observers that
// ask something themselves.
constexpr std::size_t background_connections = 4;

constexpr std::time_t latest_ttl = 2'592'000;  // beyond it memcached takes an absolute time
// Its text protocol takes no later one, but anybody may have written one into a record.
constexpr std::int64_t latest_expiry = std::numeric_limits<std::int32_t>::max();

}  // namespace

Server::Server(ServerAddress address, const ClientOptions& options)
    : address_(std::move(address)),
      name_(address_.to_string()),
      options_(options),
      item_key_(Key::server_item(options.prefix)) {}

void Server::raise(const Failure& failure, std::string_view key) {
  const std::string concerned = key.empty() ? "" : fmt::format(" (key \"{}\")", key);
  // Whether it is memcached is known once it was.
  const bool known = epochs().knows_any();
  if (failure.kind != Failure::Kind::timeout && !TimerThread::is_background()) {
    if (const auto cause = known && failure.kind == Failure::Kind::disconnected
                               ? std::nullopt
                               : who_answers(address_, options_)) {
      const std::string what = fmt::format("{} {}{}", name_, cause->text, concerned);
      if (cause->passes) throw Unavailable(what, std::string(key), name_);
      throw ServerError(what, std::string(key), name_);
    }
  }
  if (failure.kind == Failure::Kind::refused) {
    throw ServerError(fmt::format("{} does not answer as memcached does: {}; check the address and "
                                  "ClientOptions::protocol{}",
                                  name_, failure.what(), concerned),
                      std::string(key), name_);
  }
  // A server that waits for more of a request that it does not understand is as silent as one that
  // is down.
  throw Unavailable(
      fmt::format("{} is unavailable: {}; check that memcached runs there, that the network lets "
                  "it through, and whether it asks for a login or speaks another protocol (-B){}",
                  name_, failure.what(), concerned),
      std::string(key), name_);
}

void Server::raise_full(const Key& key) const {
  throw ServerError(fmt::format("{} does not keep what it is given: is its memory full (-M), or "
                                "are its items evicted at once? Give it more memory (-m)",
                                name_),
                    key.text(), name_);
}

ConnectionPool& Server::pool() {
  return TimerThread::is_background()
             ? background_pool_.get(address_, options_, background_connections)
             : pool_.get(address_, options_, options_.connections);
}

template <class Request>
auto Server::ask(std::string_view key, milliseconds limit, Request&& request) {
  const milliseconds max_wait = std::clamp(limit, milliseconds(1), options_.operation_timeout);
  for (bool again = false;; again = true) {
    std::optional<ConnectionPool::PooledConnection> pooled;
    try {
      pooled = pool().borrow(max_wait);
    } catch (const std::system_error& error) {
      throw Unavailable(fmt::format("{} was not asked: the thread that limits requests can't be "
                                    "made ({}); raise the limit of threads",
                                    name_, error.what()),
                        std::string(key), name_);
    }
    if (!pooled) {
      throw Unavailable(fmt::format("{}: all {} connections were in use for {} ms; raise "
                                    "ClientOptions::connections or look why the server is slow",
                                    name_, options_.connections, max_wait.count()),
                        std::string(key), name_);
    }
    std::optional<Failure> trouble;
    std::optional<std::invoke_result_t<Request&, Connection&>> answer;
    Clock::duration took{};
    {
      const SignalMask none;
      try {
        (*pooled)->begin(max_wait);
        const auto started = options_.observer ? Clock::now() : Clock::time_point{};
        answer.emplace(request(**pooled));
        if (options_.observer) took = Clock::now() - started;
        (*pooled)->end();
        pooled->keep();
      } catch (const Failure& failure) {
        trouble = failure;
      }
    }
    if (answer) {
      if (!pooled->used_before()) note_address((*pooled)->peer());
      pooled.reset();  // before anybody is told, who may ask something himself
      notify_observer(options_, [&](Observer& observer) { observer.on_round_trip(name_, took); });
      return *std::move(answer);
    }
    const bool used_before = pooled->used_before();
    // Those that were idle as long are no better.
    if (used_before && trouble->kind != Failure::Kind::refused) pooled->discard_idle();
    pooled.reset();
    if (trouble->kind != Failure::Kind::disconnected || !used_before || again) raise(*trouble, key);
  }
}

void Server::read_clock(Connection& connection) { clock_.get().add(connection.read_clock()); }

std::time_t Server::expiry(Connection& connection, milliseconds lease) {
  ServerClock& clock = clock_.get();
  if (!connection.has_read_clock() || clock.wants_reading(Clock::now())) read_clock(connection);
  return clock.expiry(lease);
}

std::int64_t Server::end_of(Connection& connection, milliseconds lease) {
  const std::time_t end = expiry(connection, lease);
  return end > latest_ttl ? end : 0;
}

std::int64_t Server::end_of(milliseconds lease) {
  const std::time_t end = clock_.get().expiry(lease);
  return end > latest_ttl ? end : 0;
}

std::time_t Server::date(Connection& connection, Record& record, const Term& term) {
  std::time_t item = expiry(connection, term.item);
  std::int64_t end = 0;
  if (Entry* const entry = term.holder.empty() ? nullptr : record.find(term.holder)) {
    entry->end = end = end_of(term.lease);
  }
  if (item > latest_ttl) {
    // The clock has gone on between the two.
    item = std::max(item, static_cast<std::time_t>(end));
    // Never earlier than it was: others count on it.
    item = std::max(item, static_cast<std::time_t>(std::min(record.expiry, latest_expiry)));
    record.expiry = item;
  } else {
    record.expiry = 0;
  }
  return item;
}

Snapshot Server::add_and_read(const Key& key, Record& record, const Term& term, bool& stored) {
  return ask(key.text(), longest, [&](Connection& connection) {
    const std::time_t expires = date(connection, record, term);
    const std::string_view value = connection.encoded(record);
    stored = true;
    return connection.add_and_read(key.item(), item_key_, value, expires);
  });
}

Snapshot Server::cas_and_read(const Key& key, Record& record, const Term& term, const Cas& cas,
                              bool& stored, milliseconds limit) {
  return ask(key.text(), limit, [&](Connection& connection) {
    if (!connection.may_use(cas)) return read_with_item(connection, key);
    const std::time_t expires = date(connection, record, term);
    const std::string_view value = connection.encoded(record);
    stored = true;
    return connection.cas_and_read(key.item(), item_key_, value, expires, cas);
  });
}

Rewritten Server::write_and_read_all(const std::vector<Rewrite>& all, milliseconds limit) {
  return ask(all.front().key->text(), limit, [&](Connection& connection) {
    std::vector<std::string> values;
    std::vector<Connection::Rewrite> requests;
    values.reserve(all.size());
    requests.reserve(all.size());
    for (const Rewrite& one : all) {
      if (one.words) {
        std::string& text = values.emplace_back();
        one.words(text, {end_of(connection, one.term.lease), {}});
        requests.push_back({one.key->item(), text, 0, {}, true});
      } else {
        const std::time_t expires = date(connection, *one.record, one.term);
        values.push_back(one.record->encode());
        requests.push_back({one.key->item(), values.back(), expires, one.cas});
      }
    }
    return connection.write_and_read_all(requests, item_key_);
  });
}

Snapshot Server::read(const Key& key, milliseconds limit) {
  return ask(key.text(), limit,
             [&](Connection& connection) { return read_with_item(connection, key); });
}

/// What the server's item says counts only where it is known which start of it that is.
Snapshot Server::read_with_item(Connection& connection, const Key& key) {
  if (!connection.has_read_clock()) read_clock(connection);
  return connection.read(key.item(), item_key_);
}

std::vector<Snapshot> Server::read_all(std::span<const Key> keys, milliseconds limit) {
  std::vector<std::string_view> items;
  items.reserve(keys.size());
  for (const Key& key : keys) items.emplace_back(key.item());
  return ask(keys.front().text(), limit,
             [&](Connection& connection) { return connection.read_all(items, item_key_); });
}

Snapshot Server::read_lock(const Key& key) {
  return ask(key.text(), longest,
             [&](Connection& connection) { return connection.read(key.item()); });
}

Snapshot Server::append_and_read(const Key& key, milliseconds lease, const Words& words,
                                 bool& stored) {
  bool sent = false;
  return ask(key.text(), longest, [&](Connection& connection) {
    std::string text;
    const std::string told_at = options_.notify ? mailbox().address(connection.peer()) : "-";
    words(text, {end_of(connection, lease), told_at});
    stored = true;
    const bool again = std::exchange(sent, true);
    Snapshot snapshot = connection.append_and_read(key.item(), item_key_, text);
    snapshot.sent_again = again;
    return snapshot;
  });
}

CasResult Server::compare_and_swap(const Key& key, Record& record, const Term& term,
                                   const Cas& cas) {
  bool sent = false;
  return ask(key.text(), longest, [&](Connection& connection) {
    if (!connection.may_use(cas)) return sent ? CasResult::unknown : CasResult::changed;
    const std::time_t expires = date(connection, record, term);
    const std::string_view value = connection.encoded(record);
    const bool again = std::exchange(sent, true);
    const CasResult outcome = connection.compare_and_swap(key.item(), value, expires, cas);
    return again && outcome != CasResult::done ? CasResult::unknown : outcome;
  });
}

CasResult Server::compare_and_delete(const Key& key, const Cas& cas) {
  bool sent = false;
  return ask(key.text(), longest, [&](Connection& connection) {
    if (!connection.may_use(cas)) return sent ? CasResult::unknown : CasResult::changed;
    const bool again = std::exchange(sent, true);
    const CasResult outcome = connection.compare_and_delete(key.item(), cas);
    return again && outcome != CasResult::done ? CasResult::unknown : outcome;
  });
}

Statistics Server::statistics(const char* which) {
  return ask({}, longest, [&](Connection& connection) { return connection.statistics(which); });
}

std::int64_t Server::time(const Key& key) {
  return ask(key.text(), longest, [&](Connection& connection) {
    const ClockReading reading = connection.read_clock();
    clock_.get().add(reading);
    return reading.time;
  });
}

std::chrono::seconds Server::time_left(std::int64_t end) {
  return std::chrono::seconds(std::max<std::int64_t>(end - clock_.get().latest_time(), 0));
}

bool Server::seems_past(std::int64_t time) { return clock_.get().seems_past(time); }

std::string Server::told_at(const Key& key) {
  return ask(key.text(), longest,
             [&](Connection& connection) { return mailbox().address(connection.peer()); });
}

void Server::tell_holders(const Record& record, const Snapshot& snapshot) {
  const std::size_t holders = record.holders();
  for (std::size_t at = 0; at < holders; ++at) {
    const Entry& holder = record.entries[at];
    if (holder.confirmed) continue;
    Grant grant;
    grant.cas = snapshot.lock->cas.id;
    if (snapshot.server_item && snapshot.server_item->item) {
      grant.item_id = snapshot.server_item->item->id;
      grant.item_cas = snapshot.server_item->cas.id;
    }
    grant.alone = record.entries.size() == 1;
    Record own;  // the tokens of the others are no business of the receiver's port
    own.expiry = record.expiry;
    own.entries = {holder};
    own.hold = record.hold;
    grant.record = own.encode();
    mailbox().tell(holder, grant, options_.notify);
  }
}

void Server::note_grant(GrantKind kind, bool by_datagram) {
  if (by_datagram) mailbox().note_told();
  if (kind == GrantKind::found) mailbox().note_found();
  const unsigned late = mailbox().take_late();
  notify_observer(options_, [&](Observer& observer) {
    observer.on_grant(name_, kind);
    for (unsigned count = 0; count < late; ++count) observer.on_grant(name_, GrantKind::late);
  });
}

void Server::note_failure(SharedFailure failure) {
  const MutexLock lock(failure_mutex_);
  failure_ = std::move(failure);
  failed_at_.store(Clock::now());
}

std::optional<SharedFailure> Server::failure_since(Clock::time_point time) const {
  if (failed_at_.load() < time) return std::nullopt;
  const MutexLock lock(failure_mutex_);
  return failure_;
}

bool Server::is_since(const Snapshot& snapshot, Clock::time_point time) {
  return epochs().is_since(snapshot.server_item ? snapshot.server_item->item.get() : nullptr, time);
}

SeenServer Server::read_item(std::string_view key, milliseconds limit) {
  return ask(key, limit, [&](Connection& connection) {
    if (!connection.has_read_clock()) read_clock(connection);
    return SeenServer{connection.read_item(item_key_), connection.start_number()};
  });
}

SeenServer Server::write_item(std::string_view key, const MakeItem& make,
                              const std::optional<Cas>& replaced) {
  return ask(key, longest, [&](Connection& connection) {
    constexpr std::time_t forever = 0;
    const ClockReading reading = connection.read_clock();
    clock_.get().add(reading);
    SeenServer seen{{}, connection.start_number()};
    const auto item = make(reading, clock_.get().latest_time());
    if (item && (!replaced || connection.may_use(*replaced))) {
      seen.found = connection.write_item(item_key_, item->encode(), forever, replaced);
    } else {
      seen.found = connection.read_item(item_key_);
    }
    return seen;
  });
}

std::uint64_t Server::time_number(std::chrono::seconds ahead) {
  return ask({}, longest, [&](Connection& connection) {
    const ClockReading reading = connection.read_clock();
    clock_.get().add(reading);
    return ClockReading{.time = reading.time + ahead.count()}.start_number();
  });
}

void Server::note_address(const std::string& address) {
  if (!addresses_mutex_.try_lock()) return;
  if (std::find(addresses_.begin(), addresses_.end(), address) == addresses_.end()) {
    constexpr std::size_t most = 8;
    if (addresses_.size() == most) addresses_.erase(addresses_.begin());
    addresses_.push_back(address);
  }
  addresses_mutex_.unlock();
}

std::vector<std::string> Server::all_addresses() {
  if (address_.is_unix_socket()) return {address_.host};
  std::vector<std::string> all;
  try {
    all = resolve(address_.host, options_.connect_timeout);
  } catch (const Failure&) {  // those that are known, then
  }
  if (!addresses_mutex_.try_lock()) return all;
  for (const std::string& address : addresses_) {
    if (std::find(all.begin(), all.end(), address) == all.end()) all.push_back(address);
  }
  addresses_mutex_.unlock();
  return all;
}

void Server::remove_item(std::string_view key) {
  ask(key, longest, [&](Connection& connection) {
    connection.remove(item_key_);
    return 0;
  });
}

std::optional<Record> record_in(const std::optional<Item>& item) {
  return item ? Record::parse(item->value) : std::nullopt;
}

void reject_item(const Key& key, const Server& server, std::string_view value) {
  if (Record::is_of_another_version(value)) {
    throw ServerError(
        fmt::format("the lock \"{}\" on {} was written by another version of memcachedlock, whose "
                    "records this one does not read; use one version for all clients of a server",
                    key.item(), server.name()),
        key.text(), server.name());
  }
  if (Record::is_of_this_version(value)) {
    throw ServerError(
        fmt::format(
            "the lock \"{}\" on {} can't be read: too many have written to it, or something "
            "else has; it can be used again once its item has expired or was deleted",
            key.item(), server.name()),
        key.text(), server.name());
  }
  throw ServerError(
      fmt::format("the item \"{}\" on {} is no lock: something else uses this name; choose "
                  "another key, or another ClientOptions::prefix",
                  key.item(), server.name()),
      key.text(), server.name());
}

}  // namespace memcachedlock::detail
