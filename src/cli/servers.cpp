// memcachedlock servers show, move.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/exit_status.hpp"
#include "cli/show.hpp"
#include "cli/streams.hpp"
#include "memcachedlock/error.hpp"
#include "memcachedlock/move_servers.hpp"

namespace memcachedlock::cli {

namespace {

std::string state_of(const ServerState& one) {
  if (!one.trouble.empty()) return "?";
  if (one.list.empty()) return "not used yet";
  if (!one.confirmed) return "not confirmed";
  if (!one.next.empty()) return one.in_use ? "moving" : "moving, left out";
  return one.in_use ? "in use" : "left out";
}

/// In one line: what all of them together are doing.
std::string summary(const std::vector<ServerState>& all) {
  std::vector<std::string> lists;
  for (const ServerState& one : all) {
    if (!one.in_use || !one.confirmed) continue;
    std::string list = one.next.empty() ? one.list : one.list + " > " + one.next;
    if (std::find(lists.begin(), lists.end(), list) == lists.end())
      lists.push_back(std::move(list));
  }
  if (lists.empty()) return "no list of servers was used here yet";
  if (lists.size() == 1) {
    const auto arrow = lists[0].find(" > ");
    if (arrow == std::string::npos) return "all lock by " + lists[0];
    return fmt::format("moving from {} to {}: memcachedlock servers move --to {} ends it",
                       lists[0].substr(0, arrow), lists[0].substr(arrow + 3),
                       lists[0].substr(arrow + 3));
  }
  std::string text = "they are used with several lists; in a move that is so for a moment:";
  for (const std::string& list : lists) text += "\n  " + list;
  return text;
}

nlohmann::json to_json(const ServerState& one) {
  nlohmann::json result{{"server", one.server}, {"state", state_of(one)}};
  if (!one.trouble.empty()) {
    result["trouble"] = printable(one.trouble);
    return result;
  }
  if (one.list.empty()) return result;
  result.update({{"list", one.list},
                 {"in_use", one.in_use},
                 {"confirmed", one.confirmed},
                 {"id", one.id},
                 {"epoch", one.epoch},
                 {"longest_lease_ms", one.longest_lease.count()}});
  if (!one.next.empty()) result["next"] = one.next;
  return result;
}

/// Tells how far it is: on a terminal in one line that changes.
class Reporter {
 public:
  ~Reporter() {
    if (in_line_) ask("\n");
  }
  void operator()(const MoveProgress& progress) {
    const auto now = std::chrono::steady_clock::now();
    switch (progress.step) {
      case MoveProgress::Step::begin:
        warn(fmt::format("all servers learn that {} follows {}", progress.to,
                         progress.from.empty() ? "nothing" : progress.from));
        break;
      case MoveProgress::Step::wait: {
        const std::string text =
            fmt::format("waiting until leases by the old list alone are over: {} left",
                        shown(std::chrono::ceil<std::chrono::seconds>(progress.left)));
        constexpr std::chrono::seconds between_lines{10};
        if (is_terminal_) {
          ask(fmt::format("\r{:<79}", text));
          in_line_ = true;
        } else if (now >= next_line_) {
          warn(text);
          next_line_ = now + between_lines;
        }
        break;
      }
      case MoveProgress::Step::finish:
        if (std::exchange(in_line_, false)) ask("\n");
        warn(fmt::format("all servers learn that {} alone is in force", progress.to));
        break;
    }
  }

 private:
  const bool is_terminal_ = isatty(STDERR_FILENO) != 0;
  bool in_line_ = false;
  std::chrono::steady_clock::time_point next_line_{};
};

}  // namespace

int show_servers(const CommonOptions& common) {
  const auto all = memcachedlock::show_servers(common.connect());
  int result = status::fine;
  for (const ServerState& one : all) {
    if (!one.trouble.empty()) {
      warn(printable(one.trouble));
      result = status::unavailable;
    }
  }
  if (common.json) {
    nlohmann::json servers = nlohmann::json::array();
    for (const ServerState& one : all) servers.push_back(to_json(one));
    print(text(servers) + '\n');
    return result;
  }
  std::vector<std::vector<std::string>> rows{{"SERVER", "STATE", "LONGEST LEASE", "LIST"}};
  for (const ServerState& one : all) {
    rows.push_back({one.server, state_of(one), one.list.empty() ? "" : shown(one.longest_lease),
                    one.next.empty() ? one.list : one.list + " > " + one.next});
  }
  print(table(rows, common.colour));
  print(summary(all) + '\n');
  return result;
}

int move_servers(const CommonOptions& common, const MoveServersOptions& options) {
  const MemcachedClient client = common.connect();
  if (!options.yes) {
    if (isatty(STDIN_FILENO) == 0) {
      throw UsageError("move asks on a terminal; where there is none, give --yes");
    }
    const auto all = memcachedlock::show_servers(client);
    std::string question = summary(all) + '\n';
    if (!options.move.gone.empty()) {
      question += "Those that are gone must be off, or empty, for good.\n";
    }
    ask(question + fmt::format("Make all clients lock by {}? [y/N] ", options.to));
    std::string answer;
    if (!std::getline(std::cin, answer) || (answer != "y" && answer != "yes")) {
      warn("left as it was");
      return status::no;
    }
  }
  Reporter report;
  MoveOptions move = options.move;
  move.progress = [&](const MoveProgress& progress) { report(progress); };
  const Moved outcome = memcachedlock::move_servers(client, options.to, move);
  const char* const word = outcome == Moved::moved   ? "moved"
                           : outcome == Moved::begun ? "begun"
                                                     : "already";
  if (common.json) {
    print(text(nlohmann::json{{"result", word}, {"to", options.to}}) + '\n');
  } else if (outcome == Moved::already) {
    print(fmt::format("{} is the list that is in use already\n", options.to));
  } else if (outcome == Moved::begun) {
    print(
        fmt::format("both lists are in force: clients with either may start; the move goes on with "
                    "memcachedlock servers move --to {}\n",
                    options.to));
  } else {
    print(fmt::format("all lock by {} now; give it to all clients before they start again\n",
                      options.to));
  }
  return status::fine;
}

}  // namespace memcachedlock::cli
