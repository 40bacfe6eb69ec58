#include "admin/key_listing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "base/clock.hpp"
#include "base/failure.hpp"
#include "memcachedlock/error.hpp"
#include "server/raw_socket.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

class Listing {
 public:
  Listing(const ServerAddress& server, const ClientOptions& options, Clock::time_point end)
      : name_(server.to_string()),
        max_wait_(options.operation_timeout),
        end_(end),
        socket_(server, options.connect_timeout) {}

  enum class Outcome { done, busy, not_known };

  /// Of the whole hash table, which misses nothing that moves between memcached's lists meanwhile;
  /// or, where the server does not know that (before 1.6.10), of its lists.
  Outcome run(std::string_view which, std::string_view prefix, std::vector<std::string>& items) {
    socket_.send(fmt::format("lru_crawler metadump {}\r\n", which), deadline());
    for (bool first = true;; first = false) {
      const std::string line = read_line();
      if (line == "END") return Outcome::done;
      if (line.starts_with("BUSY")) return Outcome::busy;
      if (first && line.starts_with("BADCLASS")) return Outcome::not_known;
      constexpr std::string_view name = "key=";
      if (!line.starts_with(name)) refuse(line);
      std::string item = decoded(std::string_view(line).substr(name.size()));
      if (item.starts_with(prefix)) items.push_back(std::move(item));
    }
  }

 private:
  [[nodiscard]] Clock::time_point deadline() const {
    return std::min(Clock::now() + max_wait_, end_);
  }

  [[noreturn]] void refuse(std::string_view answer) const {
    throw ServerError(
        fmt::format("{} does not list its keys: \"{}\"; this needs memcached 1.4.31 or later, the "
                    "text protocol without a login, and no -o no_lru_crawler. Single keys can be "
                    "inspected all the same",
                    name_, answer.substr(0, 80)),
        {}, name_);
  }

  std::string read_line() {
    constexpr std::size_t max_line = 4'096;
    for (;;) {
      const auto end = received_.find('\n', seen_);
      if (end != std::string::npos) {
        std::string line = received_.substr(seen_, end - seen_);
        seen_ = end + 1;
        if (line.ends_with('\r')) line.pop_back();  // the last one; those of keys do without
        return line;
      }
      received_.erase(0, std::exchange(seen_, 0));
      if (received_.size() > max_line) refuse(received_);
      const bool more = socket_.receive(received_, deadline());
      if (!more && answered_) {
        throw Failure(Failure::Kind::disconnected, "the connection was closed");
      }
      if (!more) refuse("(the connection was closed)");
      answered_ = true;
    }
  }

  /// The first word, with %XX for its byte.
  static std::string decoded(std::string_view text) {
    text = text.substr(0, text.find(' '));
    std::string result;
    for (std::size_t at = 0; at < text.size(); ++at) {
      unsigned byte = 0;
      if (text[at] == '%' && at + 2 < text.size() &&
          std::from_chars(&text[at + 1], &text[at + 3], byte, 16).ec == std::errc{}) {
        result += static_cast<char>(byte);
        at += 2;
      } else {
        result += text[at];
      }
    }
    return result;
  }

  const std::string name_;
  const milliseconds max_wait_;
  const Clock::time_point end_;
  const RawSocket socket_;
  bool answered_ = false;
  std::string received_;
  std::size_t seen_ = 0;  // how much of it was read
};

/// Waits while the server is busy with another list.
bool list_by(std::string_view which, const ServerAddress& server, const ClientOptions& options,
             std::string_view prefix, Clock::time_point end, std::vector<std::string>& items) {
  const auto patient_until = std::min(Clock::now() + options.operation_timeout, end);
  for (;;) {
    items.clear();
    const auto outcome = Listing(server, options, end).run(which, prefix, items);
    if (outcome != Listing::Outcome::busy) return outcome == Listing::Outcome::done;
    if (Clock::now() >= patient_until) {
      throw Unavailable(
          fmt::format("{} is busy with another list of its keys; try again", server.to_string()),
          {}, server.to_string());
    }
    std::this_thread::sleep_for(milliseconds(20));
  }
}

}  // namespace

std::vector<std::string> list_items(const ServerAddress& server, const ClientOptions& options,
                                    std::string_view prefix, milliseconds limit) {
  const auto end = Clock::now() + limit;
  std::vector<std::string> items;
  try {
    if (!list_by("hash", server, options, prefix, end, items)) {
      (void)list_by("all", server, options, prefix, end, items);
    }
  } catch (const Failure& failure) {
    throw Unavailable(
        Clock::now() >= end
            ? fmt::format("{} did not list its keys within {} ms, as it has many items; allow more "
                          "time",
                          server.to_string(), limit.count())
            : fmt::format(
                  "{} is unavailable: {}; check that memcached runs there and that the "
                  "network lets it through",
                  server.to_string(),
                  failure.kind == Failure::Kind::timeout
                      ? fmt::format("no answer within {} ms", options.operation_timeout.count())
                      : failure.what()),
        {}, server.to_string());
  }
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
  return items;
}

}  // namespace memcachedlock::detail
