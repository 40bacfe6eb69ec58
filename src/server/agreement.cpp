#include "server/agreement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "memcachedlock/error.hpp"
#include "server/notify_observer.hpp"
#include "server/resolver.hpp"

namespace memcachedlock::detail {

namespace {

using std::chrono::milliseconds;

// Who disagrees looks no more often.
constexpr milliseconds between_looks{1'000};

/// Puts a new one in front of a list of which nothing is taken away. What `find` returns, if that
/// is not null, is taken in its place.
template <class Node, class Find>
Node* add(std::atomic<Node*>& all, std::unique_ptr<Node> fresh, const Find& find) {
  for (Node* front = all.load(std::memory_order_acquire);;) {
    if (Node* const known = find()) return known;
    fresh->before = front;
    if (all.compare_exchange_weak(front, fresh.get(), std::memory_order_acq_rel)) {
      return fresh.release();
    }
  }
}

template <class Node, class Is>
Node* find_in(const std::atomic<Node*>& all, const Is& is) {
  Node* node = all.load(std::memory_order_acquire);
  while (node != nullptr && !is(*node)) node = node->before;
  return node;
}

template <class Node>
void remove_all(std::atomic<Node*>& all) {
  for (Node* node = all.load(); node != nullptr;) {
    const std::unique_ptr<Node> gone(node);
    node = gone->before;
  }
}

bool has_entry(const std::string& list, const std::string& name) {
  for (std::size_t start = 0;;) {
    const auto comma = list.find(',', start);
    if (list.compare(start, comma - start, name) == 0) return true;
    if (comma == std::string::npos) return false;
    start = comma + 1;
  }
}

/// All keys of a list of one are where the item was read, whatever its name.
bool is_meant(const Routing* mine, const MarkedList& list, const Server& at) {
  if (mine == nullptr) return false;
  if (mine->text() == list.text) return true;
  const bool is_alone = mine->servers().size() == 1 && mine->servers().front() == &at;
  return is_alone && list.has_one() && !list.self.empty();
}

/// Of the states of one move.
bool is_further(const ServerItem& one, const ServerItem& other) {
  if (one.next && other.next) return one.floor > other.floor;
  if (one.next) return one.list.text == other.list.text;
  return other.next && other.next->text == one.list.text;
}

[[noreturn]] void raise_no_cas(const Server& server, const Key& key) {
  throw ServerError(fmt::format("{} runs without compare-and-swap, so locks could not be "
                                "released safely: start memcached without -C (--disable-cas)",
                                server.name()),
                    key.text(), server.name());
}

}  // namespace

struct Agreement::Servers {
  Servers(const ServerAddress& address, const ClientOptions& options) : server(address, options) {}
  Server server;
  Servers* before = nullptr;
};

struct Agreement::Routings {
  Routings(std::vector<ServerAddress> addresses, std::vector<Server*> servers)
      : routing(std::move(addresses), std::move(servers)) {}
  Routing routing;
  Routings* before = nullptr;
};

struct Agreement::Views {
  View view;
  Views* before = nullptr;
};

/// What the other servers of the lists say.
struct Agreement::Look {
  std::shared_ptr<const ServerItem> best;  // confirmed, of the furthest state
  std::uint64_t highest = 0;               // of the numbers for tokens
  milliseconds longest{0};
  std::vector<std::string> selves;  // other names of the very server
  std::string trouble;              // of one that does not answer
};

Agreement::Agreement(std::string_view servers, const ClientOptions& options) : options_(options) {
  const auto arrow = servers.find('>');
  configured_ = &routing(servers.substr(0, arrow));
  if (arrow != std::string_view::npos) configured_next_ = &routing(servers.substr(arrow + 1));
  announced_.store(configured_);
  auto first = std::make_unique<Views>();
  first->view.list = configured_;
  view_.store(&first->view);
  views_.store(first.release());
}

Agreement::~Agreement() {
  remove_all(views_);
  remove_all(routings_);
  remove_all(servers_);
}

Server* Agreement::find_server(const ServerAddress& address) const noexcept {
  Servers* const found =
      find_in(servers_, [&](const Servers& one) { return one.server.address() == address; });
  return found != nullptr ? &found->server : nullptr;
}

Server& Agreement::server_at(const ServerAddress& address) {
  if (Server* const known = find_server(address)) return *known;
  return add(servers_, std::make_unique<Servers>(address, options_),
             [&] {
               return find_in(servers_,
                              [&](const Servers& one) { return one.server.address() == address; });
             })
      ->server;
}

const Routing& Agreement::routing(std::string_view list) {
  std::vector<ServerAddress> addresses = parse_servers(list);
  const std::string text = list_text(addresses);
  if (addresses.size() > ServerItem::max_servers) {
    throw InvalidServers(fmt::format("{} servers are too many: at most {} make a list",
                                     addresses.size(), ServerItem::max_servers));
  }
  if (text.size() > ServerItem::max_list) {
    throw InvalidServers(fmt::format("the list of {} servers is too long: {} bytes of at most {}",
                                     addresses.size(), text.size(), ServerItem::max_list));
  }
  const auto known = [&] {
    return find_in(routings_, [&](const Routings& one) { return one.routing.text() == text; });
  };
  if (Routings* const found = known()) return found->routing;
  std::vector<Server*> servers;
  for (const ServerAddress& address : addresses) servers.push_back(&server_at(address));
  return add(routings_, std::make_unique<Routings>(std::move(addresses), std::move(servers)), known)
      ->routing;
}

MarkedList Agreement::marked(const Routing& list, std::string_view self) {
  return {list.text(), std::string(self)};
}

void Agreement::differ(const Server& at, const std::string& theirs, const std::string& why,
                       const Key& key) const {
  const View& now = view();
  const std::string ours =
      now.next != nullptr ? now.list->text() + " > " + now.next->text() : now.list->text();
  SharedFailure trouble;
  trouble.kind = SharedFailure::Kind::servers_differ;
  trouble.what = why;
  trouble.server = at.name();
  trouble.ours = ours;
  trouble.theirs = theirs;
  if (trouble_mutex_.try_lock()) {
    trouble_ = trouble;
    trouble_until_ = Clock::now() + between_looks;
    trouble_mutex_.unlock();
  }
  trouble.raise(key.text());
}

void Agreement::raise_if_differing(const Key& key) const {
  std::optional<SharedFailure> trouble;
  if (!trouble_mutex_.try_lock()) return;
  if (Clock::now() < trouble_until_) trouble = trouble_;
  trouble_mutex_.unlock();
  if (trouble) trouble->raise(key.text());
}

void Agreement::reject(const Server& at, const std::string& text, const Key& key) const {
  constexpr std::size_t most = 120;
  std::string shown = text.substr(0, most);
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  if (text.size() > most) shown += "...";
  throw ServerError(
      fmt::format("the item \"{}\" on {} is not what this version of memcachedlock keeps there, so "
                  "it is left alone: \"{}\"; use one version for all clients of a server, or "
                  "delete the item if nobody holds a lock",
                  Key::server_item(options_.prefix), at.name(), shown),
      key.text(), at.name());
}

/// The list must call the server by the name that this client uses for it.
void Agreement::check_marks(const Server& at, const MarkedList& list, const Key& key) const {
  if (list.self == at.name() || !has_entry(list.text, at.name())) return;
  const std::string why =
      list.self.empty()
          ? fmt::format("{} leads to a server that is none of \"{}\"", at.name(), list.text)
          : fmt::format("{} leads to the server that others call {}", at.name(), list.self);
  differ(at, list.text,
         why +
             ": a name must lead to the same server for all clients; correct the list, or where "
             "the name leads to",
         key);
}

const Routing* Agreement::known(const MarkedList& list, const Server& at) const {
  const View& now = view();
  for (const Routing* one : {now.list, now.next, configured_, configured_next_}) {
    if (is_meant(one, list, at)) return one;
  }
  return nullptr;
}

const Routing& Agreement::routing_of(const MarkedList& list, const Server& at, const Key& key) {
  if (const Routing* one = known(list, at)) return *one;
  try {
    const Routing& fresh = routing(list.text);
    if (fresh.text() == list.text) return fresh;
  } catch (const InvalidServers&) {  // anybody may have written it
  }
  reject(at, list.text, key);
}

void Agreement::set_view(View next, const Server& at, const Key& key) {
  if (view() == next) return;
  if (!options_.sasl_user.empty()) {
    // Whoever can write items would have the password sent to wherever they like.
    for (const Routing* list : {next.list, next.next}) {
      if (list == nullptr || list == configured_ || list == configured_next_) continue;
      differ(
          at, list->text(),
          fmt::format("{} is used with \"{}\" from now on, and a client that logs in goes only to "
                      "servers that it was given: give it the list \"{}>{}\"",
                      at.name(), list->text(), configured_->text(), list->text()),
          key);
    }
  }
  const auto known = [&] {
    return find_in(views_, [&](const Views& one) { return one.view == next; });
  };
  Views* node = known();
  if (node == nullptr) {
    auto fresh = std::make_unique<Views>();
    fresh->view = next;
    node = add(views_, std::move(fresh), known);
  }
  view_.store(&node->view, std::memory_order_release);
  if (next.next != nullptr) {
    last_move_.store(&node->view);
  }
}

void Agreement::announce(const Server& at) {
  const View now = view();
  if (now.next != nullptr || announced_.load() == now.list) return;
  const Routing* const before = announced_.exchange(now.list);
  if (before == now.list) return;
  const std::string lists = fmt::format("{} > {}", before->text(), now.list->text());
  Event event;
  event.kind = EventKind::servers_moved;
  event.server = at.name();
  event.detail = lists;
  notify_observer(options_, [&](Observer& observer) { observer.on_event(event); });
}

View Agreement::view_of(Server& at, const SeenItem& seen, const Key& key) {
  const ServerItem& item = *seen.item;
  check_marks(at, item.list, key);
  if (item.next) check_marks(at, *item.next, key);
  const View now = view();
  // Nobody but a move changes the list of an item that was not lost.
  const bool has_gone_on = at.epochs().has_gone_on(item.id, seen.cas.id);
  if (item.next) {
    const Routing* list = known(item.list, at);
    const Routing* const next = known(*item.next, at);
    if (list == nullptr && next == nullptr && !has_gone_on) {
      differ(at, item.lists(),
             fmt::format("this client locks by the servers \"{}\", but {} is moving from \"{}\" to "
                         "\"{}\": give it one of these lists",
                         now.list->text(), at.name(), item.list.text, item.next->text),
             key);
    }
    // A list of one has the client's own name for it.
    const bool is_this_move = next != nullptr && next == now.next && item.list.has_one();
    if (list == nullptr && is_this_move && now.list->servers().size() == 1) list = now.list;
    return {list != nullptr ? list : &routing_of(item.list, at, key),
            next != nullptr ? next : &routing_of(*item.next, at, key)};
  }
  if (is_meant(now.list, item.list, at)) {
    const bool went_back = now.next != nullptr && item.number > floor_.load();
    return went_back ? View{now.list, nullptr} : now;
  }
  if (is_meant(now.next, item.list, at)) return {now.next, nullptr};
  if (has_gone_on) return {&routing_of(item.list, at, key), nullptr};
  if (is_meant(configured_next_, item.list, at)) return {configured_next_, nullptr};
  differ(
      at, item.list.text,
      fmt::format("this client locks by the servers \"{}\", but {} is used with \"{}\": each would "
                  "let somebody in. Give all clients one list, each server by the same name; to "
                  "change it for all: memcachedlock servers move --to {}",
                  now.list->text(), at.name(), item.list.text, now.list->text()),
      key);
}

void Agreement::learn(Server& at, const SeenItem& seen, const Key& key) {
  if (seen.item->next) floor_.store(seen.item->floor);
  set_view(view_of(at, seen, key), at, key);
}

/// One that has gone on to it, of those that this client knew before.
void Agreement::learn_by_others(Server& at, const SeenItem& seen, const Key& key) {
  try {
    learn(at, seen, key);
    return;
  } catch (const ServersDiffer&) {
    constexpr std::size_t most = 3;  // to wait for
    std::size_t failed = 0;
    for (Server* other : servers_of_view(&at)) {
      if (!other->epochs().knows_any() || is_silent(*other)) continue;
      if (failed == most) break;
      const View before = view();
      try {
        const auto there = other->read_item(key.text(), limit_for(most)).found;
        if (there && there->item && there->item->confirmed) learn(*other, *there, key);
      } catch (const Error& error) {
        if (dynamic_cast<const Unavailable*>(&error) == nullptr) continue;
        note_silent(*other);
        ++failed;
      }
      if (view() != before) break;
    }
  }
  learn(at, seen, key);
}

void Agreement::check(Server& server, const std::optional<SeenItem>& seen, const Key& key) {
  if (!seen) return;
  if (!seen->item) reject(server, seen->text, key);
  if (seen->item->confirmed) learn_by_others(server, *seen, key);
  announce(server);
}

bool Agreement::look_around(const Server& silent, const Key& key) {
  const auto now = Clock::now();
  auto last = looked_around_.load();
  if (last != Clock::time_point::min() && now < last + between_looks) return false;
  if (!looked_around_.compare_exchange_strong(last, now)) return false;
  const View before = view();
  constexpr int most = 3;  // to wait for
  int failed = 0;
  for (Server* other : servers_of_view(&silent)) {
    if (failed == most) break;
    try {
      const auto seen = other->read_item(key.text(), limit_for(most)).found;
      if (!seen || !seen->item || !seen->item->confirmed) continue;
      learn_by_others(*other, *seen, key);
      announce(*other);
      if (view() != before) return true;
    } catch (const Unavailable&) {
      note_silent(*other);
      ++failed;
    } catch (const ServersDiffer&) {
      throw;
    } catch (const ServerError&) {  // its own trouble
    }
  }
  return false;
}

/// Those that are likely to answer first, and of these those of the new list.
std::vector<Server*> Agreement::servers_of_view(const Server* but) const {
  const View now = view();
  std::vector<Server*> all;
  for (const Routing* list : {now.next, now.list}) {
    if (list == nullptr) continue;
    for (Server* server : list->servers()) {
      if (server != but && std::find(all.begin(), all.end(), server) == all.end())
        all.push_back(server);
    }
  }
  std::stable_partition(all.begin(), all.end(), [](Server* one) { return !is_silent(*one); });
  return all;
}

bool Agreement::is_silent(const Server& server) {
  return Clock::now() < server.silent_until.load();
}

void Agreement::note_silent(Server& server) {
  constexpr std::chrono::seconds time{5};
  server.silent_until.store(Clock::now() + time);
}

/// For one of several that are asked one after the other.
milliseconds Agreement::limit_for(std::size_t count) const {
  constexpr milliseconds least{100};
  return std::max(least,
                  options_.operation_timeout / static_cast<int>(std::max<std::size_t>(count, 1)));
}

bool Agreement::precedes(const MarkedList& list, const Server& at, const View& view) const {
  const View* const move = last_move_.load();
  return move != nullptr && move->next == view.list && is_meant(move->list, list, at);
}

Demand Agreement::demand(const ServerItem& item, Server& at, const Key& key) {
  Demand demand;
  const auto ask = [&](const MarkedList& list, Server*& elsewhere) {
    Server& server = routing_of(list, at, key).server_of(key);
    if (&server == &at || server.name() == list.self) {
      demand.here = true;
    } else {
      elsewhere = &server;
    }
  };
  ask(item.list, demand.first);
  if (item.next) ask(*item.next, demand.second);
  return demand;
}

bool Agreement::knows(Server& server, const std::optional<SeenItem>& seen, std::uint64_t start,
                      milliseconds lease) const {
  return seen && seen->item &&
         server.epochs().is_current(*seen->item, seen->cas.id, lease, start) &&
         server.agreed_view.load(std::memory_order_acquire) == &view();
}

bool Agreement::serves(Server& server, const std::optional<SeenItem>& seen, milliseconds lease,
                       const Key& key) {
  if (!seen || !seen->item || !seen->item->confirmed || seen->item->max_lease < lease) return false;
  if (server.epochs().is_back(*seen->item, seen->cas.asked)) return false;
  learn(server, *seen, key);
  return true;
}

Admission Agreement::prepare(Server& server, const Key& key, milliseconds lease,
                             RestartGuard guard) {
  raise_if_differing(key);
  const bool differed = [&] {
    if (!trouble_mutex_.try_lock()) return false;
    const bool any = !trouble_.what.empty();
    trouble_mutex_.unlock();
    return any;
  }();
  if (server.epochs().knows_any() && !differed) return decide(server, key, guard);
  Admission admission = admit(server, key, server.read(key), lease, guard);
  if (differed && trouble_mutex_.try_lock()) {
    trouble_ = {};
    trouble_mutex_.unlock();
  }
  return admission;
}

/// Asks without a mutex: others may come meanwhile, and so may an observer that asks itself.
Admission Agreement::admit(Server& server, const Key& key, const Snapshot& snapshot,
                           milliseconds lease, RestartGuard guard) {
  EpochWatch& epochs = server.epochs();
  SeenServer seen{snapshot.server_item, snapshot.start};
  if (knows(server, seen.found, seen.start, lease)) {
    Admission admission = decide(server, key, guard);
    admission.item = seen.found->item;
    return admission;
  }
  if (!seen.found && !snapshot.asked_item) seen = server.read_item(key.text());
  constexpr int max_tries = 16;  // each failed one means that another client changed it
  for (int tries = 0; tries < max_tries; ++tries) {
    if (seen.found && seen.found->cas.id == 0) raise_no_cas(server, key);
    if (seen.found && !seen.found->item) reject(server, seen.found->text, key);
    if (!seen.found || !seen.found->item->confirmed) {
      establish(server, key, lease);
      seen = server.read_item(key.text());
      continue;
    }
    const auto item = seen.found->item;
    if (epochs.is_back(*item, seen.found->cas.asked)) {
      differ(
          server, item->lists(),
          fmt::format("{} leads to two servers, in turn: one that was gone has come back with its "
                      "memory; a name must lead to one server",
                      server.name()),
          key);
    }
    const View* const before = &view();
    learn_by_others(server, *seen.found, key);
    announce(server);
    const auto wanted = epochs.wanted(*item, seen.found->cas.id, lease, seen.start);
    if (wanted && wanted->max_lease > item->max_lease) {
      raise_longest(server, key, wanted->max_lease, lease > item->max_lease);
      seen = server.read_item(key.text());
      continue;
    }
    if (wanted) {
      seen = server.write_item(
          key.text(), [&](const ClockReading&, std::int64_t) { return std::optional(*wanted); },
          seen.found->cas);
      continue;
    }
    const bool is_new = !epochs.knows_any();
    const auto restart = epochs.see(*item, seen.found->cas.id, lease, seen.start, Clock::now());
    server.agreed_view.store(&view() == before ? before : nullptr, std::memory_order_release);
    if (is_new || restart) check_addresses(server, key);
    if (restart && options_.observer) {
      Event event;
      event.kind = EventKind::restart_seen;
      event.server = server.name();
      event.duration = *restart;
      event.token = FencingToken{epochs.number(), 0};
      notify_observer(options_, [&](Observer& observer) { observer.on_event(event); });
    }
    Admission admission = decide(server, key, guard);
    admission.item = item;
    return admission;
  }
  server.raise_full(key);
}

/// Where the guard is closed, the server may tell that it was long ago.
Admission Agreement::decide(Server& server, const Key& key, RestartGuard guard) {
  EpochWatch& epochs = server.epochs();
  Admission admission = epochs.decide(guard, Clock::now(), std::nullopt);
  if (admission.open || guard != RestartGuard::strict) return admission;
  return epochs.decide(guard, Clock::now(), server.time(key));
}

Agreement::Look Agreement::look(const Server& here, std::uint64_t id, const Key& key,
                                std::vector<const Server*>& silent) {
  Look look;
  const std::vector<Server*> others = servers_of_view(&here);
  for (Server* other : others) {
    if (std::find(silent.begin(), silent.end(), other) != silent.end()) continue;
    // One answer is enough; to ask the silent ones costs as much as they are late.
    if (look.best && is_silent(*other)) continue;
    std::optional<SeenItem> seen;
    try {
      seen = other->read_item(key.text(), limit_for(others.size())).found;
      if (seen && !seen->item) reject(*other, seen->text, key);
    } catch (const Error& error) {
      if (dynamic_cast<const Unavailable*>(&error) != nullptr) note_silent(*other);
      silent.push_back(other);
      look.trouble = error.what();
      continue;
    }
    if (!seen) continue;
    const ServerItem& item = *seen->item;
    if (item.id == id) look.selves.push_back(other->name());
    look.highest = std::max({look.highest, item.number, item.floor});
    look.longest = std::max(look.longest, item.max_lease);
    if (!item.confirmed) continue;
    learn_by_others(*other, *seen, key);
    if (!look.best || is_further(item, *look.best)) look.best = seen->item;
  }
  return look;
}

void Agreement::establish(Server& here, const Key& key, milliseconds lease) {
  SeenServer seen = here.read_item(key.text());
  if (seen.found && seen.found->item && seen.found->item->confirmed) return;
  std::vector<const Server*> silent;
  const Look first = look(here, 0, key, silent);
  if (!first.best) {
    if (!silent.empty()) {
      throw Unavailable(
          fmt::format("the servers \"{}\" were not used together before, and {} does not answer: a "
                      "new list needs all of its servers once ({})",
                      view().list->text(), silent.front()->name(), first.trouble),
          key.text(), silent.front()->name());
    }
    begin_list(key, lease);
    return;
  }
  announce(here);
  const auto longest = [&](const Look& seen_there) { return std::max(lease, seen_there.longest); };
  const auto lists_of = [&](const Look& there, ServerItem& item) {
    const auto self_in = [&](const MarkedList& list) {
      if (has_entry(list.text, here.name())) return here.name();
      for (const std::string& name : there.selves) {
        if (has_entry(list.text, name)) return name;
      }
      return std::string();
    };
    item.list = {there.best->list.text, self_in(there.best->list)};
    item.next.reset();
    item.floor = there.best->floor;
    if (there.best->next) item.next = {there.best->next->text, self_in(*there.best->next)};
  };
  if (!seen.found) {
    seen = here.write_item(
        key.text(),
        [&](const ClockReading& reading, std::int64_t made) {
          ServerItem item = here.epochs().fresh(longest(first), reading, made, first.highest);
          lists_of(first, item);
          item.next.reset();
          item.confirmed = false;
          return std::optional(item);
        },
        std::nullopt);
  }
  if (!seen.found) return;
  if (seen.found->cas.id == 0) {
    here.remove_item(key.text());  // leave such a server as it was
    raise_no_cas(here, key);
  }
  if (!seen.found->item || seen.found->item->confirmed) return;
  // Again, now that this one is there: whoever moves the list reads it, or is seen.
  ServerItem item = *seen.found->item;
  const Look second = look(here, item.id, key, silent);
  if (!second.best) return;
  lists_of(second, item);
  item.confirmed = true;
  item.max_lease = std::max(item.max_lease, longest(second));
  item.number = std::min(std::max(item.number, second.highest + 2), ServerItem::max_number);
  (void)here.write_item(
      key.text(), [&](const ClockReading&, std::int64_t) { return std::optional(item); },
      seen.found->cas);
}

/// No server of the list has a confirmed one.
void Agreement::begin_list(const Key& key, milliseconds lease) {
  const Routing& list = *view().list;
  const bool is_alone = list.servers().size() == 1;
  const auto check = [&](Server& server, const SeenServer& seen) {
    if (!seen.found) return false;
    if (seen.found->cas.id == 0) {
      server.remove_item(key.text());  // leave such a server as it was
      raise_no_cas(server, key);
    }
    if (!seen.found->item) reject(server, seen.found->text, key);
    learn(server, *seen.found, key);
    return true;
  };
  for (Server* server : list.servers()) {
    const auto make = [&](const ClockReading& reading, std::int64_t made) {
      ServerItem item = server->epochs().fresh(lease, reading, made, 0);
      item.list = marked(list, server->name());
      item.confirmed = is_alone;
      return std::optional(item);
    };
    if (!check(*server, server->write_item(key.text(), make, std::nullopt))) return;
  }
  std::vector<std::pair<Server*, SeenItem>> all;
  for (Server* server : list.servers()) {
    const SeenServer seen = server->read_item(key.text());
    if (!check(*server, seen)) return;
    all.emplace_back(server, *seen.found);
  }
  for (const auto& [server, seen] : all) {
    if (seen.item->confirmed) continue;
    ServerItem item = *seen.item;
    item.confirmed = true;
    const SeenServer after = server->write_item(
        key.text(), [&](const ClockReading&, std::int64_t) { return std::optional(item); },
        seen.cas);
    if (!after.found || !after.found->item || !after.found->item->confirmed) return;
  }
}

/// At all servers of the lists: each is asked when an item is made anew, and by who moves the list.
/// At this one last, so that it shows that all know.
void Agreement::raise_longest(Server& here, const Key& key, milliseconds lease, bool must) {
  std::vector<Server*> all = servers_of_view(&here);
  all.push_back(&here);
  for (Server* server : all) {
    try {
      constexpr int max_tries = 64;
      SeenServer seen = server->read_item(key.text());
      for (int tries = 0; seen.found && seen.found->item && seen.found->item->max_lease < lease;
           ++tries) {
        if (tries == max_tries) server->raise_full(key);
        ServerItem item = *seen.found->item;
        item.max_lease = lease;
        seen = server->write_item(
            key.text(), [&](const ClockReading&, std::int64_t) { return std::optional(item); },
            seen.found->cas);
      }
    } catch (const Error& error) {
      if (server == &here) throw;
      if (!must) continue;
      throw Unavailable(
          fmt::format("a lease of {} ms is longer than any before, which all servers must know "
                      "once, and {} can't be told ({})",
                      lease.count(), server->name(), error.what()),
          key.text(), server->name());
    }
  }
}

/// All addresses that the name has, and that it had: each is asked once for its item.
void Agreement::check_addresses(Server& server, const Key& key) {
  const std::vector<std::string> addresses = server.all_addresses();
  if (addresses.size() < 2) return;
  std::string first;  // that answered, and its id
  std::uint64_t id = 0;
  for (const std::string& address : addresses) {
    std::optional<SeenItem> seen;
    try {
      Server one({address, server.address().port}, options_);
      seen = one.read_item(key.text()).found;
    } catch (const Error&) {  // nobody can lock there
      continue;
    }
    const std::uint64_t its_id = seen && seen->item ? seen->item->id : 0;
    if (first.empty()) {
      first = address;
      id = its_id;
    } else if (its_id != id) {
      differ(server, {},
             fmt::format("{} leads to two servers: {} and {}; give a name that leads to one, or "
                         "its address",
                         server.name(), first, address),
             key);
    }
  }
}

}  // namespace memcachedlock::detail
