// memcachedlock inspect, list, break.
#include "memcachedlock/inspect.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "commands.hpp"
#include "exit_status.hpp"
#include "memcachedlock/key.hpp"
#include "show.hpp"

namespace memcachedlock::cli {

int inspect_lock(const CommonOptions& common, const std::string& key) {
  const auto lock = inspect(common.connect(), key, common.scope);
  if (common.json) {
    fmt::print("{}\n", text(lock ? to_json(*lock) : nlohmann::json(nullptr)));
  } else if (lock) {
    fmt::print("{}", description(*lock, common.colour));
  } else {
    fmt::print("{} is free\n", key);
  }
  return lock ? status::fine : status::no;
}

int list(const CommonOptions& common) {
  const MemcachedClient client = common.connect();
  std::vector<std::vector<std::string>> rows{heading()};
  nlohmann::json all = nlohmann::json::array();
  // As on the server, where a scope that is long or not printable is hashed.
  std::string begin;
  if (!common.scope.empty()) {
    begin = Key(client.options().prefix, common.scope, "x").item();
    begin.pop_back();
  }
  const bool several = client.servers().size() > 1;
  if (several) rows.front().emplace_back("SERVER");
  for (const ServerAddress& server : client.servers()) {
    for (const LockStatus& lock : list_locks(client, server)) {
      if (!lock.item.starts_with(begin)) continue;
      rows.push_back(row(lock));
      if (several) rows.back().push_back(lock.server);
      all.push_back(to_json(lock));
    }
  }
  if (common.json) {
    fmt::print("{}\n", text(all));
  } else {
    fmt::print("{}", table(rows, common.colour));
  }
  return status::fine;
}

int break_lock(const CommonOptions& common, const std::string& key, bool yes) {
  const MemcachedClient client = common.connect();
  const auto lock = inspect(client, key, common.scope);
  if (lock && !yes) {
    if (isatty(STDIN_FILENO) == 0) {
      throw UsageError("break asks on a terminal; where there is none, give --yes");
    }
    fmt::print(stderr,
               "{}A holder that is alive goes on working until its next renewal.\n"
               "Free it? [y/N] ",
               description(*lock, common.colour));
    std::string answer;
    if (!std::getline(std::cin, answer) || (answer != "y" && answer != "yes")) {
      fmt::print(stderr, "left as it was\n");
      return status::no;
    }
  }
  const Broken outcome = lock ? memcachedlock::break_lock(client, *lock) : Broken::changed;
  const bool freed = outcome == Broken::freed;
  if (common.json) {
    const nlohmann::json result{{"freed", freed},
                                {"holder", lock ? to_json(*lock) : nlohmann::json(nullptr)}};
    fmt::print("{}\n", text(result));
  } else if (freed) {
    fmt::print("freed {}, which {} held\n", key, shown_holder(*lock));
  } else if (lock) {
    fmt::print("{} is not held by {} any more; whoever has it now was left alone\n", key,
               shown_holder(*lock));
  } else {
    fmt::print("{} is free\n", key);
  }
  return freed ? status::fine : status::no;
}

}  // namespace memcachedlock::cli
