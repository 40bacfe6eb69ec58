// How what is known of locks and servers is shown: as lines and tables for people, as JSON for
// programs.
#pragma once

#include <exception>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cli/options.hpp"
#include "memcachedlock/inspect.hpp"

namespace memcachedlock::cli {

enum class Colour { none, bold, red, yellow, green };

/// Left alone where `use` is false.
std::string coloured(std::string text, Colour colour, bool use);

/// "1.5 s", "3 m 20 s": two units at most.
std::string shown(std::chrono::nanoseconds duration);
/// "12.3 MiB"
std::string shown_bytes(std::uint64_t bytes);

/// Without what a terminal would obey, in one line: servers may say anything.
std::string printable(std::string text);

/// What an error says, in one line, without the library's name in front of it.
std::string text_of(const std::exception& error);

/// host:pid, and the owner's name where there is one.
std::string shown_holder(const LockStatus& lock);

/// Columns as wide as their widest cell; the first row is the heading.
std::string table(const std::vector<std::vector<std::string>>& rows, bool colour);

std::string description(const LockStatus& lock, bool colour);
std::vector<std::string> heading();
std::vector<std::string> row(const LockStatus& lock);
/// The first few of the queue.
std::string shown_waiters(const LockStatus& lock);

nlohmann::json to_json(const LockStatus& lock);
/// On several lines, or on one. Bytes that are no UTF-8, as a key may have them, are replaced.
std::string text(const nlohmann::json& json, bool one_line = false);

}  // namespace memcachedlock::cli
