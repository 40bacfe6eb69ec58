#include "memcachedlock/move_servers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "base/mutex.hpp"
#include "memcachedlock/error.hpp"
#include "server/cluster.hpp"

namespace memcachedlock {

namespace {

using detail::Routing;
using detail::SeenItem;
using detail::SeenServer;
using detail::Server;
using detail::ServerItem;
using std::chrono::milliseconds;

// Who was told that it holds a lock may count that long without a request.
constexpr milliseconds least_wait{2'000};

/// One address, and what was found there.
struct Found {
  Server* server = nullptr;
  std::optional<SeenItem> seen;
  std::string trouble;
  bool gone = false;

  [[nodiscard]] const ServerItem* item() const { return seen ? seen->item.get() : nullptr; }
};

bool is_in_use(const ServerItem& item) {
  return !item.list.self.empty() || item.next.has_value() || !item.confirmed;
}

std::string shown(std::string_view text) {
  constexpr std::size_t most = 120;
  std::string result(text.substr(0, most));
  std::replace_if(
      result.begin(), result.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return result;
}

/// All servers of some lists, and of the lists that these are used in.
class Fleet {
 public:
  explicit Fleet(detail::Agreement& agreement) : agreement_(agreement) {}

  void add(const Routing& list, const std::vector<ServerAddress>& gone = {}) {
    for (Server* server : list.servers()) {
      if (find(*server) != nullptr) continue;
      Found& one = all_.emplace_back();
      one.server = server;
      one.gone = std::find(gone.begin(), gone.end(), server->address()) != gone.end();
      if (!one.gone) read(one);
    }
  }
  /// Those that are named by what was found; those that were left out tell by which list.
  void add_named(const std::vector<ServerAddress>& gone = {}) {
    // NOLINTNEXTLINE(modernize-loop-convert): add() makes it longer
    for (std::size_t at = 0; at < all_.size(); ++at) {
      const ServerItem* const item = all_[at].item();
      if (item == nullptr) continue;
      const auto copy = *item;
      try {
        add(agreement_.routing(copy.list.text), gone);
        if (copy.next) add(agreement_.routing(copy.next->text), gone);
      } catch (const InvalidServers& error) {  // anybody may have written it
        all_[at].trouble =
            fmt::format("{} keeps no list: {}", all_[at].server->name(), error.what());
      }
    }
  }
  void read(Found& one) const {
    one.seen.reset();
    one.trouble.clear();
    try {
      one.seen = one.server->read_item({}).found;
      if (one.seen && !one.seen->item) {
        one.trouble = fmt::format("{} keeps something else in place of its list: \"{}\"",
                                  one.server->name(), shown(one.seen->text));
      }
    } catch (const Error& error) {
      one.trouble = error.what();
    }
  }
  [[nodiscard]] std::vector<Found>& all() { return all_; }
  [[nodiscard]] Found* find(const Server& server) {
    const auto found = std::find_if(all_.begin(), all_.end(),
                                    [&](const Found& one) { return one.server == &server; });
    return found != all_.end() ? &*found : nullptr;
  }

 private:
  detail::Agreement& agreement_;
  std::vector<Found> all_;
};

class Move {
 public:
  Move(const MemcachedClient& client, std::string_view to, const MoveOptions& options)
      : agreement_(detail::Cluster::of(client).agreement()),
        options_(options),
        to_(agreement_.routing(to)) {}

  Moved run() {
    if (options_.wait && options_.wait->count() < 0) {
      throw InvalidOption("MoveOptions::wait is negative");
    }
    bool has_waited = false;
    constexpr int max_rounds = 100;  // a server may lose its memory in each
    for (int round = 0; round < max_rounds; ++round) {
      switch (look()) {
        case State::there:
          return Moved::already;
        case State::back:
          if (go_back()) return Moved::moved;
          break;
        case State::unused:
          // All may have lost their memory, and with it locks whose leases run.
          if (has_waited) return begin_anew();
          wait_for(options_.wait.value_or(agreement_.options().restart_window));
          has_waited = true;
          break;
        case State::before:
          if (!begin()) break;
          if (options_.part == MoveOptions::Part::begin) return Moved::begun;
          wait_for(options_.wait.value_or(longest_));
          if (is_as_written() && finish()) return Moved::moved;
          break;
        case State::finishing:
          if (options_.part == MoveOptions::Part::begin) return Moved::begun;
          if (finish()) return Moved::moved;
          break;
      }
    }
    throw ServerError("the servers lose their memory all the time: the list was not moved");
  }

 private:
  enum class State {
    unused,     ///< no list was ever confirmed
    before,     ///< the old one, or both, are in force somewhere
    finishing,  ///< the new one alone is, somewhere
    back,       ///< a move from this list has begun, and has ended nowhere
    there       ///< everywhere
  };

  [[noreturn]] static void refuse(const std::vector<std::string>& problems) {
    throw ServerError(
        fmt::format("the list of servers is left as it is: {}", fmt::join(problems, "; ")));
  }

  /// Reads all, and checks all, before anything is written.
  State look() {
    check_stop();
    fleet_ = std::make_unique<Fleet>(agreement_);
    std::vector<std::string> problems;
    fleet_->add(agreement_.configured(), options_.gone);
    fleet_->add(to_, options_.gone);
    fleet_->add_named(options_.gone);
    for (Found& one : fleet_->all()) check(one, problems);
    if (!problems.empty()) refuse(problems);

    from_ = nullptr;
    bool any_at_end = false;
    bool any_old = false;
    bool any_to_go_back = false;
    std::set<std::string> left_out_of;
    floor_ = 0;
    bool all_at_end = true;
    bool any_confirmed = false;
    for (Found& one : fleet_->all()) {
      const ServerItem* const item = one.item();
      const bool is_of_new = names(to_, *one.server);
      if (item == nullptr) {
        all_at_end = all_at_end && !is_of_new;
        continue;
      }
      floor_ = std::max({floor_, item->number, item->floor});
      if (!item->confirmed) {
        all_at_end = false;
        continue;
      }
      if (!item->next && item->list.text == to_.text()) {
        any_at_end = true;
        any_confirmed = true;
        continue;
      }
      any_confirmed = true;
      if (!is_in_use(*item)) {  // left out by an earlier move, or by this one
        left_out_of.insert(item->list.text);
        all_at_end = all_at_end && !is_of_new;
        continue;
      }
      all_at_end = false;
      any_old = any_old || !item->next;
      if (item->next && item->list.text == to_.text()) {
        any_to_go_back = true;
        from_ = &agreement_.routing(item->next->text);
        continue;
      }
      if (item->next && item->next->text != to_.text()) {
        problems.push_back(
            fmt::format("{} is moving to \"{}\" already: let that end first (memcachedlock servers "
                        "move --to {})",
                        one.server->name(), item->next->text, item->next->text));
        continue;
      }
      const Routing& from = agreement_.routing(item->list.text);
      if (from_ != nullptr && from_ != &from) {
        problems.push_back(fmt::format(R"({} is used with "{}", but others with "{}")",
                                       one.server->name(), from.text(), from_->text()));
      }
      from_ = &from;
    }
    if (!problems.empty()) refuse(problems);
    if (any_to_go_back && (any_old_of(*from_) || left_out_of.contains(from_->text()))) {
      problems.push_back(
          fmt::format("the move to \"{}\" has reached its last step: let it end, and then move "
                      "back (memcachedlock "
                      "servers move --to {})",
                      from_->text(), from_->text()));
      refuse(problems);
    }
    if (any_to_go_back) return State::back;
    for (const ServerAddress& gone : options_.gone) {
      const Server* const server = agreement_.find_server(gone);
      if (server == nullptr || (from_ != nullptr && !names(*from_, *server)) ||
          names(to_, *server)) {
        problems.push_back(
            fmt::format("{} can't be gone: it must be of the old list, and not of "
                        "the new one",
                        gone.to_string()));
      }
    }
    if (!problems.empty()) refuse(problems);
    if (!any_confirmed) return State::unused;
    if (any_at_end && all_at_end) return State::there;
    if (any_at_end && !any_old) return State::finishing;
    if (from_ == nullptr) {
      problems.emplace_back(
          "all servers that can be asked were left out of the list that is in use; give the "
          "servers "
          "that are in use as --servers");
      refuse(problems);
    }
    return State::before;
  }

  void check(Found& one, std::vector<std::string>& problems) {
    if (one.gone) return;
    if (!one.trouble.empty()) {
      problems.push_back(one.trouble);
      return;
    }
    try {
      const auto settings = one.server->statistics("settings");
      const auto cas = settings.find("cas_enabled");
      if (cas != settings.end() && cas->second == "no") {
        problems.push_back(
            fmt::format("{} runs without compare-and-swap (-C)", one.server->name()));
      }
      agreement_.check_addresses(*one.server, Key("x", {}, "servers"));
    } catch (const Error& error) {
      problems.emplace_back(error.what());
    }
    if (one.item() == nullptr) return;
    for (const Found& other : fleet_->all()) {
      if (&other == &one) break;
      if (other.item() == nullptr || other.item()->id != one.item()->id) continue;
      if (names(to_, *one.server) && names(to_, *other.server)) {
        problems.push_back(
            fmt::format("{} and {} are one server", other.server->name(), one.server->name()));
      }
    }
  }

  static bool names(const Routing& list, const Server& server) {
    return std::find(list.servers().begin(), list.servers().end(), &server) != list.servers().end();
  }

  /// The list, with the mark at the entry that leads to this server.
  [[nodiscard]] detail::MarkedList marked(const Routing& list, const Found& at) const {
    for (const Server* server : list.servers()) {
      if (server == at.server) return detail::Agreement::marked(list, server->name());
      const Found* const other = fleet_->find(*server);
      if (other != nullptr && other->item() != nullptr && at.item() != nullptr &&
          other->item()->id == at.item()->id) {
        return detail::Agreement::marked(list, server->name());
      }
    }
    return detail::Agreement::marked(list, {});
  }

  [[nodiscard]] bool concerns(const Found& one) const {
    return !one.gone &&
           (names(to_, *one.server) || (from_ != nullptr && names(*from_, *one.server)));
  }

  /// All servers that are to be written to, each once: those of the old list first, so that of two
  /// moves one is refused before it has written anything.
  [[nodiscard]] std::vector<Found*> places() {
    std::vector<Found*> result;
    for (const bool only_new : {false, true}) {
      for (Found& one : fleet_->all()) {
        if (!concerns(one)) continue;
        const bool is_only_new = from_ == nullptr || !names(*from_, *one.server);
        if (is_only_new != only_new) continue;
        // By another name it is another entry of the same server.
        const bool known = std::any_of(result.begin(), result.end(), [&](const Found* other) {
          return other->item() != nullptr && one.item() != nullptr &&
                 other->item()->id == one.item()->id;
        });
        if (!known) result.push_back(&one);
      }
    }
    return result;
  }

  void tell(MoveProgress::Step step, milliseconds left = milliseconds(0)) const {
    if (!options_.progress) return;
    options_.progress({step, left, from_ != nullptr ? from_->text() : std::string(), to_.text()});
  }

  void check_stop() const {
    if (options_.stop.stop_requested()) {
      throw Cancelled("the move was stopped; it goes on when it is begun again");
    }
  }

  /// What is there after a write in place of what was read.
  static void write(Found& one, const Server::MakeItem& make) {
    std::optional<detail::Cas> replaced;
    if (one.item() != nullptr) replaced = one.seen->cas;
    one.seen = one.server->write_item({}, make, replaced).found;
  }

  /// The new list alone, where a move was.
  void give_alone(ServerItem& item, const Found& at) const {
    item.confirmed = true;
    item.list = marked(to_, at);
    item.next.reset();
    item.floor = 0;
  }

  [[nodiscard]] static bool has_alone(const Found& one, const Routing& list) {
    return one.item() != nullptr && !one.item()->next && one.item()->list.text == list.text();
  }

  /// Whether it is as begin() writes it.
  [[nodiscard]] bool is_joint(const Found& one) const {
    const ServerItem* const item = one.item();
    return item != nullptr && item->next && item->floor == floor_ &&
           item->next->text == to_.text() && item->list.text == from_->text();
  }

  /// Who makes a lost item goes by what others have: so all have what the floor follows, before one
  /// has the floor. False where another came between.
  bool raise_all(const std::vector<Found*>& all) const {
    for (Found* one : all) {
      if (one->item() == nullptr || one->item()->number + 1 >= floor_) continue;
      check_stop();
      ServerItem item = *one->item();
      item.number = floor_ - 1;
      write(*one, [&](const detail::ClockReading&, std::int64_t) { return std::optional(item); });
      if (one->item() == nullptr || *one->item() != item) return false;
    }
    return true;
  }

  /// False where another came between, or a server has lost its memory.
  bool begin() {
    tell(MoveProgress::Step::begin);
    const std::vector<Found*> all = places();
    floor_ = 0;
    bool all_joint = true;
    std::uint64_t first_floor = 0;
    milliseconds longest_known(1);
    bool any_joint = false;
    for (const Found* one : all) {
      const ServerItem* const item = one->item();
      const bool joint = item != nullptr && item->next.has_value();
      any_joint = any_joint || joint;
      all_joint = all_joint && joint && (first_floor == 0 || item->floor == first_floor);
      if (joint) first_floor = item->floor;
      if (item == nullptr) continue;
      floor_ = std::max({floor_, item->number, item->floor});
      longest_known = std::max(longest_known, item->max_lease);
    }
    // The number of one that is gone, or has lost its memory, can't be read. It was no higher than
    // the time of its clock.
    constexpr std::chrono::seconds clocks_apart{10};
    constexpr std::chrono::seconds this_second{1};
    for (const Found* one : all) {
      const bool is_lost = one->item() == nullptr && names(*from_, *one->server);
      if (options_.gone.empty() && !is_lost) continue;
      floor_ = std::max(floor_, one->server->time_number(is_lost ? this_second : clocks_apart));
    }
    floor_ = std::min(floor_, ServerItem::max_number - 1) + 1;
    if (all_joint) {
      floor_ = first_floor;
    } else if (!raise_all(all)) {
      return false;
    }
    for (Found* one : all) {
      check_stop();
      if (all_joint) continue;
      const ServerItem* const before = one->item();
      const bool was_known = before != nullptr;
      write(*one, [&](const detail::ClockReading& reading, std::int64_t made) {
        ServerItem item =
            was_known ? *before : one->server->epochs().fresh(longest_known, reading, made, floor_);
        // New in use, so no lease from before runs there; unless it was lost in the move.
        if (!was_known && !any_joint && !names(*from_, *one->server)) {
          item.number = floor_;
          item.made = 0;
        }
        item.confirmed = true;
        item.list = marked(*from_, *one);
        item.next = marked(to_, *one);
        item.floor = floor_;
        return std::optional(item);
      });
      if (!is_joint(*one)) return false;
      for (const Found* other : all) {
        if (other == one) break;
        if (other->item() != nullptr && other->item()->id == one->item()->id) return false;
      }
    }
    written_.clear();
    longest_ = milliseconds(0);
    for (const Found* one : all) {
      written_[one->server] = one->item()->id;
      longest_ = std::max(longest_, one->item()->max_lease);
    }
    return true;
  }

  /// At least as long as somebody who was told that it holds a lock counts without a request.
  void wait_for(milliseconds time) const {
    const auto begun = detail::Clock::now();
    time = std::max(time, least_wait);
    const auto until = begun + time + time / 100;
    std::condition_variable_any changed;
    detail::Mutex mutex;
    for (auto now = begun; now < until; now = detail::Clock::now()) {
      check_stop();
      tell(MoveProgress::Step::wait, std::chrono::ceil<milliseconds>(until - now));
      const detail::MutexLock lock(mutex);
      changed.wait_until(mutex, options_.stop,
                         std::min<detail::Clock::time_point>(until, now + std::chrono::seconds(1)),
                         [] { return false; });
    }
  }

  /// With the memory in which it was written.
  bool is_as_written() {
    for (Found& one : fleet_->all()) {
      const auto known = written_.find(one.server);
      if (known == written_.end()) continue;
      fleet_->read(one);
      if (!one.trouble.empty()) throw Unavailable(one.trouble, {}, one.server->name());
      if (!is_joint(one) || one.item()->id != known->second) return false;
    }
    return true;
  }

  /// Whether this list alone is in force at one of its servers.
  [[nodiscard]] bool any_old_of(const Routing& list) {
    return std::any_of(fleet_->all().begin(), fleet_->all().end(), [&](const Found& one) {
      return has_alone(one, list) && one.item()->confirmed;
    });
  }

  /// From both lists to the old one: nobody holds by the new one alone yet. Like finish(), it
  /// begins with the first server of the old list, so of the two one is refused before it has
  /// written anything. False where another came between.
  bool go_back() {
    tell(MoveProgress::Step::begin);
    for (Found* one : places()) {
      check_stop();
      const bool is_old = names(to_, *one->server);
      const ServerItem* const before = one->item();
      if (has_alone(*one, to_) || (before == nullptr && !is_old)) continue;
      if (before != nullptr && !before->next) return false;
      write(*one, [&](const detail::ClockReading& reading, std::int64_t made) {
        ServerItem item = before != nullptr
                              ? *before
                              : one->server->epochs().fresh(milliseconds(1), reading, made, floor_);
        // Above all tokens of the move.
        if (is_old)
          item.number = std::min(std::max(item.number, floor_ + 1), ServerItem::max_number);
        give_alone(item, *one);
        return std::optional(item);
      });
      if (!has_alone(*one, to_)) return false;
    }
    return true;
  }

  /// False where another came between: what is there now is to be looked at again.
  bool finish() {
    tell(MoveProgress::Step::finish);
    const auto is_there = [&](const Found& one) {
      return has_alone(one, to_) && one.item()->confirmed;
    };
    for (Found* one : places()) {
      check_stop();
      const ServerItem* const before = one->item();
      if (is_there(*one)) continue;
      write(*one, [&](const detail::ClockReading& reading, std::int64_t made) {
        ServerItem item = before != nullptr
                              ? *before
                              : one->server->epochs().fresh(longest_, reading, made, floor_);
        item.number = std::max({item.number, item.floor, floor_});
        give_alone(item, *one);
        return std::optional(item);
      });
      if (!is_there(*one)) return false;
    }
    return true;
  }

  /// No list was ever in force, so nothing is locked: the new one is the first.
  Moved begin_anew() {
    tell(MoveProgress::Step::begin);
    // Also elsewhere: a client may be about to confirm its first list.
    for (Found& one : fleet_->all()) {
      if (one.item() == nullptr || one.item()->list.text == to_.text()) continue;
      const ServerItem before = *one.item();
      if (before.confirmed) continue;
      write(one, [&](const detail::ClockReading&, std::int64_t) {
        ServerItem item = before;
        item.list = marked(to_, one);
        return std::optional(item);
      });
      if (one.item() == nullptr || one.item()->confirmed || one.item()->list.text != to_.text()) {
        throw Unavailable(
            fmt::format("{} was given another list meanwhile; begin it again", one.server->name()),
            {}, one.server->name());
      }
    }
    detail::Agreement fresh(to_.text(), agreement_.options());
    Server& first = *fresh.configured().servers().front();
    fresh.establish(first, Key("x", {}, "servers"), milliseconds(1));
    for (Server* server : fresh.configured().servers()) {
      const auto seen = server->read_item({}).found;
      if (!seen || !seen->item || !seen->item->confirmed || seen->item->list.text != to_.text()) {
        throw Unavailable(fmt::format("{} was given another list meanwhile", server->name()), {},
                          server->name());
      }
    }
    return Moved::moved;
  }

  detail::Agreement& agreement_;
  const MoveOptions& options_;
  const Routing& to_;
  const Routing* from_ = nullptr;
  std::unique_ptr<Fleet> fleet_;
  std::uint64_t floor_ = 0;
  milliseconds longest_{0};
  std::map<const Server*, std::uint64_t> written_;  // and the id of what is there
};

}  // namespace

std::vector<ServerState> show_servers(const MemcachedClient& client) {
  detail::Agreement& agreement = detail::Cluster::of(client).agreement();
  Fleet fleet(agreement);
  fleet.add(agreement.configured());
  fleet.add_named();
  std::vector<ServerState> result;
  for (const Found& one : fleet.all()) {
    ServerState& state = result.emplace_back();
    state.server = one.server->name();
    state.trouble = one.trouble;
    const ServerItem* const item = one.item();
    if (item == nullptr) continue;
    state.list = item->list.text;
    if (item->next) state.next = item->next->text;
    state.in_use = !item->list.self.empty() || (item->next && !item->next->self.empty());
    state.confirmed = item->confirmed;
    state.id = fmt::format("{:016x}", item->id);
    state.epoch = item->number;
    state.longest_lease = item->max_lease;
  }
  std::sort(result.begin(), result.end(), [](const ServerState& one, const ServerState& other) {
    return one.server < other.server;
  });
  return result;
}

Moved move_servers(const MemcachedClient& client, std::string_view to, const MoveOptions& options) {
  return Move(client, to, options).run();
}

}  // namespace memcachedlock
