#include "cli/show.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace memcachedlock::cli {

namespace {

constexpr std::string_view unknown = "-";

nlohmann::json to_json(const Participant& one) {
  return {{"host", one.host}, {"pid", one.pid}, {"thread", one.thread}};
}

nlohmann::json to_json(const std::vector<Participant>& all) {
  nlohmann::json result = nlohmann::json::array();
  for (const Participant& one : all) result.push_back(to_json(one));
  return result;
}

nlohmann::json to_json(const std::optional<milliseconds>& time) {
  return time ? nlohmann::json(time->count()) : nlohmann::json(nullptr);
}

std::string shown_if_known(const std::optional<milliseconds>& time) {
  return time ? shown(*time) : std::string(unknown);
}

std::string shown_place(const Participant& one) {
  return fmt::format("process {} on {}, thread {}", one.pid, one.host, one.thread);
}

}  // namespace

std::string coloured(std::string text, Colour colour, bool use) {
  if (!use || colour == Colour::none) return text;
  constexpr std::array codes{"0", "1", "31", "33", "32"};
  return fmt::format("\x1b[{}m{}\x1b[0m", codes.at(static_cast<std::size_t>(colour)), text);
}

std::string shown(std::chrono::nanoseconds duration) {
  using std::chrono::duration_cast;
  const auto count = [&](auto unit) { return duration_cast<decltype(unit)>(duration).count(); };
  const auto seconds = count(std::chrono::seconds());
  if (duration < std::chrono::milliseconds(1)) {
    return fmt::format("{} us", count(std::chrono::microseconds()));
  }
  if (duration < std::chrono::seconds(1)) {
    return fmt::format("{} ms", count(std::chrono::milliseconds()));
  }
  if (seconds < 10) return fmt::format("{:.1f} s", static_cast<double>(duration.count()) / 1e9);
  if (seconds < 60) return fmt::format("{} s", seconds);
  if (seconds < 3'600) return fmt::format("{} m {} s", seconds / 60, seconds % 60);
  if (seconds < 86'400) return fmt::format("{} h {} m", seconds / 3'600, seconds / 60 % 60);
  return fmt::format("{} d {} h", seconds / 86'400, seconds / 3'600 % 24);
}

std::string shown_bytes(std::uint64_t bytes) {
  constexpr std::array units{"bytes", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1'024 && unit + 1 < units.size(); ++unit) value /= 1'024;
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 1, units.at(unit));
}

std::string printable(std::string text) {
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto byte = static_cast<unsigned char>(text[at]);
    // Also those of 8 bits that terminals obey, which UTF-8 writes after 0xc2.
    const bool is_long =
        byte == 0xc2 && at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) < 0xa0;
    if (byte < 0x20 || byte == 0x7f || is_long) text[at] = byte == '\n' ? ' ' : '?';
    if (is_long) text[++at] = '?';
  }
  return text;
}

std::string text_of(const std::exception& error) {
  constexpr std::string_view name = "memcachedlock: ";
  const std::string line = printable(error.what());
  return line.starts_with(name) ? line.substr(name.size()) : line;
}

std::string shown_holder(const LockStatus& lock) {
  const Participant& first = lock.holders.front();
  std::string text = fmt::format("{}:{}", first.host, first.pid);
  if (lock.holders.size() > 1) text += fmt::format(" and {} more", lock.holders.size() - 1);
  if (!lock.owner.empty()) text += fmt::format(" as {}", lock.owner);
  return text;
}

std::string table(const std::vector<std::vector<std::string>>& rows, bool colour) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t at = 0; at < row.size(); ++at) {
      widths[at] = std::max(widths[at], row[at].size());
    }
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t at = 0; at < row.size(); ++at) {
      line += fmt::format("{:<{}}  ", row[at], widths[at]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += coloured(line, &row == rows.data() ? Colour::bold : Colour::none, colour) + '\n';
  }
  return text;
}

std::string description(const LockStatus& lock, bool colour) {
  std::string text;
  const auto line = [&](std::string_view name, const std::string& value) {
    text += coloured(fmt::format("{:<11}", name), Colour::bold, colour) + value + '\n';
  };
  line("key", lock.key);
  line("server", lock.server);
  if (!lock.moves_to.empty()) line("moves to", lock.moves_to);
  line("state", lock.reserved     ? "reserved for its owner"
                : lock.lease_left ? "held"
                                  : "granted to a waiter that has not taken it up yet");
  if (!lock.owner.empty()) line("owner", lock.owner);
  for (const Participant& holder : lock.holders) line("holder", shown_place(holder));
  if (!lock.owner.empty()) line("holds", std::to_string(lock.holders.size()));
  line("held for", shown_if_known(lock.held_for));
  const bool over = lock.lease_left == milliseconds(0);
  line("lease", fmt::format("{} of {} left",
                            coloured(shown_if_known(lock.lease_left),
                                     over ? Colour::red : Colour::none, colour),
                            shown(lock.timeout)));
  line("token", lock.token ? lock.token.to_string() : "not known, as others have queued since");
  if (lock.usual_hold.count() != 0) line("usual hold", shown(lock.usual_hold));
  if (lock.waiters.empty()) line("waiters", "none in the queue");
  for (std::size_t at = 0; at < lock.waiters.size(); ++at) {
    line(at == 0 ? "waiters" : "", shown_place(lock.waiters[at]));
  }
  return text;
}

std::vector<std::string> heading() {
  return {"KEY", "HOLDER", "HELD", "LEASE LEFT", "WAITERS", "USUAL HOLD"};
}

std::vector<std::string> row(const LockStatus& lock) {
  return {lock.key,
          lock.reserved ? "(reserved) " + shown_holder(lock) : shown_holder(lock),
          shown_if_known(lock.held_for),
          shown_if_known(lock.lease_left),
          std::to_string(lock.waiters.size()),
          lock.usual_hold.count() != 0 ? shown(lock.usual_hold) : std::string(unknown)};
}

std::string shown_waiters(const LockStatus& lock) {
  constexpr std::size_t most = 3;
  std::string text;
  for (std::size_t at = 0; at < std::min(most, lock.waiters.size()); ++at) {
    text += fmt::format("{}{}:{}", at == 0 ? "" : " ", lock.waiters[at].host, lock.waiters[at].pid);
  }
  if (lock.waiters.size() > most) text += fmt::format(" +{}", lock.waiters.size() - most);
  return text.empty() ? std::string(unknown) : text;
}

std::string text(const nlohmann::json& json, bool one_line) {
  return json.dump(one_line ? -1 : 2, ' ', false, nlohmann::json::error_handler_t::replace);
}

nlohmann::json to_json(const LockStatus& lock) {
  nlohmann::json result{
      {"key", lock.key},
      {"server", lock.server},
      {"state", lock.reserved     ? "reserved"
                : lock.lease_left ? "held"
                                  : "granted"},
      {"owner", lock.owner.empty() ? nlohmann::json(nullptr) : nlohmann::json(lock.owner)},
      {"holders", to_json(lock.holders)},
      {"waiters", to_json(lock.waiters)},
      {"timeout_ms", lock.timeout.count()},
      {"lease_left_ms", to_json(lock.lease_left)},
      {"held_for_ms", to_json(lock.held_for)},
      {"usual_hold_us", lock.usual_hold.count()},
      {"releases", lock.releases},
      {"token", nullptr}};
  if (lock.token) result["token"] = lock.token.to_string();
  if (!lock.moves_to.empty()) result["moves_to"] = lock.moves_to;
  return result;
}

}  // namespace memcachedlock::cli
