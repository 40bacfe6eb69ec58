// memcachedlock doctor: is this memcached fit for locks?
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/exit_status.hpp"
#include "cli/show.hpp"
#include "cli/streams.hpp"
#include "memcachedlock/diagnosis.hpp"

namespace memcachedlock::cli {

namespace {

enum class Severity { ok, warning, error };

struct Finding {
  Severity severity;
  std::string text;
};

std::vector<Finding> judge(const Diagnosis& found) {
  std::vector<Finding> findings;
  const auto warn = [&](std::string text) {
    findings.push_back({Severity::warning, std::move(text)});
  };
  if (!found.trouble.empty()) return {{Severity::error, printable(found.trouble)}};
  if (!found.compare_and_swap) {
    findings.push_back({Severity::error,
                        "compare-and-swap is off, so no lock can be acquired: start memcached "
                        "without -C (--disable-cas)"});
  }
  if (!found.differs.empty()) {
    findings.push_back({Severity::error, printable(found.differs)});
  }
  if (found.evictions > 0) {
    warn(
        fmt::format("it has thrown out {} items for want of memory; locks may have been among "
                    "them: give locks a memcached of their own, or start this one with -M, and "
                    "with more memory (-m)",
                    found.evictions));
  } else if (found.evicts) {
    warn(
        "when its memory is full it throws items out, and locks may be among them: give locks a "
        "memcached of their own, or start this one with -M");
  }
  if (found.out_of_memory > 0) {
    warn(fmt::format("it has refused {} items for want of memory; give it more (-m)",
                     found.out_of_memory));
  }
  constexpr double full = 0.9;
  if (static_cast<double>(found.memory_used) > full * static_cast<double>(found.memory)) {
    warn(fmt::format("{} of {} are in use; give it more memory (-m)",
                     shown_bytes(found.memory_used), shown_bytes(found.memory)));
  }
  if (static_cast<double>(found.connections) > full * static_cast<double>(found.most_connections)) {
    warn(
        fmt::format("{} of {} connections are in use; raise -c, or lower "
                    "ClientOptions::connections",
                    found.connections, found.most_connections));
  }
  constexpr std::chrono::seconds far_off{10};
  if (std::chrono::abs(found.clock_offset) > far_off) {
    warn(
        fmt::format("its clock is {} {} ours: set the clocks (NTP), since ages shown for other "
                    "hosts' locks go by them",
                    shown(std::chrono::abs(found.clock_offset)),
                    found.clock_offset.count() > 0 ? "ahead of" : "behind"));
  }
  constexpr std::chrono::milliseconds slow{100};
  if (found.round_trip_p99 > slow) {
    warn(
        fmt::format("one request in a hundred takes {} or longer: look for a network far away, a "
                    "machine that swaps, or too few threads (-t)",
                    shown(found.round_trip_p99)));
  }
  if (found.notified == false) {
    warn(
        "waiters of this host can't be told that they hold a lock, and look for it more often: let "
        "UDP through to this host, or set MEMCACHEDLOCK_NOTIFY=off");
  }
  constexpr std::chrono::minutes young{1};
  if (found.uptime < young) {
    warn(
        fmt::format("it was started {} ago; locks from before are gone, and clients that knew it "
                    "wait until old leases have ended",
                    shown(found.uptime)));
  }
  return findings;
}

/// What is another server on each host, under one name.
bool is_local(const ServerAddress& server) {
  return server.is_unix_socket() || server.host == "localhost" || server.host == "::1" ||
         server.host.starts_with("127.");
}

/// Of a list as a whole.
std::vector<Finding> judge(const std::vector<ServerAddress>& list) {
  const auto local = std::find_if(list.begin(), list.end(), is_local);
  const bool any_remote = !std::all_of(list.begin(), list.end(), is_local);
  if (local == list.end() || !any_remote) return {};
  return {
      {Severity::warning,
       fmt::format("{} is another server on each host, and the others are not: where clients of "
                   "several hosts use this list, give it by an address that all can reach",
                   local->to_string())}};
}

Severity worst(const std::vector<Finding>& findings) {
  Severity result = Severity::ok;
  for (const Finding& finding : findings) result = std::max(result, finding.severity);
  return result;
}

std::string facts(const Diagnosis& found) {
  return fmt::format(
      "  memcached {}, up {}, {}\n"
      "  round trip p50 {}, p99 {}\n"
      "  compare-and-swap {}, memory full: {}, {} of {} used, {} items, {} evictions\n"
      "  connections {} of {}, login {}, clock {:+} s, waiters {}\n"
      "  clients lock by {}\n",
      printable(found.version), shown(found.uptime),
      found.used ? "used by locks" : "not used by locks yet", shown(found.round_trip_p50),
      shown(found.round_trip_p99), found.compare_and_swap ? "on" : "off",
      found.evicts ? "evicts" : "refuses (-M)", shown_bytes(found.memory_used),
      shown_bytes(found.memory), found.items, found.evictions, found.connections,
      found.most_connections, found.login ? "asked for (SASL)" : "none", found.clock_offset.count(),
      !found.notified   ? "not told (off)"
      : *found.notified ? "told"
                        : "not told",
      found.list.empty() ? "no list yet" : printable(found.list));
}

nlohmann::json to_json(const ServerAddress& server, const Diagnosis& found,
                       const std::vector<Finding>& findings) {
  nlohmann::json result{{"server", server.to_string()}, {"reachable", found.trouble.empty()}};
  if (found.trouble.empty()) {
    using Microseconds = std::chrono::duration<double, std::micro>;
    result.update({{"version", found.version},
                   {"round_trip_p50_us", Microseconds(found.round_trip_p50).count()},
                   {"round_trip_p99_us", Microseconds(found.round_trip_p99).count()},
                   {"uptime_s", found.uptime.count()},
                   {"clock_offset_s", found.clock_offset.count()},
                   {"used", found.used},
                   {"compare_and_swap", found.compare_and_swap},
                   {"evicts", found.evicts},
                   {"evictions", found.evictions},
                   {"out_of_memory", found.out_of_memory},
                   {"memory", found.memory},
                   {"memory_used", found.memory_used},
                   {"items", found.items},
                   {"connections", found.connections},
                   {"most_connections", found.most_connections},
                   {"login", found.login},
                   {"list", printable(found.list)}});
    if (found.notified) result["notified"] = *found.notified;
  }
  result["findings"] = nlohmann::json::array();
  for (const Finding& finding : findings) {
    result["findings"].push_back(
        {{"severity", finding.severity == Severity::error ? "error" : "warning"},
         {"text", finding.text}});
  }
  return result;
}

}  // namespace

int doctor(const CommonOptions& common) {
  const MemcachedClient client = common.connect();
  Severity overall = Severity::ok;
  nlohmann::json all = nlohmann::json::array();
  const auto of_list = judge(client.servers());
  for (const ServerAddress& server : client.servers()) {
    const Diagnosis found = diagnose(client, server);
    auto findings = judge(found);
    if (is_local(server)) findings.insert(findings.end(), of_list.begin(), of_list.end());
    overall = std::max(overall, worst(findings));
    all.push_back(to_json(server, found, findings));
    if (common.json) continue;
    print(fmt::format("{}\n", coloured(server.to_string(), Colour::bold, common.colour)));
    if (found.trouble.empty()) print(facts(found));
    for (const Finding& finding : findings) {
      const bool error = finding.severity == Severity::error;
      print(fmt::format("  {} {}\n",
                        coloured(error ? "error:" : "warning:",
                                 error ? Colour::red : Colour::yellow, common.colour),
                        finding.text));
    }
    if (findings.empty())
      print(fmt::format("  {}\n", coloured("ok", Colour::green, common.colour)));
  }
  if (common.json) print(fmt::format("{}\n", text(all)));
  return overall == Severity::error     ? status::bad_server
         : overall == Severity::warning ? status::no
                                        : status::fine;
}

}  // namespace memcachedlock::cli
