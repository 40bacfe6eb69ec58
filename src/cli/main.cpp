// memcachedlock, the program: locks for shell scripts and cron, and for operators.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "cli/commands.hpp"
#include "cli/exit_status.hpp"
#include "cli/options.hpp"
#include "cli/run.hpp"
#include "cli/show.hpp"
#include "cli/streams.hpp"
#include "memcachedlock/error.hpp"
#include "memcachedlock/version.hpp"

namespace {

using namespace memcachedlock;
using namespace memcachedlock::cli;

struct CommandLine {
  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  void add_common();
  void add_run();
  void add_others();
  void add_servers();
  void add_key(CLI::App& command, const std::string& text);
  /// Takes what follows `--` as the command of `run`.
  void parse(std::vector<std::string> arguments);

  CLI::App app{"Distributed locks on memcached."};
  CommonOptions common;
  RunOptions run;
  ListOptions list;
  TopOptions top;
  MoveServersOptions move;
  std::string colour = "auto";
  std::string key;
  std::string shell;
  bool yes = false;
  std::function<int()> action;
};

/// An option whose value is a duration.
void add_duration(CLI::App& app, const std::string& name, const std::string& text,
                  const std::function<void(milliseconds)>& set) {
  app.add_option_function<std::string>(
         name, [set](const std::string& value) { set(parse_duration(value)); }, text)
      ->type_name("DURATION");
}

/// The first word that is no option, nor the value of one of those that all commands have.
std::string subcommand(std::vector<std::string>::const_iterator begin,
                       std::vector<std::string>::const_iterator end) {
  constexpr std::array with_value{"--servers",       "--scope",  "--prefix", "--sasl-user",
                                  "--password-file", "--colour", "--color",  "--request-timeout"};
  for (auto at = begin; at != end; ++at) {
    if (!at->starts_with('-')) return *at;
    if (std::find(with_value.begin(), with_value.end(), *at) != with_value.end() && ++at == end) {
      break;
    }
  }
  return {};
}

CommandLine::CommandLine() {
  app.name("memcachedlock");
  app.set_version_flag("--version",
                       fmt::format("memcachedlock {}.{}.{}", MEMCACHEDLOCK_VERSION_MAJOR,
                                   MEMCACHEDLOCK_VERSION_MINOR, MEMCACHEDLOCK_VERSION_PATCH));
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(
      "See memcachedlock(1). Durations are written as 500ms, 30s, 2m, 1h; a bare number is "
      "seconds.");
  add_common();
  add_run();
  add_others();
  add_servers();
}

/// `--key` is for those that begin with a dash.
void CommandLine::add_key(CLI::App& command, const std::string& text) {
  command.add_option("KEY,--key", key, text)->required();
}

void CommandLine::add_common() {
  app.add_option("--servers", common.servers,
                 "host:port, [::1]:port or /path/to.sock, separated by commas; else "
                 "MEMCACHEDLOCK_SERVERS, or 127.0.0.1:11211")
      ->type_name("LIST");
  app.add_option("--scope", common.scope, "put in front of the key, as LockOptions::scope")
      ->type_name("TEXT");
  app.add_option("--prefix", common.client.prefix, "of all keys, as ClientOptions::prefix")
      ->type_name("TEXT");
  app.add_option("--sasl-user", common.client.sasl_user,
                 "log in as this user, by the binary protocol")
      ->type_name("NAME");
  app.add_option("--password-file", common.password_file,
                 "its first line is the password; else MEMCACHEDLOCK_PASSWORD")
      ->type_name("FILE");
  add_duration(app, "--request-timeout", "longest wait for the server (1s)",
               [this](milliseconds limit) {
                 common.client.operation_timeout = common.client.connect_timeout = limit;
               });
  app.add_flag("--json", common.json, "print JSON");
  app.add_option("--colour,--color", colour, "auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->type_name("WHEN");
}

void CommandLine::add_run() {
  CLI::App& command = *app.add_subcommand(
      "run", "Run a command while a lock is held: run KEY [options] -- command args...");
  add_key(command, "what is locked");
  command.add_option("--shell", shell, "a command for /bin/sh, in place of the one after --")
      ->type_name("COMMAND");
  add_duration(command, "--wait,-w", "longest wait for the lock; else as long as it takes",
               [this](milliseconds limit) { run.wait = limit; });
  command.add_flag_callback(
      "--no-wait,-n", [this] { run.wait = milliseconds(0); }, "do not wait for the lock");
  add_duration(command, "--timeout", "of the lease, which is renewed meanwhile (30s)",
               [this](milliseconds lease) { run.timeout = lease; });
  command.add_flag(
      "--fair",
      [](std::int64_t) {
        std::fputs("memcachedlock: --fair is not needed: all waits are first come, first served\n",
                   stderr);
      },
      "accepted, but all waits are first come, first served");
  static const std::map<std::string, OnLost> ways{
      {"term", OnLost::term}, {"kill", OnLost::kill}, {"ignore", OnLost::ignore}};
  command
      .add_option_function<std::string>(
          "--on-lost", [this](const std::string& way) { run.on_lost = ways.at(way); },
          "what to do to the command when the lock is lost: term, kill or ignore (term)")
      ->check(CLI::IsMember({"term", "kill", "ignore"}))
      ->type_name("WAY");
  add_duration(command, "--grace", "from SIGTERM to SIGKILL, when the lock is lost (10s)",
               [this](milliseconds grace) { run.grace = grace; });
  command
      .add_option("--conflict-exit-code,-E", run.conflict_status,
                  "status when the lock is not had in time (1)")
      ->check(CLI::Range(0, 255))
      ->type_name("N");
  command.callback([this] {
    action = [this] {
      run.key = key;
      return cli::run(common, run);
    };
  });
}

void CommandLine::add_others() {
  const auto add = [this](const char* name, const char* text, bool with_key,
                          std::function<int()> what) {
    CLI::App* command = app.add_subcommand(name, text);
    if (with_key) add_key(*command, "the lock");
    command->callback([this, what = std::move(what)] { action = what; });
    return command;
  };
  add("inspect", "Who holds a lock, for how long, and who waits for it", true,
      [this] { return inspect_lock(common, key); });
  CLI::App* all =
      add("list", "All locks on the servers", false, [this] { return cli::list(common, list); });
  all->add_flag("--names", list.names, "only what can be given as KEY, one a line");
  add_duration(*all, "--within", "longest time for it all (1m)",
               [this](milliseconds time) { list.within = time; });
  CLI::App* live = add("top", "The same, live, with queues and rates; q ends it", false,
                       [this] { return cli::top(common, top); });
  add_duration(*live, "--interval,-d", "between two looks (1s)",
               [this](milliseconds time) { top.interval = time; });
  live->add_option("--count,-n", top.count, "how many looks; else until it is ended")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  add("break", "Free a lock whose holder is gone or stuck", true, [this] {
    return cli::break_lock(common, key, yes);
  })->add_flag("--yes,-y", yes, "without asking");
  add("doctor", "Whether the servers are fit for locks", false, [this] { return doctor(common); });
}

void CommandLine::add_servers() {
  CLI::App& servers = *app.add_subcommand("servers", "The list of servers that clients lock by");
  servers.require_subcommand(1);
  servers.fallthrough();
  servers.add_subcommand("show", "What each server says of the list")->callback([this] {
    action = [this] { return cli::show_servers(common); };
  });
  CLI::App& command =
      *servers.add_subcommand("move", "Make all clients lock by another list, while they work");
  command.add_option("--to", move.to, "the new list, as --servers takes it")
      ->required()
      ->type_name("LIST");
  add_duration(command, "--wait", "in place of the longest lease in use; at least 2s",
               [this](milliseconds time) { move.move.wait = time; });
  command
      .add_option_function<std::vector<std::string>>(
          "--gone",
          [this](const std::vector<std::string>& all) {
            for (const std::string& one : all) {
              for (const ServerAddress& server : parse_servers(one)) {
                move.move.gone.push_back(server);
              }
            }
          },
          "a server of the old list that is dead for good")
      ->type_name("HOST:PORT");
  CLI::Option* const begin = command.add_flag_callback(
      "--begin", [this] { move.move.part = MoveOptions::Part::begin; },
      "only make both lists known, so that clients with either may start");
  command
      .add_flag_callback(
          "--finish", [this] { move.move.part = MoveOptions::Part::finish; },
          "the rest, after --begin")
      ->excludes(begin);
  command.add_flag("--yes,-y", move.yes, "without asking");
  command.callback([this] { action = [this] { return cli::move_servers(common, move); }; });
}

void CommandLine::parse(std::vector<std::string> arguments) {
  const auto end = std::find(arguments.begin(), arguments.end(), "--");
  const bool runs = end != arguments.end() && subcommand(arguments.begin(), end) == "run";
  if (runs) {
    run.command.assign(end + 1, arguments.end());
    arguments.erase(end, arguments.end());
  }
  // CLI11 would take what follows an empty value for the value.
  for (std::size_t at = 0; at < arguments.size() && arguments[at] != "--"; ++at) {
    std::string& word = arguments[at];
    if (!word.starts_with("--") || word.find('=') != word.size() - 1) continue;
    word.pop_back();
    arguments.emplace(arguments.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  app.parse(arguments);
  common.colour = colour == "always" || (colour == "auto" && isatty(STDOUT_FILENO) != 0 &&
                                         std::getenv("NO_COLOR") == nullptr);
  if (!app.got_subcommand("run")) return;
  if (!shell.empty()) {
    if (!run.command.empty()) throw UsageError("give --shell or a command after --, not both");
    run.command = {"/bin/sh", "-c", shell};
  }
  if (run.command.empty()) {
    throw UsageError("no command: memcachedlock run KEY [options] -- command args...");
  }
}

/// What this spelling means to its users.
std::string hint(const CommandLine& line, const CLI::ParseError& error) {
  const bool extra = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
  const bool no_key = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
  if (line.app.got_subcommand("run") && extra) return "; a command stands after --";
  if (no_key || extra) return "; a key that begins with - is given as --key=-NAME";
  return "";
}

int tell(int status, const std::string& line) {
  warn(line);
  return status;
}

int act(int argc, char** argv) {
  CommandLine line;
  try {
    line.parse({argv + 1, argv + argc});
  } catch (const CLI::Success& wish) {  // --help, --version
    const int result = line.app.exit(wish);
    if (!std::cout.flush()) throw OutputError("standard output takes no more");
    return result;
  } catch (const CLI::ParseError& error) {
    const bool no_key = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr &&
                        std::string_view(error.what()).starts_with("--key");
    return tell(status::usage, std::string(no_key ? "KEY is required" : error.what()) +
                                   hint(line, error) + " (see memcachedlock --help)");
  }
  const int result = line.action();
  print_now("");
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  try {
    return act(argc, argv);
  } catch (const OutputError& error) {
    return tell(status::output, error.what());
  } catch (const UsageError& error) {
    return tell(status::usage, error.what());
  } catch (const InvalidKey& error) {
    return tell(status::usage, text_of(error));
  } catch (const InvalidServers& error) {
    return tell(status::usage, text_of(error));
  } catch (const InvalidOption& error) {
    return tell(status::usage, text_of(error));
  } catch (const Unavailable& error) {
    return tell(status::unavailable, text_of(error));
  } catch (const ServersDiffer& error) {
    return tell(status::differ, text_of(error));
  } catch (const ServerError& error) {
    return tell(status::setting, text_of(error));
  } catch (const std::exception& error) {
    return tell(status::system, text_of(error));
  }
}
