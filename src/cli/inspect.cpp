// memcachedlock inspect, list, break.
#include "memcachedlock/inspect.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/commands.hpp"
#include "cli/exit_status.hpp"
#include "cli/show.hpp"
#include "cli/streams.hpp"
#include "memcachedlock/error.hpp"
#include "memcachedlock/key.hpp"

namespace memcachedlock::cli {

int inspect_lock(const CommonOptions& common, const std::string& key) {
  const auto lock = inspect(common.connect(), key, common.scope);
  if (common.json) {
    print(fmt::format("{}\n", text(lock ? to_json(*lock) : nlohmann::json(nullptr))));
  } else if (lock) {
    print(description(*lock, common.colour));
  } else {
    print(fmt::format("{} is free\n", key));
  }
  return lock ? status::fine : status::no;
}

namespace {

/// What can be given as KEY with these options: not a name of another scope, and not a digest.
std::optional<std::string> name_of(const LockStatus& lock, const std::string& scope_part) {
  constexpr std::size_t digest = 64;
  const std::string name = lock.key.substr(scope_part.size());
  const bool is_digest =
      name.size() == digest && name.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (is_digest || name.find('^') != std::string::npos) return std::nullopt;
  return name;
}

}  // namespace

int list(const CommonOptions& common, const ListOptions& options) {
  const MemcachedClient client = common.connect();
  std::vector<std::vector<std::string>> rows{heading()};
  std::string names;
  nlohmann::json all = nlohmann::json::array();
  // As on the server, where a scope that is long or not printable is hashed.
  const std::string& prefix = client.options().prefix;
  std::string begin = prefix;
  if (!common.scope.empty()) {
    begin = Key(prefix, common.scope, "x").item();
    begin.pop_back();
  }
  const bool several = client.servers().size() > 1;
  if (several) rows.front().emplace_back("SERVER");
  const auto end = std::chrono::steady_clock::now() + options.within;
  int result = status::fine;
  for (const ServerAddress& server : client.servers()) {
    const auto left = std::max(
        std::chrono::ceil<milliseconds>(end - std::chrono::steady_clock::now()), milliseconds(1));
    try {
      for (const LockStatus& lock : list_locks(client, server, left)) {
        if (!lock.item.starts_with(begin)) continue;
        const auto name = name_of(lock, begin.substr(prefix.size()));
        if (name) names += *name + '\n';
        rows.push_back(row(lock));
        if (several) rows.back().push_back(lock.server);
        if (!options.names) all.push_back(to_json(lock));
        if (options.names && name) all.push_back(*name);
      }
    } catch (const Unavailable& error) {
      // The others' locks are worth as much.
      warn(text_of(error));
      result = std::max(result, status::unavailable);
    } catch (const ServersDiffer& error) {
      warn(text_of(error));
      result = std::max(result, status::differ);
    } catch (const ServerError& error) {
      warn(text_of(error));
      result = std::max(result, status::setting);
    }
  }
  if (options.names && !common.json) {
    print(names);
  } else if (common.json) {
    print(text(all) + '\n');
  } else if (result == status::fine || rows.size() > 1) {
    print(table(rows, common.colour));
  }
  return result;
}

int break_lock(const CommonOptions& common, const std::string& key, bool yes) {
  const MemcachedClient client = common.connect();
  const auto lock = inspect(client, key, common.scope);
  if (lock && !yes) {
    if (isatty(STDIN_FILENO) == 0) {
      throw UsageError("break asks on a terminal; where there is none, give --yes");
    }
    ask(description(*lock, common.colour) +
        "A holder that is alive goes on working until its next renewal.\nFree it? [y/N] ");
    std::string answer;
    if (!std::getline(std::cin, answer) || (answer != "y" && answer != "yes")) {
      warn("left as it was");
      if (common.json) {
        print(text(nlohmann::json{{"freed", false}, {"holder", to_json(*lock)}}) + '\n');
      }
      return status::no;
    }
  }
  const Broken outcome = lock ? memcachedlock::break_lock(client, *lock) : Broken::changed;
  const bool freed = outcome == Broken::freed;
  if (common.json) {
    const nlohmann::json result{{"freed", freed},
                                {"holder", lock ? to_json(*lock) : nlohmann::json(nullptr)}};
    print(fmt::format("{}\n", text(result)));
  } else if (freed) {
    print(fmt::format("freed {}, which {} held\n", key, shown_holder(*lock)));
  } else if (lock) {
    print(fmt::format("{} is not held by {} any more; whoever has it now was left alone\n", key,
                      shown_holder(*lock)));
  } else {
    print(fmt::format("{} is free\n", key));
  }
  return freed ? status::fine : status::no;
}

}  // namespace memcachedlock::cli
