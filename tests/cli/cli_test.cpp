// The program memcachedlock, as cron, shells and people use it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"
#include "support/program.hpp"
#include "support/sasl_server.hpp"
#include "support/temporary_directory.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;
using Json = nlohmann::json;

namespace {

using Words = std::vector<std::string>;

Words command_line(const std::string& servers, const Words& words) {
  Words all{MEMCACHEDLOCK_PROGRAM, "--servers", servers};
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

class Cli : public testing::Test {
 protected:
  Ended run(const Words& words) const { return Program(line(words)).wait(); }
  Words line(const Words& words) const { return command_line(server.address(), words); }
  /// Null where nobody holds it.
  Json inspect(const std::string& key) const {
    return Json::parse(run({"inspect", key, "--json"}).output);
  }
  /// Until somebody holds it.
  Json holder_of(const std::string& key) const {
    Json found;
    EXPECT_TRUE(eventually([&] { return !(found = inspect(key)).is_null(); }));
    return found;
  }
  bool becomes_free(const std::string& key) const {
    return eventually([&] { return run({"inspect", key}).status == 1; });
  }
  std::string file(const std::string& name) const { return directory.path() + '/' + name; }

  LocalServer server;
  const TemporaryDirectory directory;
};

std::string content(const std::string& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

bool is_one_line(const std::string& text) {
  return !text.empty() && text.find('\n') == text.size() - 1;
}

/// A shell's command that waits until the file is there.
std::string wait_for(const std::string& file) {
  return "while [ ! -e " + file + " ]; do sleep 0.01; done";
}

TEST_F(Cli, RunPassesStatusStreamsAndTokenOn) {
  Program program(line({"run", "job", "--", "sh", "-c",
                        "read word; echo got $word $MEMCACHEDLOCK_TOKEN; echo bad >&2; exit 7"}));
  program.type("input\n");
  const Ended ended = program.wait();
  EXPECT_EQ(ended.status, 7);
  EXPECT_EQ(ended.errors, "bad\n");
  std::istringstream words(ended.output);
  std::string got;
  std::string input;
  std::string token;
  words >> got >> input >> token;
  EXPECT_EQ(input, "input");
  EXPECT_EQ(token.size(), 33U);
  EXPECT_EQ(run({"inspect", "job"}).status, 1);  // free again
}

TEST_F(Cli, TheCommandsOwnSignalIsPassedOn) {
  EXPECT_EQ(run({"run", "job", "--shell", "kill -TERM $$"}).status, 128 + SIGTERM);
  EXPECT_EQ(run({"run", "job", "--shell", "kill -KILL $$"}).status, 128 + SIGKILL);
  EXPECT_EQ(run({"inspect", "job"}).status, 1);
}

TEST_F(Cli, WhatCannotRunIsToldAsShellsDo) {
  const Ended missing = run({"run", "job", "--", "/no/such/program"});
  EXPECT_EQ(missing.status, 127);
  EXPECT_TRUE(is_one_line(missing.errors)) << missing.errors;
  const Ended plain = run({"run", "job", "--", "/etc/passwd"});
  EXPECT_EQ(plain.status, 126);
  EXPECT_TRUE(is_one_line(plain.errors)) << plain.errors;
  EXPECT_EQ(run({"inspect", "job"}).status, 1);
}

TEST_F(Cli, BadInputIsToldInOneLineAndChangesNothing) {
  const std::vector<std::pair<Words, std::string>> cases{
      {{}, "subcommand"},
      {{"frobnicate"}, "subcommand"},
      {{"run"}, "KEY"},
      {{"run", "job"}, "no command"},
      {{"run", "job", "--"}, "no command"},
      {{"run", "job", "echo", "hi"}, "after --"},
      {{"run", "job", "--wait", "soon", "--", "true"}, "soon"},
      {{"run", "job", "--wait", "5x", "--", "true"}, "no duration"},
      {{"run", "job", "--wait", "1e3s", "--", "true"}, "no duration"},
      {{"run", "job", "--wait", "0x10", "--", "true"}, "no duration"},
      {{"run", "-key", "--", "true"}, "--key="},
      {{"inspect", "-key"}, "--key="},
      {{"run", "job", "--timeout", "-1s", "--", "true"}, "-1s"},
      {{"run", "job", "--timeout", "0s", "--", "true"}, "timeout"},
      {{"run", "job", "--timeout", "9000h", "--", "true"}, "timeout"},
      {{"run", "job", "--on-lost", "cry", "--", "true"}, "on-lost"},
      {{"run", "job", "-E", "256", "--", "true"}, "conflict-exit-code"},
      {{"run", "job", "--shell", "true", "--", "true"}, "not both"},
      {{"run", "", "--", "true"}, "key is empty"},
      {{"inspect"}, "KEY"},
      {{"top", "--count", "0"}, "count"},
      {{"list", "--prefix", "a b"}, "prefix"},
      {{"list", "--sasl-user", "me"}, "--password-file"},
      {{"list", "--sasl-user", "me", "--password-file", "/no/file"}, "/no/file"},
      {{"list", "--servers", "a"}, "--servers"},  // for the second time
  };
  for (const auto& [words, named] : cases) {
    const Ended ended = run(words);
    EXPECT_EQ(ended.status, 64) << named;
    EXPECT_TRUE(is_one_line(ended.errors)) << ended.errors;
    EXPECT_EQ(ended.errors.rfind("memcachedlock: ", 0), 0U) << ended.errors;
    EXPECT_EQ(ended.errors.find("memcachedlock: ", 1), std::string::npos) << ended.errors;
    EXPECT_NE(ended.errors.find(named), std::string::npos) << ended.errors;
    EXPECT_EQ(ended.output, "");
  }
  EXPECT_EQ(server.counted({"cmd_set"}), 0);
  const Ended nowhere = Program(command_line("nowhere:0", {"list"})).wait();
  EXPECT_EQ(nowhere.status, 64);
  EXPECT_TRUE(is_one_line(nowhere.errors)) << nowhere.errors;
  EXPECT_NE(nowhere.errors.find("nowhere:0"), std::string::npos) << nowhere.errors;
}

TEST_F(Cli, HelpAndVersionAreNoErrors) {
  for (const Words& words : {Words{"--help"}, Words{"run", "--help"}, Words{"--version"}}) {
    const Ended ended = run(words);
    EXPECT_EQ(ended.status, 0);
    EXPECT_NE(ended.output.find("memcachedlock"), std::string::npos);
    EXPECT_EQ(ended.errors, "");
  }
}

TEST_F(Cli, WhoDoesNotGetTheLockInTimeEndsWithItsOwnStatus) {
  Program holder(line({"run", "job", "--shell", wait_for(file("go"))}));
  holder_of("job");
  EXPECT_EQ(run({"run", "job", "--no-wait", "--", "echo", "ran"}).status, 1);
  const Ended late = run({"run", "job", "--wait", "50ms", "-E", "9", "--", "echo", "ran"});
  EXPECT_EQ(late.status, 9);
  EXPECT_EQ(late.output, "");
  EXPECT_EQ(run({"run", "job", "--wait", "50ms", "--fair", "--", "echo", "ran"}).status, 1);
  EXPECT_TRUE(holder_of("job")["waiters"].empty());  // it has left the queue

  Program next(line({"run", "job", "--wait", "1h", "--fair", "--", "echo", "ran"}));
  EXPECT_TRUE(eventually([&] { return holder_of("job")["waiters"].size() == 1; }));
  std::ofstream(file("go")) << "";
  EXPECT_EQ(holder.wait().status, 0);
  EXPECT_EQ(next.wait().output, "ran\n");
}

TEST_F(Cli, EightAtATimeLoseNoneOfTwoHundredIncrements) {
  std::ofstream(file("count")) << 0;
  const std::string increment =
      "read n <" + file("count") + "; sleep 0.001; echo $((n + 1)) >" + file("count");
  std::vector<pid_t> workers;
  for (int worker = 0; worker < 8; ++worker) {
    workers.push_back(in_child([&] {
      for (int i = 0; i < 25; ++i) {
        if (run({"run", "count", "--shell", increment}).status != 0) return false;
      }
      return true;
    }));
  }
  for (const pid_t worker : workers) EXPECT_TRUE(ended_well(worker));
  EXPECT_EQ(content(file("count")), "200\n");
}

TEST_F(Cli, TheLeaseIsRenewedWhileTheCommandRuns) {
  Program holder(line({"run", "job", "--timeout", "4s", "--shell", wait_for(file("go"))}));
  const Json first = holder_of("job");
  EXPECT_TRUE(eventually([&] {
    const Json found = inspect("job");
    return !found.is_null() && found["held_for_ms"] > 4'500;
  }));
  EXPECT_EQ(holder_of("job")["token"], first["token"]);
  std::ofstream(file("go")) << "";
  const Ended ended = holder.wait();
  EXPECT_EQ(ended.status, 0) << ended.errors;
}

TEST_F(Cli, ALostLockEndsTheCommand) {
  const std::string script = "trap 'echo term; exit 0' TERM; echo up; " + wait_for(file("never"));
  Program program(line({"run", "job", "--timeout", "3s", "--shell", script}));
  ASSERT_TRUE(program.says("up"));
  EXPECT_EQ(run({"break", "job", "--yes"}).status, 0);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.status, 75);
  EXPECT_NE(ended.output.find("term"), std::string::npos);
  EXPECT_NE(ended.errors.find("\"job\" was lost"), std::string::npos) << ended.errors;
}

TEST_F(Cli, WhoDoesNotEndWhenTheLockIsLostIsKilledAfterTheGrace) {
  const std::string script = "trap '' TERM; echo up; " + wait_for(file("never"));
  Program program(line({"run", "job", "--timeout", "3s", "--grace", "100ms", "--shell", script}));
  ASSERT_TRUE(program.says("up"));
  EXPECT_EQ(run({"break", "job", "--yes"}).status, 0);
  EXPECT_EQ(program.wait().status, 75);
}

TEST_F(Cli, ALostLockMayKillAtOnceOrBeIgnored) {
  const std::string script =
      "trap 'echo term' TERM; echo up; " + wait_for(file("go")) + "; echo done; exit 3";
  Program killed(line(
      {"run", "one", "--timeout", "3s", "--on-lost", "kill", "--grace", "1h", "--shell", script}));
  Program ignored(
      line({"run", "two", "--timeout", "3s", "--on-lost", "ignore", "--shell", script}));
  ASSERT_TRUE(killed.says("up"));
  ASSERT_TRUE(ignored.says("up"));
  EXPECT_EQ(run({"break", "one", "--yes"}).status, 0);
  EXPECT_EQ(run({"break", "two", "--yes"}).status, 0);
  const Ended one = killed.wait();
  EXPECT_EQ(one.status, 75);
  EXPECT_EQ(one.output, "up\n");
  std::ofstream(file("go")) << "";
  const Ended two = ignored.wait();
  EXPECT_EQ(two.status, 3);
  EXPECT_EQ(two.output, "up\ndone\n");
  EXPECT_TRUE(is_one_line(two.errors)) << two.errors;
}

TEST_F(Cli, ASignalIsPassedOnToAllThatTheCommandHasStarted) {
  const std::string script =
      "trap 'wait; exit 5' TERM; (trap 'echo child; exit 0' TERM; echo up; " +
      wait_for(file("never")) + ") & wait";
  Program program(line({"run", "job", "--shell", script}));
  ASSERT_TRUE(program.says("up"));
  program.signal(SIGTERM);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.status, 5);
  EXPECT_NE(ended.output.find("child"), std::string::npos);
  EXPECT_EQ(run({"inspect", "job"}).status, 1);
}

TEST_F(Cli, NothingIsLeftBehindWhenItIsKilled) {
  Program program(line({"run", "job", "--timeout", "5s", "--shell",
                        "sh -c 'echo $$ $PPID; " + wait_for(file("never")) + "'; true"}));
  ASSERT_TRUE(program.says("\n"));
  pid_t inner = 0;
  pid_t outer = 0;
  std::istringstream(program.output()) >> inner >> outer;
  ASSERT_EQ(kill(inner, 0), 0);
  program.signal(SIGKILL);
  EXPECT_EQ(program.wait().status, 128 + SIGKILL);
  EXPECT_TRUE(eventually([&] { return kill(inner, 0) != 0 && errno == ESRCH; }));
  EXPECT_TRUE(eventually([&] { return kill(outer, 0) != 0 && errno == ESRCH; }));
  EXPECT_TRUE(becomes_free("job"));  // with its lease
}

TEST_F(Cli, WhoIsEndedWhileItWaitsLeavesTheQueue) {
  Program holder(line({"run", "job", "--shell", wait_for(file("never"))}));
  holder_of("job");
  Program waiter(line({"run", "job", "--fair", "--", "true"}));
  EXPECT_TRUE(eventually([&] { return holder_of("job")["waiters"].size() == 1; }));
  waiter.signal(SIGINT);
  EXPECT_EQ(waiter.wait().status, 128 + SIGINT);
  EXPECT_TRUE(holder_of("job")["waiters"].empty());
}

/// A shell with job control on a terminal, where commands are typed.
class Terminal : public Cli {
 protected:
  Terminal()
      : shell({"bash", "--norc", "--noprofile", "-i"},
              {{"MEMCACHEDLOCK_SERVERS", server.address()},
               {"PS1", "$ "},
               {"P", MEMCACHEDLOCK_PROGRAM},
               {"TERM", "xterm"}},
              Program::On::terminal) {
    shell.type("bind 'set enable-bracketed-paste off'; echo re''ady\n");
    EXPECT_TRUE(shell.says("ready"));
  }
  Program shell;
};

TEST_F(Terminal, InterruptStopAndContinueAreForTheCommand) {
  // Which starts nothing any more when it is stopped: a shell that is just in vfork() can't be.
  shell.type(
      "$P run job -- sh -c 'trap \"echo int; kill \\$!; exit 4\" INT; sleep 100 & echo u''p; "
      "wait'\n");
  ASSERT_TRUE(shell.says("up\r"));
  holder_of("job");
  shell.type("\x1a");  // ^Z
  ASSERT_TRUE(shell.says("Stopped")) << shell.output();
  shell.type("echo at the pro''mpt; fg\n");
  ASSERT_TRUE(shell.says("at the prompt"));
  holder_of("job");
  shell.type("\x03");  // ^C
  ASSERT_TRUE(shell.says("int\r")) << shell.output();
  shell.type("echo sta''tus=$?\n");
  ASSERT_TRUE(shell.says("status=4")) << shell.output();
  EXPECT_TRUE(becomes_free("job"));
}

TEST_F(Terminal, InterruptEndsTheWait) {
  Program holder(line({"run", "job", "--shell", wait_for(file("never"))}));
  holder_of("job");
  shell.type("$P run job --fair -- echo no; echo sta''tus=$?\n");
  EXPECT_TRUE(eventually([&] { return holder_of("job")["waiters"].size() == 1; }));
  shell.type("\x03");
  shell.type("echo sta''tus=$?\n");
  ASSERT_TRUE(shell.says("status=130")) << shell.output();
}

TEST_F(Terminal, BreakShowsTheHolderAndAsks) {
  Program holder(line({"run", "job", "--on-lost", "ignore", "--shell", wait_for(file("never"))}));
  const Json held = holder_of("job");
  const std::string pid = std::to_string(held["holders"][0]["pid"].get<int>());
  shell.type("$P break job; echo sta''tus=$?\n");
  ASSERT_TRUE(shell.says("[y/N]"));
  EXPECT_NE(shell.output().find("process " + pid), std::string::npos) << shell.output();
  shell.type("n\n");
  ASSERT_TRUE(shell.says("status=1"));
  EXPECT_EQ(holder_of("job")["token"], held["token"]);
  shell.type("$P break job; echo sta''tus=$?\n");
  ASSERT_TRUE(shell.says("status=1") && eventually([&] {
                shell.type("y\n");
                return run({"inspect", "job"}).status == 1;
              }));
  ASSERT_TRUE(shell.says("status=0"));
}

TEST_F(Terminal, ColourIsForTerminalsAlone) {
  shell.type("$P doctor; echo fir''st\n");
  ASSERT_TRUE(shell.says("first"));
  ASSERT_NE(shell.output().find("\x1b[33mwarning:"), std::string::npos) << shell.output();
  EXPECT_EQ(run({"doctor"}).output.find('\x1b'), std::string::npos);
  EXPECT_NE(run({"doctor", "--colour", "always"}).output.find('\x1b'), std::string::npos);
  const std::size_t before = shell.output().size();
  shell.type("$P doctor --colour never; NO_COLOR=1 $P doctor; echo do''ne\n");
  ASSERT_TRUE(shell.says("done"));
  EXPECT_EQ(shell.output().find("\x1b[33m", before), std::string::npos);
}

TEST_F(Terminal, TopShowsLocksAndWaitersAndEndsWithQ) {
  Program holder(line({"run", "long-job", "--shell", wait_for(file("never"))}));
  holder_of("long-job");
  Program waiter(line({"run", "long-job", "--fair", "--", "true"}));
  shell.type("$P top -d 50ms; echo sta''tus=$?\n");
  ASSERT_TRUE(shell.says("\x1b[?1049h"));
  ASSERT_TRUE(shell.says("1 with a queue")) << shell.output();
  ASSERT_TRUE(shell.says("writes"));  // the rates
  ASSERT_TRUE(shell.says("long-job"));
  server.pause();
  ASSERT_TRUE(shell.says("no answer within"));
  server.resume();
  shell.type("q");
  ASSERT_TRUE(shell.says("\x1b[?1049l"));
  ASSERT_TRUE(shell.says("status=0"));
}

TEST_F(Terminal, TopWithoutAPauseCanBeStoppedAndEnded) {
  shell.type("stty cols 20; $P top -d 0s\n");
  ASSERT_TRUE(shell.says("\x1b[?1049h"));
  ASSERT_TRUE(shell.says("KEY"));
  std::size_t before = shell.output().size();
  shell.type("\x1a");
  ASSERT_TRUE(shell.says_after(before, "\x1b[?1049l")) << shell.output().substr(before);
  shell.type("echo bet''ween\n");
  ASSERT_TRUE(shell.says_after(before, "between"));
  before = shell.output().size();
  shell.type("fg\n");
  ASSERT_TRUE(shell.says_after(before, "\x1b[?1049h"));
  shell.type("q");
  ASSERT_TRUE(shell.says_after(before, "\x1b[?1049l"));
  shell.type("echo sta''tus=$?\n");
  ASSERT_TRUE(shell.says_after(before, "status=0"));
  // No line is longer than the terminal is wide.
  std::istringstream screen(shell.output().substr(shell.output().rfind("\x1b[H")));
  for (std::string row; std::getline(screen, row) && row.find("status") == std::string::npos;) {
    EXPECT_LE(std::regex_replace(row, std::regex("\x1b\\[[0-9;?]*[a-zA-Z]|\r"), "").size(), 20U);
  }
}

TEST_F(Terminal, TopPutsTheTerminalRightWhenItIsInterrupted) {
  shell.type("$P top -d 1h; echo sta''tus=$?\n");
  ASSERT_TRUE(shell.says("USUAL HOLD"));
  shell.type("\x03");
  ASSERT_TRUE(shell.says("\x1b[?1049l"));
  shell.type("stty -a; echo sta''tus=$?\n");
  ASSERT_TRUE(shell.says("status="));
  ASSERT_TRUE(shell.says(" icanon"));
  EXPECT_NE(shell.output().find(" echo "), std::string::npos);
}

/// A shell on a terminal that completes what is typed.
class Completion : public Cli {
 protected:
  Completion() {
    lock.lock();
    hostile.lock();
  }

  void complete(const Words& shell_words, const std::string& setup) {
    const std::string directory_of_program =
        std::string(MEMCACHEDLOCK_PROGRAM, std::string(MEMCACHEDLOCK_PROGRAM).rfind('/'));
    Program shell(shell_words,
                  {{"PATH", directory_of_program + ":" + getenv("PATH")},
                   {"HOME", directory.path()},
                   {"COMPLETIONS", MEMCACHEDLOCK_COMPLETIONS},
                   {"TERM", "xterm"}},
                  Program::On::terminal);
    shell.type("cd " + directory.path() + "; " + setup + "; echo re''ady\n");
    ASSERT_TRUE(shell.says("ready")) << shell.output();
    const auto expect = [&](const std::string& typed, const std::string& rest) {
      const std::size_t before = shell.output().size();
      shell.type(typed + "\t");
      // A shell may draw what it completes in parts.
      EXPECT_TRUE(shell.says_after(before, rest)) << shell.output().substr(before);
      shell.type("\x15");  // the line is taken back
    };
    const std::string program = "memcachedlock --servers " + server.address() + " ";
    expect("memcachedlock insp", "ect");
    expect(program + "inspect nightly-r", "eport");
    expect(program + "run k --on-l", "ost");
    expect(program + "break --y", "es");
    expect(program + "run k -- saslpass", "wd2");
    // What is completed is the name, to the last byte, and nothing in it is done.
    const std::size_t before = shell.output().size();
    shell.type(program + "inspect evi\t");
    ASSERT_TRUE(shell.says_after(before, "last")) << shell.output().substr(before);
    shell.type(" | grep -c 'process " + std::to_string(getpid()) + "' && echo fou''nd\n");
    EXPECT_TRUE(shell.says_after(before, "found")) << shell.output().substr(before);
    EXPECT_EQ(access(file("PWNED").c_str(), F_OK), -1);
    // Nor in a word of the line.
    shell.type("memcachedlock --scope '$(touch${IFS}PWNED)' " + program.substr(14) +
               "inspect nightly-r\t\x15");
    shell.type("echo en''d\n");
    ASSERT_TRUE(shell.says("end"));
    EXPECT_EQ(access(file("PWNED").c_str(), F_OK), -1);
  }

  const mcl::MemcachedClient client{server.address()};
  mcl::Lock lock{client, "nightly-report"};
  // All that any shell takes for more than itself.
  mcl::Lock hostile{
      client,
      "evil$(touch${IFS}PWNED)`touch${IFS}PWNED`;touch<PWNED>PWNED|a&b:c=d'e\"f\\g*?[h]"
      "{i,j}~k#l!m%n@o(p)last"};
};

TEST_F(Completion, OfBash) {
  complete({"bash", "--norc", "--noprofile", "-i"},
           "set +H; source $COMPLETIONS/memcachedlock.bash");
}

TEST_F(Completion, OfZsh) {
  complete({"zsh", "-f", "-i"},
           "fpath=($COMPLETIONS $fpath); autoload -U compinit; compinit -u -D; PS1='$ '");
}

TEST_F(Completion, OfFish) {
  complete({"fish", "--no-config", "-i"},
           "set fish_autosuggestion_enabled 0; source $COMPLETIONS/memcachedlock.fish");
}

// Fault: a stream is full or closed. Promise: the command is not harmed, and a loss is not success.
TEST_F(Cli, StreamsThatTakeNothing) {
  const auto shell = [&](const std::string& text) {
    return Program({"sh", "-c", text},
                   {{"P", MEMCACHEDLOCK_PROGRAM}, {"MEMCACHEDLOCK_SERVERS", server.address()}})
        .wait();
  };
  mcl::Lock lock(mcl::MemcachedClient(server.address()), "held");
  lock.lock();
  for (const std::string words : {"list", "list --json", "list --names", "inspect held", "doctor",
                                  "top -n 1", "--help", "--version", "run --help"}) {
    EXPECT_EQ(shell("$P " + words + " >/dev/full").status, 74) << words;
    EXPECT_EQ(shell("$P " + words + " >&-").status, 74) << words;
    EXPECT_EQ(shell("$P " + words + " <&- 2>&- >" + file("out")).status,
              words == "doctor" ? 1 : 0)  // it was just started
        << words;
    EXPECT_NE(content(file("out")), "");
  }
  for (const char* const closed : {"2>/dev/full", "2>&-", "<&- >&- 2>&-"}) {
    EXPECT_EQ(shell(std::string("$P frobnicate ") + closed).status, 64);
    EXPECT_EQ(shell(std::string("$P run job --shell 'exit 9' ") + closed).status, 9);
    // A line to standard error, while the command runs.
    EXPECT_EQ(shell("$P run job --timeout 1s --on-lost ignore --shell '" +
                    ("$P break job --yes; sleep 0.6; exit 9' " + std::string(closed)))
                  .status,
              9);
  }
  // What the command finds closed is not what the program has opened for itself.
  EXPECT_EQ(shell("$P run job --shell 'test ! -e /proc/self/fd/0 && echo closed' <&-").output,
            "closed\n");
  EXPECT_TRUE(lock.owns_lock());
}

TEST_F(Cli, SignalsThatRunDoesNotNeedReachTheCommand) {
  for (const int number : {SIGWINCH, SIGURG, SIGRTMIN + 3, SIGUSR2, SIGXCPU}) {
    const std::string trapped = file("trapped" + std::to_string(number));
    Program program(line({"run", "job", "--shell",
                          "trap 'echo had it; exit 5' " + std::to_string(number) + "; touch " +
                              trapped + "; while :; do sleep 0.01; done"}));
    ASSERT_TRUE(eventually([&] { return access(trapped.c_str(), F_OK) == 0; }));
    program.signal(number);
    const Ended ended = program.wait();
    EXPECT_EQ(ended.status, 5) << number;
    EXPECT_EQ(ended.output, "had it\n");
  }
  // And while it waits: what would end any process ends it, what would not does not.
  mcl::Lock lock(mcl::MemcachedClient(server.address()), "job");
  lock.lock();
  Program waiter(line({"run", "job", "--fair", "--", "true"}));
  ASSERT_TRUE(eventually([&] { return inspect("job")["waiters"].size() == 1; }));
  waiter.signal(SIGWINCH);
  waiter.signal(SIGURG);
  waiter.signal(SIGUSR1);
  EXPECT_EQ(waiter.wait().status, 128 + SIGUSR1);
}

TEST_F(Cli, TheFirstProcessReapsWhatIsLeftToIt) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  // A grandchild that ends after its parent is the first process's then.
  const Ended ended =
      Program({"unshare", "--pid", "--fork", "--mount-proc", MEMCACHEDLOCK_PROGRAM, "--servers",
               server.address(), "run", "job", "--shell",
               "(sleep 0.1 & exit); i=0; while [ $i -lt 200 ] && grep -qs '^State:.*' "
               "/proc/[0-9]*/status && ! grep -qs '^State:.Z' /proc/[0-9]*/status; do i=$((i+1)); "
               "sleep 0.005; done; sleep 0.2; ! grep -s '^State:.Z' /proc/[0-9]*/status"})
          .wait();
  EXPECT_EQ(ended.status, 0) << ended.output << ended.errors;
}

TEST_F(Cli, AKilledProgramTakesACommandOfAnotherUserAlong) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const std::string pid_file = file("pid");
  // As by sudo, which is setuid: the kernel then forgets whose death it was to die of.
  Program program(line({"run", "job", "--", "setpriv", "--reuid=65534", "--clear-groups", "sh",
                        "-c", "echo $$; while :; do sleep 0.01; done"}),
                  {}, Program::On::terminal);
  ASSERT_TRUE(program.says("\n"));
  const pid_t command = std::stoi(program.output());
  program.signal(SIGKILL);
  EXPECT_TRUE(eventually([&] { return kill(command, 0) != 0; }));
}

TEST_F(Cli, AWaitRidesOutARestart) {
  mcl::Lock lock(mcl::MemcachedClient(server.address(), {.operation_timeout = 200ms}), "job");
  lock.lock();
  Program waiter(line({"run", "job", "--fair", "--wait", "50s", "--request-timeout", "200ms", "--",
                       "echo", "had it"}));
  ASSERT_TRUE(eventually([&] { return inspect("job")["waiters"].size() == 1; }));
  Program short_one(
      line({"run", "job", "--fair", "--wait", "2", "--request-timeout", "200ms", "--", "true"}));
  ASSERT_TRUE(eventually([&] { return inspect("job")["waiters"].size() == 2; }));
  server.stop();
  const Ended ended = short_one.wait();  // in vain: it says why
  EXPECT_EQ(ended.status, 69) << ended.errors;
  EXPECT_NE(ended.errors.find("still waiting"), std::string::npos) << ended.errors;
  server.start();
  const Ended had = waiter.wait();  // once the guard has let it
  EXPECT_EQ(had.status, 0) << had.errors;
  EXPECT_EQ(had.output, "had it\n");
  EXPECT_EQ(run({"run", "x", "--servers=127.0.0.1:1", "--wait", "50s", "--", "true"}).status, 64);
}

TEST_F(Cli, AKeyMayBeginWithADash) {
  Program holder(line({"run", "--key=-job", "--shell", wait_for(file("never"))}));
  holder_of("--key=-job");
  EXPECT_EQ(Json::parse(run({"inspect", "--json", "--", "-job"}).output)["key"], "-job");
  EXPECT_EQ(run({"run", "--key=-job", "-w", "0.1", "-E", "3", "--", "true"}).status, 3);
  EXPECT_EQ(run({"break", "--key=-job", "--yes"}).status, 0);
}

TEST_F(Cli, InspectTellsWhoSinceWhenAndWhoWaits) {
  const mcl::MemcachedClient client(server.address());
  mcl::Lock lock(client, "job", {.timeout = 1h, .scope = "nightly"});
  lock.lock();
  const Json json = Json::parse(run({"inspect", "job", "--scope", "nightly", "--json"}).output);
  EXPECT_EQ(json["state"], "held");
  EXPECT_EQ(json["holders"][0]["pid"], getpid());
  EXPECT_EQ(json["holders"][0]["thread"], gettid());
  EXPECT_EQ(json["token"], lock.fencing_token().to_string());
  EXPECT_EQ(json["timeout_ms"], 3'600'000);
  EXPECT_GT(json["lease_left_ms"], 3'500'000);
  EXPECT_LE(json["lease_left_ms"], 3'600'000);
  EXPECT_GE(json["held_for_ms"], 0);
  EXPECT_TRUE(json["owner"].is_null());
  const Ended plain = run({"inspect", "job", "--scope", "nightly"});
  EXPECT_EQ(plain.status, 0);
  for (const std::string& expected :
       {"process " + std::to_string(getpid()), std::string("59 m"), server.address()}) {
    EXPECT_NE(plain.output.find(expected), std::string::npos) << plain.output;
  }
  EXPECT_EQ(run({"inspect", "job"}).status, 1);  // of no scope

  mcl::RLock named(client, "shared", {.owner = mcl::OwnerId::named("request-17")});
  named.lock();
  mcl::RLock twice(client, "shared", {.owner = mcl::OwnerId::named("request-17")});
  twice.lock();
  const Json shared = Json::parse(run({"inspect", "shared", "--json"}).output);
  EXPECT_EQ(shared["owner"], "request-17");
  EXPECT_EQ(shared["token"], named.fencing_token().to_string());

  // Anybody may have written it.
  const std::string hostile =
      "mcl2 0 +t.1:x:1000:0:0:1:-:n:\x1b[31m@\x1b[2J\xff:12:34 ?t.2:x:1:0:0:1:-:-@\x1b]0;title:5:6";
  (void)server.ask("set memcachedlock:hostile 0 0 " + std::to_string(hostile.size()) + "\r\n" +
                   hostile + "\r\n");
  const Ended shown = run({"inspect", "hostile"});
  EXPECT_EQ(shown.output.find('\x1b'), std::string::npos) << shown.output;
  EXPECT_EQ(Json::parse(run({"inspect", "hostile", "--json"}).output)["holders"][0]["pid"], 12);
  mcl::Lock odd(client, "caf\xe9 \x1b[31m");
  odd.lock();
  EXPECT_EQ(Json::parse(run({"inspect", "caf\xe9 \x1b[31m", "--json"}).output)["state"], "held");

  EXPECT_NE(server.ask("set memcachedlock:foreign 0 0 1\r\nx\r\n").find("STORED"),
            std::string::npos);
  EXPECT_EQ(run({"inspect", "foreign"}).status, 78);
}

TEST_F(Cli, ListShowsTheLocksOfAllServers) {
  const LocalServer other;
  const std::string both = server.address() + "," + other.address();
  const mcl::MemcachedClient client(both);
  std::vector<std::unique_ptr<mcl::Lock>> locks;
  for (int i = 0; i < 20; ++i) {
    locks.push_back(std::make_unique<mcl::Lock>(client, "key" + std::to_string(i),
                                                mcl::LockOptions{.scope = i < 5 ? "a" : ""}));
    locks.back()->lock();
  }
  (void)server.ask("set foreign 0 0 1\r\nx\r\n");
  const Json all = Json::parse(
      Program({MEMCACHEDLOCK_PROGRAM, "list", "--json", "--servers", both}).wait().output);
  EXPECT_EQ(all.size(), 20U);
  std::set<std::string> servers;
  for (const Json& lock : all) servers.insert(lock["server"]);
  EXPECT_EQ(servers.size(), 2U);
  mcl::Lock odd(client, "key", {.scope = "odd scope"});
  odd.lock();
  EXPECT_EQ(Json::parse(Program({MEMCACHEDLOCK_PROGRAM, "list", "--json", "--servers", both,
                                 "--scope", "odd scope"})
                            .wait()
                            .output)
                .size(),
            1U);
  const Ended scoped =
      Program({MEMCACHEDLOCK_PROGRAM, "list", "--servers", both, "--scope", "a"}).wait();
  EXPECT_EQ(std::count(scoped.output.begin(), scoped.output.end(), '\n'), 6);
  EXPECT_NE(scoped.output.find("a^key3"), std::string::npos) << scoped.output;
  EXPECT_EQ(Json::parse(run({"list", "--prefix", "other:", "--json"}).output).size(), 0U);
}

// Fault: one of several servers is down. Promise: the others' locks are shown all the same.
TEST_F(Cli, ListShowsWhatCanBeAsked) {
  mcl::Lock lock(mcl::MemcachedClient(server.address()), "here");
  lock.lock();
  LocalServer down;
  const std::string gone = down.address();
  server.ask("flush_all");  // from now on with the other
  const auto both = [&](Words words) {
    words.insert(words.begin(), {"--request-timeout", "200ms"});
    return Program(command_line(server.address() + "," + gone, words)).wait();
  };
  std::string key;  // one of those that are on the server that runs
  const mcl::MemcachedClient client(server.address() + "," + gone);
  for (int i = 0; key.empty(); ++i) {
    const std::string name = "k" + std::to_string(i);
    if (client.server_of(name).to_string() == server.address()) key = name;
  }
  mcl::Lock other(client, key);
  other.lock();
  down.stop();
  for (const Words& words : {Words{"list"}, Words{"list", "--json"}, Words{"list", "--names"}}) {
    const Ended ended = both(words);
    EXPECT_EQ(ended.status, 69);
    EXPECT_NE(ended.output.find(key), std::string::npos) << ended.output;
    EXPECT_NE(ended.errors.find(gone), std::string::npos) << ended.errors;
  }
  EXPECT_EQ(run({"list", "--names"}).output.find("^"), std::string::npos);
  server.pause();  // one that runs may be done in the least time
  const Ended hurried = run({"list", "--within", "0"});
  server.resume();
  EXPECT_NE(hurried.status, 0);
  EXPECT_TRUE(is_one_line(hurried.errors)) << hurried.errors;
}

// Items that are used move between memcached's lists while these are gone through.
TEST_F(Cli, ListMissesNoLockThatIsHeldAllTheTime) {
  const mcl::MemcachedClient client(server.address());
  constexpr int many = 300;
  std::deque<mcl::Lock> locks;
  for (int i = 0; i < many; ++i) locks.emplace_back(client, "k" + std::to_string(i)).lock();
  std::jthread renews([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      for (mcl::Lock& lock : locks) (void)lock.extend();
    }
  });
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(mcl::list_locks(client, client.servers().front()).size(), std::size_t{many});
  }
}

TEST_F(Cli, BreakFreesJustThatHolder) {
  const mcl::MemcachedClient client(server.address());
  mcl::Lock lock(client, "job", {.timeout = 1h});
  lock.lock();
  EXPECT_EQ(run({"break", "job"}).status, 64);  // no terminal to ask on
  EXPECT_TRUE(lock.extend());

  const auto status = mcl::inspect(client, "job");
  ASSERT_TRUE(status);
  EXPECT_TRUE(lock.extend());  // the same holder, another CAS id
  EXPECT_EQ(mcl::break_lock(client, *status), mcl::Broken::freed);
  EXPECT_FALSE(lock.extend());
  EXPECT_EQ(lock.release(), mcl::Release::lost);
  lock.lock();
  EXPECT_EQ(mcl::break_lock(client, *status), mcl::Broken::changed);
  EXPECT_TRUE(lock.extend());

  const Ended broken = run({"break", "job", "--yes", "--json"});
  EXPECT_EQ(broken.status, 0);
  EXPECT_EQ(Json::parse(broken.output)["holder"]["holders"][0]["pid"], getpid());
  EXPECT_EQ(run({"break", "job", "--yes"}).status, 1);  // free
}

TEST_F(Cli, TopPrintsWhereThereIsNoTerminal) {
  const mcl::MemcachedClient client(server.address());
  mcl::Lock lock(client, "job", {.timeout = 1h});
  lock.lock();
  const Ended text = run({"top", "-n", "2", "-d", "20ms"});
  EXPECT_EQ(text.status, 0);
  EXPECT_EQ(text.output.find('\x1b'), std::string::npos);
  EXPECT_NE(text.output.find("writes"), std::string::npos) << text.output;
  const Ended json = run({"top", "-n", "2", "-d", "20ms", "--json"});
  std::istringstream lines(json.output);
  std::string first;
  std::string second;
  std::getline(lines, first);
  std::getline(lines, second);
  EXPECT_EQ(Json::parse(first)["locks"][0]["key"], "job");
  EXPECT_TRUE(Json::parse(second)["servers"][0].contains("reads_per_s"));
}

TEST_F(Cli, TopTellsHowLongAHandOverTakes) {
  const mcl::MemcachedClient client(server.address());
  std::vector<std::jthread> contenders(3);
  for (std::jthread& contender : contenders) {
    contender = std::jthread([&](const std::stop_token& stop) {
      mcl::RLock lock(client, "job", {.timeout = 1h, .owner = mcl::OwnerId::unique()});
      while (!stop.stop_requested()) {
        lock.lock();
        lock.unlock();
      }
    });
  }
  const auto told = [&] {
    std::istringstream lines(run({"top", "-n", "3", "-d", "100ms", "--json"}).output);
    for (std::string line; std::getline(lines, line);) {
      const Json shown = Json::parse(line)["locks"];
      if (shown.empty() || shown[0]["hand_over_us"].is_null()) continue;
      const auto turn = 1e6 / shown[0]["taken_per_s"].get<double>();
      const auto hand_over = shown[0]["hand_over_us"].get<double>();
      EXPECT_NEAR(hand_over, std::max(0.0, turn - shown[0]["usual_hold_us"].get<double>()), 1.0);
      return true;
    }
    return false;
  };
  EXPECT_TRUE(eventually(told));
  for (std::jthread& contender : contenders) contender.request_stop();
  for (std::jthread& contender : contenders) contender.join();
  const Ended idle = run({"top", "-n", "2", "-d", "20ms"});
  EXPECT_NE(idle.output.find("HAND-OVER"), std::string::npos);
}

TEST_F(Cli, DoctorTellsWhatIsWrongAndWhatToDo) {
  const Ended warned = run({"doctor"});
  EXPECT_EQ(warned.status, 1);
  EXPECT_NE(warned.output.find("-M"), std::string::npos) << warned.output;

  // All is well except its age: it was only just started.
  const LocalServer fit({"-M"});
  const Json json =
      Json::parse(Program({MEMCACHEDLOCK_PROGRAM, "doctor", "--json", "--servers", fit.address()})
                      .wait()
                      .output);
  EXPECT_EQ(json[0]["evicts"], false);
  EXPECT_EQ(json[0]["compare_and_swap"], true);
  EXPECT_EQ(json[0]["notified"], true);
  EXPECT_GT(json[0]["round_trip_p50_us"], 0);
  EXPECT_GE(json[0]["round_trip_p99_us"], json[0]["round_trip_p50_us"]);
  std::vector<std::string> findings;
  for (const Json& finding : json[0]["findings"]) {
    const auto text = finding["text"].get<std::string>();
    if (text.find("one request in a hundred") != 0) findings.push_back(text);  // a slow machine
  }
  ASSERT_EQ(findings.size(), 1U) << json.dump();
  EXPECT_NE(findings.front().find("was started"), std::string::npos);
  EXPECT_EQ(json[0]["used"], false);
  mcl::Lock lock(mcl::MemcachedClient(fit.address()), "job");
  lock.lock();
  EXPECT_EQ(lock.release(), mcl::Release::released);
  EXPECT_EQ(
      Json::parse(Program({MEMCACHEDLOCK_PROGRAM, "doctor", "--json", "--servers", fit.address()})
                      .wait()
                      .output)[0]["used"],
      true);

  const std::map<std::string, std::string> off{{"MEMCACHEDLOCK_NOTIFY", "off"}};
  EXPECT_FALSE(
      Json::parse(
          Program({MEMCACHEDLOCK_PROGRAM, "doctor", "--json", "--servers", fit.address()}, off)
              .wait()
              .output)[0]
          .contains("notified"));

  const LocalServer no_cas({"-C"});
  const Ended bad =
      Program({MEMCACHEDLOCK_PROGRAM, "doctor", "--servers", no_cas.address()}).wait();
  EXPECT_EQ(bad.status, 2);
  EXPECT_NE(bad.output.find("without -C"), std::string::npos) << bad.output;
  EXPECT_EQ(
      Program({MEMCACHEDLOCK_PROGRAM, "run", "job", "--servers", no_cas.address(), "--", "true"})
          .wait()
          .status,
      78);

  const LocalServer small({"-m", "3"});
  for (int i = 0; i < 100; ++i) {
    (void)small.ask("set big" + std::to_string(i) + " 0 0 100000\r\n" + std::string(100'000, 'x') +
                    "\r\n");
  }
  const Ended full =
      Program({MEMCACHEDLOCK_PROGRAM, "doctor", "--servers", small.address()}).wait();
  EXPECT_NE(full.output.find("thrown out"), std::string::npos) << full.output;
}

TEST_F(Cli, AServerThatDoesNotAnswerHasAStatusOfItsOwn) {
  const std::vector<Words> all{
      {"run", "job", "--", "echo", "ran"}, {"inspect", "job"}, {"list"}, {"break", "job", "--yes"}};
  const auto expect_unavailable = [&] {
    for (Words words : all) {
      words.insert(words.begin(), {"--request-timeout", "200ms"});
      const Ended on_terminal = Program(line(words), {}, Program::On::terminal).wait();
      EXPECT_EQ(on_terminal.status, 69) << words[2];
      EXPECT_NE(on_terminal.output.find(server.address()), std::string::npos);
      const Ended ended = run(words);
      EXPECT_EQ(ended.status, 69) << words[2];
      EXPECT_TRUE(is_one_line(ended.errors)) << ended.errors;
      EXPECT_NE(ended.errors.find(server.address()), std::string::npos) << ended.errors;
      EXPECT_EQ(ended.output, "");
    }
    const Ended doctor = run({"doctor", "--request-timeout", "200ms"});
    EXPECT_EQ(doctor.status, 2);
    EXPECT_NE(doctor.output.find("unavailable"), std::string::npos) << doctor.output;
  };
  server.pause();
  expect_unavailable();
  server.resume();
  server.stop();
  expect_unavailable();
}

TEST_F(Cli, AServerThatGoesWhileTheCommandRunsLosesTheLockInTime) {
  const std::string script = "echo up; " + wait_for(file("never"));
  Program program(
      line({"run", "job", "--timeout", "1s", "--request-timeout", "100ms", "--shell", script}));
  ASSERT_TRUE(program.says("up"));
  server.stop();
  EXPECT_EQ(program.wait().status, 75);
}

TEST(CliSasl, LogsIn) {
  const SaslServer server;
  const TemporaryDirectory directory;
  const std::string password_file = directory.path() + "/password";
  std::ofstream(password_file) << SaslServer::password << "\n";
  const Words login{"--sasl-user", SaslServer::user, "--password-file", password_file};
  const auto run = [&](Words words, const Words& by) {
    words.insert(words.begin(), by.begin(), by.end());
    const Words line = command_line(server.address(), words);
    Ended ended = Program(line).wait();
    EXPECT_EQ(Program(line, {}, Program::On::terminal).wait().status, ended.status);
    return ended;
  };
  EXPECT_EQ(run({"run", "job", "--", "true"}, login).status, 0);
  EXPECT_EQ(run({"inspect", "job"}, login).status, 1);
  const Ended doctor = run({"doctor"}, login);
  EXPECT_NE(doctor.output.find("SASL"), std::string::npos) << doctor.output << doctor.errors;
  const Ended list = run({"list"}, login);  // has no binary form
  EXPECT_EQ(list.status, 78) << list.errors;
  EXPECT_TRUE(is_one_line(list.errors)) << list.errors;

  EXPECT_NE(run({"run", "job", "--", "true"}, {}).status, 0);
  std::ofstream(password_file) << "wrong\n";
  EXPECT_EQ(run({"run", "job", "--", "true"}, login).status, 78);
  Program by_variable(
      command_line(server.address(), {"--sasl-user", SaslServer::user, "inspect", "job"}),
      {{"MEMCACHEDLOCK_PASSWORD", SaslServer::password}});
  EXPECT_EQ(by_variable.wait().status, 1);
}

TEST(CliServers, AreTakenFromTheEnvironment) {
  const LocalServer server;
  Program program({MEMCACHEDLOCK_PROGRAM, "doctor"}, {{"MEMCACHEDLOCK_SERVERS", server.address()}});
  EXPECT_NE(program.wait().output.find(server.address()), std::string::npos);
}

// ---- the list of servers

class CliList : public Cli {
 protected:
  Ended with(const std::string& list, const Words& words) const {
    return Program(command_line(list, words)).wait();
  }
  LocalServer second;
  const std::string both = server.address() + "," + second.address();
};

TEST_F(CliList, WhoHasAnotherListIsTold) {
  EXPECT_EQ(with(both, {"run", "job", "--", "true"}).status, 0);
  for (const Words& words : {Words{"run", "job", "--", "touch", file("ran")},
                             Words{"run", "job", "--no-wait", "--", "touch", file("ran")},
                             Words{"inspect", "job"}, Words{"list"}, Words{"list", "--json"}}) {
    const Ended ended = run(words);
    EXPECT_EQ(ended.status, 76) << words[0];
    EXPECT_TRUE(is_one_line(ended.errors)) << ended.errors;
    EXPECT_NE(ended.errors.find("servers move --to"), std::string::npos) << ended.errors;
  }
  EXPECT_EQ(content(file("ran")), "");
  EXPECT_EQ(access(file("ran").c_str(), F_OK), -1);
  const Ended doctor = run({"doctor"});
  EXPECT_EQ(doctor.status, 2);
  EXPECT_NE(doctor.output.find("clients lock by "), std::string::npos) << doctor.output;
  EXPECT_NE(doctor.output.find("servers move --to"), std::string::npos) << doctor.output;
  EXPECT_NE(run({"top", "--count", "1"}).output.find("is used with"), std::string::npos);
}

TEST_F(CliList, AddingAServer) {
  EXPECT_EQ(run({"run", "job", "--timeout", "2s", "--", "true"}).status, 0);
  EXPECT_NE(run({"servers", "show"}).output.find("all lock by " + server.address()),
            std::string::npos);
  const Ended asked = run({"servers", "move", "--to", both});
  EXPECT_EQ(asked.status, 64) << asked.errors;

  const Ended begun = run({"servers", "move", "--to", both, "--begin", "-y"});
  EXPECT_EQ(begun.status, 0) << begun.errors;
  const Ended shown = run({"servers", "show"});
  EXPECT_NE(shown.output.find("moving from " + server.address()), std::string::npos)
      << shown.output;
  for (const std::string& list : {server.address(), both}) {
    EXPECT_EQ(with(list, {"run", "job", "--timeout", "2s", "--", "true"}).status, 0);
  }
  std::string moving;  // one whose server is another
  for (int i = 0; moving.empty(); ++i) {
    const std::string name = "k" + std::to_string(i);
    if (mcl::MemcachedClient(both).server_of(name).to_string() == second.address()) moving = name;
  }
  Program holder(line({"run", moving, "--timeout", "2s", "--shell", wait_for(file("end"))}));
  EXPECT_EQ(holder_of(moving)["moves_to"], second.address());

  const Ended moved = run({"servers", "move", "--to", both, "--yes", "--wait", "2s"});
  EXPECT_EQ(moved.status, 0) << moved.errors;
  EXPECT_NE(moved.errors.find("waiting until leases"), std::string::npos) << moved.errors;
  EXPECT_NE(moved.output.find("all lock by " + both), std::string::npos) << moved.output;
  EXPECT_EQ(with(both, {"run", moving, "--no-wait", "--", "true"}).status, 1);  // held on
  std::ofstream(file("end")) << "now";
  EXPECT_EQ(holder.wait().status, 0);
  EXPECT_EQ(with(both, {"run", moving, "--no-wait", "--", "true"}).status, 0);

  const Ended again = run({"servers", "move", "--to", both, "--yes", "--json"});
  EXPECT_EQ(again.status, 0);
  EXPECT_EQ(Json::parse(again.output)["result"], "already");
  const Json all = Json::parse(with(both, {"servers", "show", "--json"}).output);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0]["state"], "in use");
  EXPECT_EQ(all[0]["list"], all[1]["list"]);
}

TEST_F(CliList, AMoveAsksOnATerminalAndWhatDoesNotDoIsRefused) {
  EXPECT_EQ(run({"run", "job", "--timeout", "2s", "--", "true"}).status, 0);
  Program program(line({"servers", "move", "--to", both}), {}, Program::On::terminal);
  EXPECT_TRUE(program.says("[y/N]")) << program.output();
  program.type("n\n");
  EXPECT_EQ(program.wait().status, 1);
  EXPECT_EQ(second.get("memcachedlock:^server"), "");

  second.stop();
  const Ended refused = run({"servers", "move", "--to", both, "--yes"});
  EXPECT_EQ(refused.status, 78);
  EXPECT_NE(refused.errors.find(second.address()), std::string::npos) << refused.errors;
  const Ended nonsense = run({"servers", "move", "--to", "a b", "--yes"});
  EXPECT_EQ(nonsense.status, 64);
  EXPECT_EQ(run({"servers", "move", "--to", both, "--begin", "--finish", "-y"}).status, 64);
  EXPECT_EQ(run({"servers"}).status, 64);
}

TEST_F(CliList, AMoveThatWasKilledGoesOn) {
  EXPECT_EQ(run({"run", "job", "--timeout", "5s", "--", "true"}).status, 0);
  Program program(line({"servers", "move", "--to", both, "--yes"}));
  EXPECT_TRUE(eventually(
      [&] { return second.get("memcachedlock:^server").find('>') != std::string::npos; }));
  program.signal(SIGKILL);
  EXPECT_EQ(program.wait().status, 128 + SIGKILL);
  EXPECT_EQ(run({"run", "job", "--timeout", "2s", "--", "true"}).status, 0);
  EXPECT_EQ(run({"servers", "move", "--to", both, "--yes", "--wait", "2s"}).status, 0);
  EXPECT_EQ(with(both, {"run", "job", "--", "true"}).status, 0);
}

TEST_F(CliList, DoctorWarnsOfWhatIsAnotherServerOnEachHost) {
  const Ended doctor = Program({MEMCACHEDLOCK_PROGRAM, "--servers", server.address() + ",192.0.2.1",
                                "--request-timeout", "100ms", "doctor"})
                           .wait();
  EXPECT_NE(doctor.output.find(server.address() + " is another server on each host"),
            std::string::npos)
      << doctor.output;
}

}  // namespace
