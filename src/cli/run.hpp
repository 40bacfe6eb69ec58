// memcachedlock run: a command under a lock.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/options.hpp"
#include "memcachedlock/options.hpp"

namespace memcachedlock::cli {

enum class OnLost { term, kill, ignore };

struct RunOptions {
  std::string key;
  std::vector<std::string> command;
  std::optional<milliseconds> wait;  ///< nothing: as long as it takes; 0: not at all
  milliseconds timeout{30'000};
  OnLost on_lost = OnLost::term;
  milliseconds grace{10'000};
  int conflict_status = 1;
};

/// The status to exit with; where the command was ended by a signal, ends by the same one.
int run(const CommonOptions& common, const RunOptions& options);

}  // namespace memcachedlock::cli
