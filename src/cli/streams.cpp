#include "cli/streams.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

namespace memcachedlock::cli {

void open_standard_streams() noexcept {
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(number, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest that is free, which is this one.
    (void)!open("/dev/null", (number == STDIN_FILENO ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
  }
}

namespace {

[[noreturn]] void refuse_output() {
  throw OutputError(fmt::format("standard output: {}", std::generic_category().message(errno)));
}

}  // namespace

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) refuse_output();
}

void print_now(std::string_view text) {
  print(text);
  if (std::fflush(stdout) != 0) refuse_output();
}

void ask(std::string_view text) noexcept { (void)!write(STDERR_FILENO, text.data(), text.size()); }

void warn(std::string_view line) noexcept {
  try {
    const std::string text = fmt::format("memcachedlock: {}\n", line);
    (void)!write(STDERR_FILENO, text.data(), text.size());
  } catch (...) {  // no memory for it
  }
}

}  // namespace memcachedlock::cli
