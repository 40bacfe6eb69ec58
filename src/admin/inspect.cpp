#include "memcachedlock/inspect.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <span>
#include <utility>

#include "admin/key_listing.hpp"
#include "lock/remove_token.hpp"
#include "memcachedlock/error.hpp"
#include "server/cluster.hpp"
#include "wire/record.hpp"
#include "wire/server_item.hpp"

namespace memcachedlock {

namespace {

using std::chrono::milliseconds;

/// Anybody may have written a record, and terminals obey control bytes.
std::string printable(std::string_view text) {
  std::string result(text);
  std::replace_if(
      result.begin(), result.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return result;
}

/// Takes a number off the end of "host:pid:thread".
int last_number(std::string_view& text) {
  const auto colon = text.rfind(':');
  int number = 0;
  if (colon == std::string_view::npos) return number;
  std::from_chars(text.data() + colon + 1, text.data() + text.size(), number);
  text = text.substr(0, colon);
  return number;
}

Participant participant(const detail::Entry& entry) {
  Participant result;
  result.token = entry.token;
  std::string_view place = entry.label();
  result.thread = last_number(place);
  result.pid = last_number(place);
  result.host = printable(place);
  return result;
}

/// Nothing when there is no record.
std::optional<LockStatus> status_of(detail::Server& server, const Key& key,
                                    const detail::Snapshot& snapshot) {
  const auto record = detail::record_in(snapshot.lock);
  if (!record) return std::nullopt;
  LockStatus status;
  status.key = key.text();
  status.item = key.item();
  status.server = server.name();
  if (record->entries.empty()) return std::nullopt;  // released just now
  const detail::Entry& first = record->entries.front();
  status.reserved = first.reserved;
  if (first.owner().starts_with("n:")) status.owner = printable(first.owner().substr(2));
  for (std::size_t at = 0; at < record->entries.size(); ++at) {
    auto& all = at < record->holders() ? status.holders : status.waiters;
    all.push_back(participant(record->entries[at]));
  }
  status.timeout = first.lease;
  status.usual_hold = record->hold.usual;
  status.releases = record->hold.releases;
  if (first.confirmed) {
    const milliseconds age = std::max(detail::wall_clock_now() - first.since, milliseconds(0));
    if (first.since.count() != 0) status.held_for = age;
    const milliseconds left = first.count == 0 ? first.lease - age : server.time_left(first.end);
    status.lease_left = std::clamp(left, milliseconds(0), first.lease);
  }
  const bool knows_epoch = snapshot.server_item && snapshot.server_item->item;
  // The id of an item to which nothing was appended is that of the acquire.
  if (first.fence) {
    status.token = first.fence;
  } else if (knows_epoch && first.confirmed && first.count == 0 && record->expiry == first.end &&
             record->encode() == snapshot.lock->value) {
    status.token = {snapshot.server_item->item->number, snapshot.lock->cas.id};
  }
  return status;
}

}  // namespace

std::optional<LockStatus> inspect(const MemcachedClient& client, std::string_view text,
                                  std::string_view scope) {
  detail::Cluster& cluster = detail::Cluster::of(client);
  const Key key(client.options().prefix, scope, text);
  detail::Agreement& agreement = cluster.agreement();
  constexpr int max_changes = 4;  // of the list of servers, meanwhile
  for (int tries = 0;; ++tries) {
    detail::Server& server = cluster.server_of(key);
    const detail::Snapshot snapshot = server.read(key);
    agreement.check(server, snapshot.server_item, key);
    if (&server != &cluster.server_of(key) && tries < max_changes) continue;
    auto status = status_of(server, key, snapshot);
    if (snapshot.lock && !detail::record_in(snapshot.lock)) {
      detail::reject_item(key, server, snapshot.lock->value);
    }
    if (status) status->key = text;  // not shortened
    if (status && agreement.view().next != nullptr) {
      const std::string& next = agreement.view().next->server_of(key).name();
      if (next != server.name()) status->moves_to = next;
    }
    return status;
  }
}

std::vector<LockStatus> list_locks(const MemcachedClient& client, const ServerAddress& address,
                                   milliseconds limit) {
  detail::Cluster& cluster = detail::Cluster::of(client);
  const std::string& prefix = client.options().prefix;
  std::vector<Key> keys;
  {
    detail::Server& server = cluster.server_at(address);
    cluster.agreement().check(server, server.read_item({}).found, Key(prefix, {}, "list"));
  }
  for (const std::string& item : detail::list_items(address, client.options(), prefix, limit)) {
    auto key = Key::from_item(prefix, item);
    // The others were left by clients with another list of servers.
    if (key && cluster.server_of(*key).address() == address) keys.push_back(*std::move(key));
  }
  std::vector<LockStatus> locks;
  constexpr std::size_t most = detail::Connection::max_keys - 1;  // and the server's item
  for (std::span<const Key> left(keys); !left.empty();) {
    const auto part = left.first(std::min(most, left.size()));
    detail::Server& server = cluster.server_at(address);
    const auto snapshots = server.read_all(part);
    for (std::size_t at = 0; at < part.size(); ++at) {
      auto status = status_of(server, part[at], snapshots[at]);
      if (status) locks.push_back(*std::move(status));
    }
    left = left.subspan(part.size());
  }
  std::sort(locks.begin(), locks.end(),
            [](const LockStatus& one, const LockStatus& other) { return one.key < other.key; });
  return locks;
}

Broken break_lock(const MemcachedClient& client, const LockStatus& status) {
  detail::Cluster& cluster = detail::Cluster::of(client);
  const auto key = Key::from_item(client.options().prefix, status.item);
  if (!key) {
    throw InvalidKey(
        fmt::format("\"{}\" is no lock of this client: it has another prefix", status.item),
        status.key, status.server);
  }
  detail::Server& server = cluster.server_of(*key);
  Broken outcome = Broken::changed;
  for (const Participant& holder : status.holders) {
    for (int tries = 0; tries < detail::max_tries; ++tries) {
      const auto record = detail::record_in(server.read_lock(*key).lock);
      const detail::Entry* const entry = record ? record->find(holder.token) : nullptr;
      if (entry == nullptr || !record->holds(holder.token)) break;
      if (!detail::take_out(server, *key, holder.token, entry->count)) continue;  // renewed since
      outcome = Broken::freed;
      break;
    }
  }
  return outcome;
}

}  // namespace memcachedlock
