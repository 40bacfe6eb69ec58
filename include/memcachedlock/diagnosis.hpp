// Whether a server is fit for locks: what it tells of itself, and how fast it answers.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "memcachedlock/client.hpp"

namespace memcachedlock {

/// What was found out about one server.
struct Diagnosis {
  /// Why it can't be used at all, with what to do; else empty. Then nothing below is known.
  std::string trouble;

  std::string version;  ///< of memcached
  /// Of `rounds` requests one after the other over one open connection.
  std::chrono::nanoseconds round_trip_p50{0};
  std::chrono::nanoseconds round_trip_p99{0};  ///< likewise
  std::chrono::seconds uptime{0};              ///< since its start
  /// The server's wall clock less ours. It shows whole seconds, up to two late.
  std::chrono::seconds clock_offset{0};
  bool used = false;  ///< by locks, since it has last lost its memory

  /// Without it (-C) locks can't be released safely, and acquiring one fails.
  bool compare_and_swap = false;
  /// Makes room by throwing out what was not used for long, which may be a lock (no -M).
  bool evicts = false;
  std::uint64_t evictions = 0;  ///< since its start
  std::uint64_t out_of_memory =
      0;                          ///< requests that it refused for want of memory, since its start
  std::uint64_t memory = 0;       ///< bytes, as given with -m
  std::uint64_t memory_used = 0;  ///< bytes
  std::uint64_t items = 0;        ///< locks and whatever else
  std::uint64_t connections = 0;  ///< open now
  std::uint64_t most_connections = 0;  ///< as given with -c
  bool login = false;                  ///< asks for one (SASL)

  /// The list of servers that it is used in, `OLD > NEW` while that changes; empty if none yet.
  std::string list;
  /// Why this client and others do not agree about the servers; else empty.
  std::string differs;

  /// Whether this process can be told that it holds a lock, as a datagram has shown that it sent to
  /// itself. Others may still not reach it. Nothing where that is switched off.
  std::optional<bool> notified;
};

/// Asks a server of the client; writes nothing there. Waits up to a second for its own datagram.
/// Thread safe; `stats`, `stats settings` and `rounds` + 1 times `gets`. What goes wrong with the
/// server stands in Diagnosis::trouble; throws InvalidServers where it is none of the client's.
[[nodiscard]] MEMCACHEDLOCK_EXPORT Diagnosis diagnose(const MemcachedClient& client,
                                                      const ServerAddress& server,
                                                      int rounds = 100);

/// Counters of a server, since its start, for rates.
struct Traffic {
  std::uint64_t reads = 0;          ///< keys asked for by `get`, `gets`
  std::uint64_t writes = 0;         ///< all that store, also what was refused
  std::uint64_t swaps = 0;          ///< `cas` that succeeded: releases and renewals, for locks
  std::uint64_t refused_swaps = 0;  ///< `cas` that found another CAS id
  std::uint64_t evictions = 0;      ///< items thrown out for want of memory
  std::chrono::seconds uptime{0};   ///< when they were read
};

/// One `stats`. Thread safe. Throws Unavailable, ServerError, and InvalidServers where it is none
/// of the client's servers.
[[nodiscard]] MEMCACHEDLOCK_EXPORT Traffic traffic(const MemcachedClient& client,
                                                   const ServerAddress& server);

}  // namespace memcachedlock
