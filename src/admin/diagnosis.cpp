#include "memcachedlock/diagnosis.hpp"

#include <algorithm>
#include <charconv>
#include <vector>

#include "base/process.hpp"
#include "memcachedlock/error.hpp"
#include "server/cluster.hpp"
#include "server/inbox.hpp"
#include "server/mailbox.hpp"
#include "waiting/waker.hpp"

namespace memcachedlock {

namespace {

using detail::Clock;
using std::chrono::seconds;

std::uint64_t number(const detail::Statistics& statistics, const char* name) {
  std::uint64_t result = 0;
  const auto found = statistics.find(name);
  if (found == statistics.end()) return result;
  std::from_chars(found->second.data(), found->second.data() + found->second.size(), result);
  return result;
}

std::string text(const detail::Statistics& statistics, const char* name) {
  const auto found = statistics.find(name);
  return found != statistics.end() ? found->second : std::string();
}

seconds count(const detail::Statistics& statistics, const char* name) {
  // What it says is shown, and nanoseconds of it must not overflow.
  constexpr std::uint64_t most = 9'000'000'000;  // 285 years
  return seconds(static_cast<std::int64_t>(std::min(number(statistics, name), most)));
}

void measure(detail::Server& server, const Key& key, int rounds, Diagnosis& result) {
  std::vector<std::chrono::nanoseconds> times;
  times.reserve(static_cast<std::size_t>(rounds));
  for (int round = 0; round < rounds; ++round) {
    const auto started = Clock::now();
    (void)server.read_lock(key);
    times.emplace_back(Clock::now() - started);
  }
  std::sort(times.begin(), times.end());
  if (times.empty()) return;
  result.round_trip_p50 = times[times.size() / 2];
  result.round_trip_p99 = times[times.size() * 99 / 100];
}

/// Whether what is sent to this process where it says that it is told does come.
bool hears_itself(detail::Server& server, const Key& key) {
  constexpr seconds patience{1};
  detail::Entry entry;
  entry.token = detail::next_token();
  entry.told_at = server.told_at(key);
  detail::ThreadWaker waker;
  const detail::Inbox inbox(entry.token, [&] { waker.wake(); });
  detail::Mailbox& mailbox = server.mailbox();
  if (!mailbox.is_open()) return false;
  mailbox.send(entry, {});
  const auto until = Clock::now() + patience;
  while (!inbox.is_told() && Clock::now() < until) waker.wait_until(until, &mailbox);
  return inbox.is_told();
}

}  // namespace

Diagnosis diagnose(const MemcachedClient& client, const ServerAddress& address, int rounds) {
  Diagnosis result;
  detail::Server& server = detail::Cluster::of(client).server_at(address);
  try {
    const std::string& prefix = client.options().prefix;
    const auto general = server.statistics("");
    const auto settings = server.statistics("settings");
    const auto now = std::chrono::floor<seconds>(std::chrono::system_clock::now());
    result.version = text(general, "version");
    result.uptime = count(general, "uptime");
    result.clock_offset = count(general, "time") - now.time_since_epoch();
    result.compare_and_swap = text(settings, "cas_enabled") != "no";
    result.evicts = text(settings, "evictions") != "off";
    result.login = text(settings, "auth_enabled_sasl") == "yes" ||
                   text(settings, "auth_enabled_ascii") == "yes";
    result.evictions = number(general, "evictions");
    result.out_of_memory = number(general, "store_no_memory");
    result.memory = number(general, "limit_maxbytes");
    result.memory_used = number(general, "bytes");
    result.items = number(general, "curr_items");
    result.connections = number(general, "curr_connections");
    result.most_connections = number(settings, "maxconns");

    // Not a key of any user: a scope can't be empty, and the word would be hashed.
    const Key unused = *Key::from_item(prefix, prefix + "^doctor");
    measure(server, unused, rounds, result);
    const auto item = server.read(unused).server_item;
    result.used = item.has_value();
    if (item && item->item) result.list = item->item->lists();
    try {
      detail::Agreement& agreement = detail::Cluster::of(client).agreement();
      agreement.check(server, item, unused);
      agreement.check_addresses(server, unused);
    } catch (const ServerError& error) {
      result.differs = error.what();
    }
    if (server.notifies()) result.notified = hears_itself(server, unused);
  } catch (const Error& error) {
    result.trouble = error.what();
  }
  return result;
}

Traffic traffic(const MemcachedClient& client, const ServerAddress& address) {
  const auto general = detail::Cluster::of(client).server_at(address).statistics("");
  Traffic result;
  result.reads = number(general, "cmd_get");
  result.writes = number(general, "cmd_set");
  result.swaps = number(general, "cas_hits");
  result.refused_swaps = number(general, "cas_badval");
  result.evictions = number(general, "evictions");
  result.uptime = count(general, "uptime");
  return result;
}

}  // namespace memcachedlock
