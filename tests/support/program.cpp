#include "support/program.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <stdexcept>

namespace {

/// False at the end.
bool append_from(int& descriptor, std::string& text) {
  std::array<char, 4'096> bytes{};
  const ssize_t count = read(descriptor, bytes.data(), bytes.size());
  if (count > 0) text.append(bytes.data(), static_cast<std::size_t>(count));
  if (count > 0 || (count < 0 && errno == EINTR)) return true;
  close(descriptor);  // the end, or a terminal that nobody has open any more
  descriptor = -1;
  return false;
}

}  // namespace

Program::Program(std::vector<std::string> command,
                 const std::map<std::string, std::string>& variables, On on) {
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (std::string& word : command) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  std::array<int, 2> in{};
  std::array<int, 2> out{};
  std::array<int, 2> errors{};
  if (on == On::pipes) {
    if (pipe2(in.data(), O_CLOEXEC) != 0 || pipe2(out.data(), O_CLOEXEC) != 0 ||
        pipe2(errors.data(), O_CLOEXEC) != 0) {
      throw std::runtime_error("no pipe");
    }
    pid_ = fork();
  } else {
    winsize size{};
    size.ws_row = 40;
    size.ws_col = 160;
    pid_ = forkpty(&input_, nullptr, nullptr, &size);
  }
  if (pid_ < 0) throw std::runtime_error("no process");
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
    if (on == On::pipes) {
      setsid();
      dup2(in[0], STDIN_FILENO);
      dup2(out[1], STDOUT_FILENO);
      dup2(errors[1], STDERR_FILENO);
    }
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  if (on == On::pipes) {
    close(in[0]);
    close(out[1]);
    close(errors[1]);
    input_ = in[1];
    output_ = out[0];
    errors_ = errors[0];
  } else {
    fcntl(input_, F_SETFD, FD_CLOEXEC);
    output_ = dup(input_);
    fcntl(output_, F_SETFD, FD_CLOEXEC);
  }
}

Program::~Program() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  for (const int descriptor : {input_, output_, errors_}) {
    if (descriptor >= 0) close(descriptor);
  }
}

void Program::signal(int number) const { kill(pid_, number); }

void Program::type(const std::string& text) const {
  if (write(input_, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    throw std::runtime_error("cannot type");
  }
}

bool Program::read_some(int limit_ms) {
  std::array<pollfd, 2> both{{{output_, POLLIN, 0}, {errors_, POLLIN, 0}}};
  if (poll(both.data(), both.size(), limit_ms) <= 0) return false;
  if (both[0].revents != 0) append_from(output_, ended_.output);
  if (both[1].revents != 0) append_from(errors_, ended_.errors);
  return output_ >= 0 || errors_ >= 0;
}

bool Program::says_after(std::size_t start, const std::string& text) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  const auto said = [&] { return ended_.output.find(text, start) != std::string::npos; };
  while (!said()) {
    if (std::chrono::steady_clock::now() > end) return false;
    if (!read_some(1'000) && output_ < 0) return said();
  }
  return true;
}

Ended Program::wait() {
  int status = 0;
  // Its output may go on after its end, in what it has left behind: that is not waited for.
  while (waitpid(pid_, &status, WNOHANG) == 0) {
    if (output_ >= 0 || errors_ >= 0) {
      read_some(5);
    } else {
      poll(nullptr, 0, 5);
    }
  }
  pid_ = -1;
  while (read_some(0)) {
  }
  ended_.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ended_;
}
