#include "memcachedlock/servers.hpp"

#include <fmt/format.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "memcachedlock/error.hpp"

namespace memcachedlock {

namespace {

constexpr std::uint16_t default_port = 11211;

[[noreturn]] void reject(std::string_view entry, std::string_view why) {
  throw InvalidServers(
      fmt::format("server entry \"{}\": {}; expected host, host:port, [ipv6]:port or /path/to.sock",
                  entry, why));
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\n";
  const auto first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

std::uint16_t parse_port(std::string_view entry, std::string_view text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port == 0 || port > 65'535) {
    reject(entry, fmt::format("the port \"{}\" is not a number from 1 to 65535", text));
  }
  return static_cast<std::uint16_t>(port);
}

std::string parse_host(std::string_view entry, std::string_view text, std::string_view allowed) {
  if (text.empty()) reject(entry, "no host");
  if (text.size() > 253) reject(entry, "the host is too long");
  std::string host;
  for (const char c : text) {
    // Not by <cctype>, as a key's server must not depend on the program's locale.
    const bool is_upper = c >= 'A' && c <= 'Z';
    const bool is_plain = is_upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (!is_plain && allowed.find(c) == std::string_view::npos) reject(entry, "not a host name");
    host += is_upper ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return host;
}

ServerAddress parse_entry(std::string_view entry) {
  if (entry.empty()) reject(entry, "empty");
  if (entry.front() == '/') {
    if (entry.size() >= sizeof(sockaddr_un::sun_path)) reject(entry, "the path is too long");
    if (entry.find('\0') != std::string_view::npos) reject(entry, "not a path");
    return {std::string(entry), 0};
  }
  if (entry.front() == '[') {
    const auto close = entry.find(']');
    if (close == std::string_view::npos) reject(entry, "no closing bracket");
    const std::string_view rest = entry.substr(close + 1);
    ServerAddress address{parse_host(entry, entry.substr(1, close - 1), ":.%"), default_port};
    if (address.host.find(':') == std::string::npos) reject(entry, "not an IPv6 address");
    if (rest.empty()) return address;
    if (rest.front() != ':') reject(entry, "something follows the bracket");
    address.port = parse_port(entry, rest.substr(1));
    return address;
  }
  const auto colon = entry.find(':');
  ServerAddress address{parse_host(entry, entry.substr(0, colon), "-._"), default_port};
  if (colon != std::string_view::npos) address.port = parse_port(entry, entry.substr(colon + 1));
  return address;
}

}  // namespace

std::string ServerAddress::to_string() const {
  if (is_unix_socket()) return host;
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

std::vector<ServerAddress> parse_servers(std::string_view list) {
  std::vector<ServerAddress> result;
  for (std::size_t start = 0;;) {
    const auto comma = list.find(',', start);
    const std::string_view entry = trimmed(list.substr(start, comma - start));
    ServerAddress address = parse_entry(entry);
    const auto at = std::lower_bound(result.begin(), result.end(), address);
    if (at != result.end() && *at == address) reject(entry, "listed twice");
    result.insert(at, std::move(address));
    if (comma == std::string_view::npos) return result;
    start = comma + 1;
  }
}

std::string servers_from_environment() {
  const char* variable = std::getenv("MEMCACHEDLOCK_SERVERS");
  if (variable == nullptr) return "127.0.0.1:11211";
  if (trimmed(variable).empty()) {
    throw InvalidServers(
        "MEMCACHEDLOCK_SERVERS is set but empty: unset it for 127.0.0.1:11211, or list servers");
  }
  return variable;
}

}  // namespace memcachedlock
