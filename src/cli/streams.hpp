// Standard output and standard error, every write checked.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace memcachedlock::cli {

/// Standard output takes no more.
struct OutputError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Where one of the first three descriptors is closed, something is put there on which reading or
/// writing fails: else a connection would get its number, and messages would go into it. A command
/// that is run does not inherit it.
void open_standard_streams() noexcept;

/// To standard output. Throws OutputError.
void print(std::string_view text);
/// The same, and all of it is there afterwards.
void print_now(std::string_view text);

/// To standard error, as it is.
void ask(std::string_view text) noexcept;

/// A line to standard error. One that takes no more is no reason to give anything up.
void warn(std::string_view line) noexcept;

}  // namespace memcachedlock::cli
