#include "memcachedlock/observer.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <utility>

namespace memcachedlock {

std::string_view to_string(EventKind kind) noexcept {
  switch (kind) {
    case EventKind::acquired:
      return "acquired";
    case EventKind::contended:
      return "contended";
    case EventKind::given_up:
      return "given_up";
    case EventKind::released:
      return "released";
    case EventKind::extended:
      return "extended";
    case EventKind::lost:
      return "lost";
    case EventKind::reserved:
      return "reserved";
    case EventKind::conflict:
      return "conflict";
    case EventKind::retried:
      return "retried";
    case EventKind::unavailable:
      return "unavailable";
    case EventKind::misused:
      return "misused";
    case EventKind::proceeded_unlocked:
      return "proceeded_unlocked";
    case EventKind::restart_seen:
      return "restart_seen";
    case EventKind::servers_differ:
      return "servers_differ";
    case EventKind::servers_moved:
      return "servers_moved";
  }
  return "unknown";
}

std::string_view to_string(GiveUp reason) noexcept {
  switch (reason) {
    case GiveUp::none:
      return "none";
    case GiveUp::timed_out:
      return "timed_out";
    case GiveUp::cancelled:
      return "cancelled";
    case GiveUp::unavailable:
      return "unavailable";
    case GiveUp::lost:
      return "lost";
    case GiveUp::entered:
      return "entered";
  }
  return "unknown";
}

std::string_view to_string(GrantKind kind) noexcept {
  switch (kind) {
    case GrantKind::told:
      return "told";
    case GrantKind::found:
      return "found";
    case GrantKind::late:
      return "late";
  }
  return "unknown";
}

std::string_view to_string(LockType type) noexcept {
  switch (type) {
    case LockType::lock:
      return "lock";
    case LockType::rlock:
      return "rlock";
    case LockType::zlock:
      return "zlock";
  }
  return "unknown";
}

Observer::~Observer() = default;

void Observer::on_round_trip(std::string_view /*server*/, std::chrono::nanoseconds /*duration*/) {}
void Observer::on_grant(std::string_view /*server*/, GrantKind /*kind*/) {}

LogObserver::LogObserver()
    : sink_([](std::string_view line) {
        // One call: lines of several threads and processes stay whole.
        std::fwrite(line.data(), 1, line.size(), stderr);
      }) {}

LogObserver::LogObserver(std::function<void(std::string_view)> sink) : sink_(std::move(sink)) {}
LogObserver::~LogObserver() = default;

void LogObserver::on_event(const Event& event) {
  using Milliseconds = std::chrono::duration<double, std::milli>;
  std::string line = fmt::format("memcachedlock {}", to_string(event.kind));
  if (!event.key.empty()) line += fmt::format(" key=\"{}\"", event.key);
  if (!event.scope.empty()) line += fmt::format(" scope=\"{}\"", event.scope);
  line += fmt::format(" server={}", event.server);
  if (event.token) line += fmt::format(" token={}", event.token.to_string());
  if (event.attempt != 0) line += fmt::format(" attempt={}", event.attempt);
  if (event.duration.count() != 0) {
    line += fmt::format(" ms={:.3f}", Milliseconds(event.duration).count());
  }
  if (event.give_up != GiveUp::none) line += fmt::format(" reason={}", to_string(event.give_up));
  if (event.release == Release::unavailable) line += " release=unavailable";
  if (!event.detail.empty()) line += fmt::format(" detail=\"{}\"", event.detail);
  for (char& c : line) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  line += '\n';
  sink_(line);
}

}  // namespace memcachedlock
