// Changing the list of servers while clients lock by it.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "memcachedlock/client.hpp"

namespace memcachedlock {

/// What a server says of the lists of servers that it is used in.
struct ServerState {
  std::string server;       ///< its address, as the lists write it
  std::string trouble;      ///< why it can't be asked, or what it keeps can't be read; else empty
  std::string list;         ///< by which clients lock; empty: none was ever used here
  std::string next;         ///< in a move, the new one; else empty
  bool in_use = false;      ///< the lists name it; else it was left out by a move
  bool confirmed = false;   ///< by all servers of the list; else nothing was locked
  std::string id;           ///< of its memory: another one means a restart or a flush
  std::uint64_t epoch = 0;  ///< of fencing tokens
  std::chrono::milliseconds longest_lease{0};  ///< in use
};

/// Of all servers that the client's list names, and those that these name. One `gets` each; writes
/// nothing. Thread safe. What goes wrong stands in ServerState::trouble.
[[nodiscard]] MEMCACHEDLOCK_EXPORT std::vector<ServerState> show_servers(
    const MemcachedClient& client);

/// How far a move is.
struct MoveProgress {
  /// Its steps, one after the other.
  enum class Step {
    begin,  ///< the servers learn both lists
    wait,   ///< until leases that were given by the old list alone are over; `left`: how long yet
    finish  ///< the servers learn that the new list alone is in force
  };
  Step step = Step::begin;            ///< the step
  std::chrono::milliseconds left{0};  ///< of wait
  std::string from;                   ///< the old list
  std::string to;                     ///< the new one
};

/// How to move.
struct MoveOptions {
  /// Which part of it. Between `begin` and `finish`, clients with either list may start, for as
  /// long as a rollout takes; a key that moves then costs four round trips in place of two.
  enum class Part {
    all,    ///< everything
    begin,  ///< until both lists are known
    finish  ///< the rest
  };
  Part part = Part::all;  ///< see above
  /// In place of the longest lease that is in use: the word of whoever calls that none runs longer.
  /// Never less than 2 s.
  std::optional<std::chrono::milliseconds> wait = {};
  /// Servers of the old list that are dead for good. Nobody can check that: they must be off or
  /// empty. Their keys are unavailable until the move has ended. In a move back to the old list,
  /// also those of the new one.
  std::vector<ServerAddress> gone = {};
  /// Called before each step, and about once a second while it waits; must not throw.
  std::function<void(const MoveProgress&)> progress = {};
  /// Ends it between two requests, with Cancelled. Where it has ended, it can be begun again.
  std::stop_token stop = {};
};

/// What a move came to.
enum class Moved {
  moved,   ///< the new list is in force
  begun,   ///< both are: MoveOptions::Part::begin
  already  ///< the new list was in force before
};

/// Makes all clients lock by the list `to`, without a pause: see the guide, "adding a server". The
/// client may have the old list or the new one. A move that has begun can be taken back by one to
/// the old list, until it has reached its last step. Where no server knows a list, all may have
/// lost their memory: then it waits for ClientOptions::restart_window first. It can be ended at any
/// moment, also by `kill -9`: what it leaves is safe for as long as you like, and whoever calls it
/// again goes on.
///
/// Two `gets` and two `cas` for each server of both lists, and a wait as long as the longest lease
/// in use. Throws before it writes anything: InvalidServers for a list that is none, ServerError
/// with all that is wrong with the servers at once, and when another move is under way; later
/// Unavailable, Cancelled.
MEMCACHEDLOCK_EXPORT Moved move_servers(const MemcachedClient& client, std::string_view to,
                                        const MoveOptions& options = {});

}  // namespace memcachedlock
