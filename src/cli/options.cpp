#include "cli/options.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <utility>

namespace memcachedlock::cli {

namespace {

/// Not on the command line, where all users of the machine see it.
std::string read_password(const std::string& file) {
  if (file.empty()) {
    const char* variable = std::getenv("MEMCACHEDLOCK_PASSWORD");
    if (variable == nullptr) {
      throw UsageError(
          "--sasl-user needs a password: give --password-file, or set "
          "MEMCACHEDLOCK_PASSWORD");
    }
    return variable;
  }
  std::ifstream in(file);
  std::string line;
  if (!in || !std::getline(in, line)) {
    throw UsageError(fmt::format("no password can be read from \"{}\"", file));
  }
  return line;
}

}  // namespace

MemcachedClient CommonOptions::connect() const {
  ClientOptions options = client;
  if (!options.sasl_user.empty()) {
    options.protocol = Protocol::binary;
    options.sasl_password = read_password(password_file);
  }
  return MemcachedClient(servers.empty() ? servers_from_environment() : servers,
                         std::move(options));
}

milliseconds parse_duration(const std::string& text) {
  constexpr std::array<std::pair<std::string_view, double>, 5> units{
      {{"ms", 1}, {"s", 1'000}, {"", 1'000}, {"m", 60'000}, {"h", 3'600'000}}};
  double number = 0;
  // Not by the program's locale; and it takes no sign, no infinity, no hexadecimal.
  const bool begins_well = !text.empty() && text.front() >= '0' && text.front() <= '9';
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (begins_well && error == std::errc{}) {
    const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
    for (const auto& [name, factor] : units) {
      constexpr double longest = 1e12;  // ms
      if (unit == name && number * factor <= longest) {
        return milliseconds(std::llround(number * factor));
      }
    }
  }
  throw UsageError(
      fmt::format("\"{}\" is no duration; write it as 500ms, 30s, 2m or 1h, or as seconds", text));
}

}  // namespace memcachedlock::cli
