// The commands that show locks and servers; each returns the status to exit with.
#pragma once

#include <string>

#include "cli/options.hpp"
#include "memcachedlock/move_servers.hpp"

namespace memcachedlock::cli {

int inspect_lock(const CommonOptions& common, const std::string& key);

struct ListOptions {
  bool names = false;  ///< nothing else, one a line, as they can be given to the other commands
  milliseconds within{60'000};
};
/// A server that can't be listed is reported, and those of the others are shown.
int list(const CommonOptions& common, const ListOptions& options);

/// Asks on the terminal before it frees the lock, unless `yes`.
int break_lock(const CommonOptions& common, const std::string& key, bool yes);

int doctor(const CommonOptions& common);

int show_servers(const CommonOptions& common);

struct MoveServersOptions {
  std::string to;  ///< the new list
  MoveOptions move;
  bool yes = false;
};
/// Asks on the terminal before it begins, unless `yes`.
int move_servers(const CommonOptions& common, const MoveServersOptions& options);

struct TopOptions {
  milliseconds interval{1'000};
  int count = 0;  ///< how often it is shown; 0: until it is ended
};
int top(const CommonOptions& common, const TopOptions& options);

}  // namespace memcachedlock::cli
