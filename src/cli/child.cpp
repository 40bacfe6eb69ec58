#include "cli/child.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>

namespace memcachedlock::cli {

namespace {

constexpr std::array not_ours{SIGKILL, SIGSTOP, SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,
                              SIGTRAP, SIGABRT, SIGSYS,  SIGPIPE, SIGTTIN, SIGTTOU};

/// 32 and 33 are the C library's own; it takes no action on them for us.
bool is_passed_on(int signal) {
  struct sigaction action {};
  if (std::find(not_ours.begin(), not_ours.end(), signal) != not_ours.end()) return false;
  if (sigaction(signal, nullptr, &action) != 0) return false;
  // Signals that are ignored here, as by nohup(1), stay ignored in the command.
  return action.sa_handler != SIG_IGN;
}

sigset_t mask_before;
void (*pipe_before)(int) = SIG_DFL;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

bool has_terminal() {
  const int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
  if (terminal < 0) return false;
  close(terminal);
  return true;
}

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) fail("pipe2");
    read = ends[0];
    write = ends[1];
  }
  int read;
  int write;
};

/// In the child: what must not be done is to allocate.
[[noreturn]] void exec_child(char* const* arguments, bool own_group, const Pipe& go, int failure) {
  if (own_group) setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Not before all is there that ends it when we are killed.
  close(go.write);
  char byte = 0;
  if (read(go.read, &byte, 1) != 1) _exit(1);
  std::signal(SIGPIPE, pipe_before);
  sigprocmask(SIG_SETMASK, &mask_before, nullptr);
  execvp(arguments[0], arguments);
  const int error = errno;
  (void)!write(failure, &error, sizeof error);
  _exit(1);
}

}  // namespace

int Child::catch_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  for (int signal = 1; signal <= SIGRTMAX; ++signal) {
    if (is_passed_on(signal)) sigaddset(&set, signal);
  }
  sigprocmask(SIG_BLOCK, &set, &mask_before);
  pipe_before = std::signal(SIGPIPE, SIG_IGN);  // ours alone; who reads our messages may be gone
  std::signal(SIGCHLD, SIG_DFL);                // an ignored one would tell us nothing
  const int descriptor = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (descriptor < 0) fail("signalfd");
  return descriptor;
}

bool Child::ends_a_process(int signal) {
  return signal != 0 && signal != SIGCHLD && signal != SIGURG && signal != SIGWINCH &&
         signal != SIGCONT && signal != SIGTSTP;
}

ReceivedSignal Child::read_signal(int descriptor) {
  signalfd_siginfo info{};
  if (read(descriptor, &info, sizeof info) != sizeof info) return {};
  const int number = static_cast<int>(info.ssi_signo);
  // Of its keys and its size. A hangup, say, the system tells only the first process.
  const bool of_keys =
      number == SIGINT || number == SIGQUIT || number == SIGTSTP || number == SIGWINCH;
  return {number, of_keys && info.ssi_code == SI_KERNEL};
}

Child::Child(std::vector<std::string> command) : own_group_(!has_terminal()) {
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (std::string& word : command) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const Pipe failure;
  const Pipe go;
  pid_ = fork();
  if (pid_ < 0) fail("fork");
  if (pid_ == 0) exec_child(arguments.data(), own_group_, go, failure.write);
  close(failure.write);
  close(go.read);
  if (own_group_) setpgid(pid_, pid_);  // whoever comes first
  start_guard();
  (void)!write(go.write, "x", 1);
  close(go.write);
  wait_for_exec(failure.read);
}

Child::~Child() {
  if (guard_ < 0) return;
  (void)!write(guard_pipe_, "x", 1);
  close(guard_pipe_);
  while (waitpid(guard_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Child::start_guard() {
  const Pipe alive;
  guard_ = fork();
  if (guard_ == 0) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    prctl(PR_SET_NAME, "lock-guard");  // not to be killed with us, by our name
    close(alive.write);
    char byte = 0;
    // The end of the pipe without a byte: we were killed.
    while (true) {
      const ssize_t count = read(alive.read, &byte, 1);
      if (count < 0 && errno == EINTR) continue;
      if (count == 0) kill(own_group_ ? -pid_ : pid_, SIGKILL);
      _exit(0);
    }
  }
  close(alive.read);
  guard_pipe_ = alive.write;
}

void Child::wait_for_exec(int descriptor) {
  ssize_t count = 0;
  do {
    count = read(descriptor, &trouble_, sizeof trouble_);
  } while (count < 0 && errno == EINTR);
  close(descriptor);
}

void Child::forward(ReceivedSignal signal) const {
  if (own_group_ || !signal.by_terminal) kill(own_group_ ? -pid_ : pid_, signal.number);
}

void Child::send(int signal) const {
  kill(own_group_ ? -pid_ : pid_, signal);
  kill(own_group_ ? -pid_ : pid_, SIGCONT);
}

void Child::end_group() const {
  if (own_group_) kill(-pid_, SIGKILL);
}

/// The first process of a container is given those whose parents have ended.
void Child::reap_others() const {
  if (getpid() != 1) return;
  for (;;) {
    siginfo_t info{};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return;
    if (info.si_pid == 0 || info.si_pid == pid_ || info.si_pid == guard_) return;
    waitpid(info.si_pid, nullptr, 0);
  }
}

bool Child::has_ended() {
  reap_others();
  for (;;) {
    const pid_t changed = waitpid(pid_, &status_, WNOHANG | WUNTRACED);
    if (changed != pid_) return false;
    if (!WIFSTOPPED(status_)) return true;
    const int why = WSTOPSIG(status_);
    if (why == SIGTSTP || why == SIGTTIN || why == SIGTTOU) {
      kill(getpid(), SIGSTOP);
      kill(own_group_ ? -pid_ : pid_, SIGCONT);
    }
  }
}

}  // namespace memcachedlock::cli
