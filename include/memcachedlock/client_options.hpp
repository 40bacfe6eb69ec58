// How to reach the servers.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "memcachedlock/observer.hpp"

namespace memcachedlock {

/// How requests are written. Both do the same.
enum class Protocol {
  text,   ///< people can read it on the wire; no login
  binary  ///< needed for a login (SASL)
};

/// How to reach the servers. Checked by MemcachedClient, which throws InvalidOption.
struct ClientOptions {
  /// Longest wait for a connection, and before it for the look-up of the host's name; more than 0.
  std::chrono::milliseconds connect_timeout{1'000};
  /// Longest wait for the answer to a request, and before it for a free connection of the pool;
  /// more than 0. A server that sends its answer byte by byte can stretch it to twice that. No
  /// signal is delivered to the waiting thread meanwhile.
  std::chrono::milliseconds operation_timeout{1'000};
  /// For how long at least RestartGuard waits after a server has lost its memory. It waits for the
  /// longest lease that this client has seen there; but others may have taken a longer one since,
  /// or before it first asked. Where all leases are shorter, the longest of them is enough; 0 or
  /// more.
  std::chrono::milliseconds restart_window{30'000};
  /// In front of every key; printable ASCII without spaces and '^', at most 64 bytes.
  std::string prefix = "memcachedlock:";
  /// All clients of a server may choose as they like.
  Protocol protocol = Protocol::text;
  /// Log in with SASL, which needs Protocol::binary and TCP; no login where it is empty.
  std::string sasl_user = {};
  /// The password of `sasl_user`. Never appears in errors or logs.
  std::string sasl_password = {};
  /// Most connections to one server; at least 1. The background threads have up to four more.
  std::size_t connections = 8;
  /// Let other processes tell this one by a datagram that it holds a lock for which it has waited,
  /// and tell them. Opens a UDP socket, when it first waits, at the address from which it reaches
  /// the server. Without it, it looks at the lock more often, and is told nothing. The environment
  /// variable MEMCACHEDLOCK_NOTIFY=off switches it off too. Whoever can read memcached's traffic
  /// can make a waiter believe that it holds a lock: see the guide.
  bool notify = true;
  /// Notified of every event. Copies of the client and its background work keep it alive.
  std::shared_ptr<Observer> observer = {};
};

}  // namespace memcachedlock
