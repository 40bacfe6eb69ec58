// The command that runs under the lock.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace memcachedlock::cli {

/// Which is not the terminal's driver, whose signals reach the command by themselves.
struct ReceivedSignal {
  int number = 0;
  bool by_terminal = false;
};

/// A process that ends with us, also when we are killed.
///
/// Under a terminal it stays in our process group, so that the keys of the terminal and job control
/// work as with flock(1). Elsewhere (cron, systemd) it leads one of its own, so that signals reach
/// all that it has started. A second process, which does nothing else, kills the command, or that
/// group, when we are killed; the system's own way (PR_SET_PDEATHSIG) ends where the command is a
/// setuid program, such as sudo.
class Child {
 public:
  /// Signals that are passed on: all but those that stop a process at once, that it sends itself by
  /// an error, and of job control. Blocks them, and SIGCHLD, for good; to be called before any
  /// thread is started. They are then read from the descriptor that it returns, with read_signal().
  static int catch_signals();
  static ReceivedSignal read_signal(int descriptor);
  /// Whether a process that does not handle the signal is ended by it.
  static bool ends_a_process(int signal);

  /// Throws std::system_error.
  explicit Child(std::vector<std::string> command);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// Whether exec() went wrong, and how (errno).
  [[nodiscard]] int trouble() const noexcept { return trouble_; }
  /// What the terminal has sent to both is not sent again.
  void forward(ReceivedSignal signal) const;
  /// To all of it that can be reached, stopped or not.
  void send(int signal) const;
  /// After it has ended: kills the processes that it has started and left, if they can be found.
  void end_group() const;
  /// After SIGCHLD: true when it has ended. When it has stopped, as it may not use the terminal, we
  /// stop too, and go on with it.
  bool has_ended();
  /// As waitpid() tells.
  [[nodiscard]] int status() const noexcept { return status_; }

 private:
  void start_guard();
  void reap_others() const;
  void wait_for_exec(int descriptor);

  pid_t pid_ = -1;
  bool own_group_ = false;
  int trouble_ = 0;
  int status_ = 0;
  pid_t guard_ = -1;
  int guard_pipe_ = -1;
};

}  // namespace memcachedlock::cli
