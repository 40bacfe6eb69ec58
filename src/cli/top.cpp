// memcachedlock top: the locks on the servers, live.
#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/exit_status.hpp"
#include "cli/show.hpp"
#include "cli/streams.hpp"
#include "memcachedlock/diagnosis.hpp"
#include "memcachedlock/error.hpp"
#include "memcachedlock/inspect.hpp"

namespace memcachedlock::cli {

namespace {

using Clock = std::chrono::steady_clock;

/// Signals that end it come by a descriptor, so that the terminal is put right first.
class Signals {
 public:
  Signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP}) {
      sigaddset(&set, signal);
    }
    sigprocmask(SIG_BLOCK, &set, nullptr);
    descriptor_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  }
  ~Signals() { close(descriptor_); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
  [[nodiscard]] int next() const {
    signalfd_siginfo info{};
    if (read(descriptor_, &info, sizeof info) != sizeof info) return 0;
    return static_cast<int>(info.ssi_signo);
  }

 private:
  int descriptor_;
};

/// A screen of its own, keys without Enter; as it was before when it is destroyed.
class Screen {
 public:
  Screen() {
    tcgetattr(STDIN_FILENO, &before_);
    enter();
  }
  ~Screen() { leave(); }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  /// As ^Z does: the terminal is the shell's meanwhile.
  void stop() const {
    leave();
    kill(getpid(), SIGSTOP);
    enter();
  }

  /// As much of it as there is room for.
  static void show(const std::string& text) {
    winsize size{};
    const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0;
    const std::size_t rows = known ? size.ws_row : 24;
    const std::size_t columns = known && size.ws_col > 0 ? size.ws_col : 80;
    std::string screen = "\x1b[H";
    std::size_t row = 0;
    for (std::size_t start = 0; start < text.size() && row + 1 < rows; ++row) {
      const auto end = text.find('\n', start);
      screen += cut(text.substr(start, end - start), columns) + "\x1b[K\n";
      start = end + 1;
    }
    print_now(screen + "\x1b[J");
  }

 private:
  void enter() const {
    termios now = before_;
    now.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &now);
    print_now("\x1b[?1049h\x1b[?25l");
  }

  void leave() const noexcept {
    tcsetattr(STDIN_FILENO, TCSANOW, &before_);
    try {
      print_now("\x1b[?25h\x1b[?1049l");
    } catch (const OutputError&) {  // the terminal is gone
    }
  }

  /// So many characters of a line; what colours them takes no room.
  static std::string cut(const std::string& line, std::size_t columns) {
    std::string result;
    std::size_t width = 0;
    for (std::size_t at = 0; at < line.size(); ++at) {
      if (line[at] == '\x1b') {
        const auto end = line.find('m', at);
        if (end == std::string::npos) break;
        result += line.substr(at, end - at + 1);
        at = end;
      } else if (width++ < columns) {
        result += line[at];
      }
    }
    return result;
  }

  termios before_{};
};

// Keys and signals are looked at between two servers.
constexpr milliseconds max_listing{2'000};

struct ServerView {
  std::string trouble;
  std::vector<LockStatus> locks;
  std::optional<Traffic> traffic;
  std::map<std::string, double> rates;  // a second; empty at first
};

class Observation {
 public:
  explicit Observation(const CommonOptions& common) : client_(common.connect()) {}

  void look() {
    const auto now = Clock::now();
    for (const ServerAddress& server : client_.servers()) {
      ServerView& view = views_[server.to_string()];
      const auto before = view.traffic;
      view = {};
      try {
        view.locks = list_locks(client_, server, max_listing);
        view.traffic = traffic(client_, server);
        if (before && !has_restarted(*before, *view.traffic)) {
          view.rates = rates(*before, *view.traffic, now - looked_at_);
        }
      } catch (const Error& error) {
        view.trouble = text_of(error);
      }
      note(view, now);
    }
    looked_at_ = now;
    ++looks_;
  }

  /// Where nothing could be shown: a status to exit with.
  [[nodiscard]] int status() const {
    const bool all_down = std::all_of(views_.begin(), views_.end(), [](const auto& view) {
      return !view.second.trouble.empty();
    });
    return all_down ? status::unavailable : status::fine;
  }

  [[nodiscard]] std::string text(bool colour) const {
    std::string result;
    for (const auto& [name, view] : views_) {
      result += coloured(name, Colour::bold, colour);
      if (!view.trouble.empty()) {
        result += "  " + coloured(view.trouble, Colour::red, colour) + '\n';
        continue;
      }
      const auto waited =
          std::count_if(view.locks.begin(), view.locks.end(),
                        [](const LockStatus& lock) { return !lock.waiters.empty(); });
      result += fmt::format("  {} locks, {} with a queue", view.locks.size(), waited);
      for (const auto& [what, rate] : view.rates)
        result += fmt::format("  {} {:.0f}/s", what, rate);
      result += '\n';
    }
    std::vector<std::vector<std::string>> rows{heading()};
    rows.front().emplace_back("BUSY");
    rows.front().emplace_back("TAKEN");
    rows.front().emplace_back("HAND-OVER");
    rows.front().emplace_back("WHO WAITS");
    for (const LockStatus* lock : by_queue()) {
      rows.push_back(row(*lock));
      rows.back().push_back(fmt::format("{:.0f} %", 100 * busy(*lock)));
      const auto rate = taken(*lock);
      rows.back().push_back(rate ? fmt::format("~{:.1f}/s", *rate) : "-");
      const auto time = hand_over(*lock);
      rows.back().push_back(time ? (time->is_bound ? "<" : "") + shown(time->time) : "-");
      rows.back().push_back(shown_waiters(*lock));
    }
    return result + '\n' + table(rows, colour);
  }

  [[nodiscard]] nlohmann::json json() const {
    nlohmann::json result{{"servers", nlohmann::json::array()}, {"locks", nlohmann::json::array()}};
    for (const auto& [name, view] : views_) {
      nlohmann::json server{{"server", name}, {"locks", view.locks.size()}};
      if (!view.trouble.empty()) server["trouble"] = view.trouble;
      for (const auto& [what, rate] : view.rates) server[what + "_per_s"] = rate;
      result["servers"].push_back(server);
    }
    for (const LockStatus* lock : by_queue()) {
      result["locks"].push_back(to_json(*lock));
      result["locks"].back()["busy"] = busy(*lock);
      const auto rate = taken(*lock);
      result["locks"].back()["taken_per_s"] = rate ? nlohmann::json(*rate) : nullptr;
      const auto time = hand_over(*lock);
      const bool is_known = time && !time->is_bound;
      result["locks"].back()["hand_over_us"] =
          is_known ? nlohmann::json(time->time.count()) : nullptr;
    }
    return result;
  }

 private:
  /// Its counters began again.
  static bool has_restarted(const Traffic& before, const Traffic& now) {
    return now.uptime < before.uptime || now.reads < before.reads || now.writes < before.writes ||
           now.swaps < before.swaps || now.refused_swaps < before.refused_swaps ||
           now.evictions < before.evictions;
  }

  static std::map<std::string, double> rates(const Traffic& before, const Traffic& now,
                                             Clock::duration time) {
    const double seconds = std::chrono::duration<double>(time).count();
    const auto rate = [&](std::uint64_t Traffic::*counter) {
      return static_cast<double>(now.*counter - before.*counter) / seconds;
    };
    return {{"reads", rate(&Traffic::reads)},
            {"writes", rate(&Traffic::writes)},
            {"swaps", rate(&Traffic::swaps)},
            {"refused", rate(&Traffic::refused_swaps)},
            {"evictions", rate(&Traffic::evictions)}};
  }

  void note(const ServerView& view, Clock::time_point now) {
    for (const LockStatus& lock : view.locks) {
      auto [place, fresh] = seen_.try_emplace(lock.item);
      Seen& seen = place->second;
      if (fresh) seen.since = looks_;
      ++seen.held;
      // Where nobody waited, the item may have gone meanwhile, and the count with it.
      const bool goes_on = seen.last_look == looks_ - 1 && seen.waiting && !lock.waiters.empty() &&
                           lock.releases >= seen.releases;
      if (!goes_on) {
        seen.counted_since = now;
        seen.counted_from = lock.releases;
      }
      seen.last_look = looks_;
      seen.waiting = !lock.waiters.empty();
      seen.was_waited_for = seen.was_waited_for || seen.waiting;
      seen.releases = lock.releases;
    }
  }

  /// In how many of our looks it was held, since the first that found it.
  [[nodiscard]] double busy(const LockStatus& lock) const {
    const Seen& seen = seen_.at(lock.item);
    return static_cast<double>(seen.held) / static_cast<double>(looks_ - seen.since);
  }

  /// How often a second. Where it is not counted, by how long it is usually held, and for how much
  /// of the time.
  [[nodiscard]] std::optional<double> taken(const LockStatus& lock) const {
    const Seen& seen = seen_.at(lock.item);
    if (seen.turns() > 0) return 1 / turn(seen).count();
    // Between holders that wait for each other it is free for an unknown time.
    if (lock.usual_hold.count() == 0 || seen.was_waited_for) return std::nullopt;
    return busy(lock) / std::chrono::duration<double>(lock.usual_hold).count();
  }

  /// How long nobody has it between two holders while others wait, at the most if `is_bound`. The
  /// hosts' clocks don't tell; it is what a turn lasts longer than a hold.
  struct HandOver {
    std::chrono::microseconds time;
    bool is_bound;
  };
  [[nodiscard]] std::optional<HandOver> hand_over(const LockStatus& lock) const {
    const Seen& seen = seen_.at(lock.item);
    if (seen.turns() == 0 || lock.usual_hold.count() == 0) return std::nullopt;
    const auto mean = std::chrono::duration_cast<std::chrono::microseconds>(turn(seen));
    const auto time = mean - lock.usual_hold;
    // A look may come just before a release, or after.
    const auto error = mean / seen.turns();
    if (time < error) return HandOver{2 * error, true};
    return HandOver{time, false};
  }

  /// The longest queue first.
  [[nodiscard]] std::vector<const LockStatus*> by_queue() const {
    std::vector<const LockStatus*> result;
    for (const auto& entry : views_) {
      for (const LockStatus& lock : entry.second.locks) result.push_back(&lock);
    }
    std::stable_sort(result.begin(), result.end(), [](const auto* one, const auto* other) {
      return one->waiters.size() > other->waiters.size();
    });
    return result;
  }

  struct Seen {
    int since = 0;
    int held = 0;
    int last_look = 0;
    bool waiting = false;
    bool was_waited_for = false;
    std::uint64_t releases = 0;
    /// While others waited at each look.
    Clock::time_point counted_since;
    std::uint64_t counted_from = 0;
    [[nodiscard]] std::int64_t turns() const {
      return static_cast<std::int64_t>(releases - counted_from);
    }
  };
  /// From one release to the next.
  [[nodiscard]] std::chrono::duration<double> turn(const Seen& seen) const {
    return (looked_at_ - seen.counted_since) / static_cast<double>(seen.turns());
  }
  const MemcachedClient client_;
  std::map<std::string, ServerView> views_;
  std::map<std::string, Seen> seen_;
  Clock::time_point looked_at_{};
  int looks_ = 0;
};

/// Nothing to go on; else a signal, or 0 for the key q. Looks for both at least once.
std::optional<int> pause(const Signals& signals, milliseconds interval, bool keys) {
  const auto end = Clock::now() + interval;
  for (;;) {
    const auto left = std::clamp(std::chrono::ceil<milliseconds>(end - Clock::now()),
                                 milliseconds(0), milliseconds(1'000'000));
    std::array<pollfd, 2> both{
        {{signals.descriptor(), POLLIN, 0}, {keys ? STDIN_FILENO : -1, POLLIN, 0}}};
    poll(both.data(), both.size(), static_cast<int>(left.count()));
    const int signal = signals.next();
    if (signal == SIGWINCH) return std::nullopt;
    if (signal != 0) return signal;
    char key = 0;
    if ((both[1].revents & POLLIN) != 0 && read(STDIN_FILENO, &key, 1) == 1 && key == 'q') return 0;
    if ((both[1].revents & POLLHUP) != 0) return 0;
    if (Clock::now() >= end) return std::nullopt;
  }
}

}  // namespace

int top(const CommonOptions& common, const TopOptions& options) {
  const Signals signals;
  Observation observation(common);
  const bool live = !common.json && isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0;
  std::optional<Screen> screen;
  if (live) screen.emplace();
  for (int shown = 1;; ++shown) {
    observation.look();
    if (live) {
      Screen::show(observation.text(common.colour));
    } else {
      print_now(
          (common.json ? cli::text(observation.json(), true) : observation.text(common.colour)) +
          '\n');
    }
    if (shown == options.count) return observation.status();
    const auto end = pause(signals, options.interval, live);
    if (end == SIGTSTP) {
      if (screen) {
        screen->stop();
      } else {
        kill(getpid(), SIGSTOP);
      }
    } else if (end) {
      return *end == 0 ? status::fine : 128 + *end;
    }
  }
}

}  // namespace memcachedlock::cli
