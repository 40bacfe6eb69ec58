// That all clients lock a key at the same servers, also while the list of servers changes.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/failure.hpp"
#include "base/mutex.hpp"
#include "memcachedlock/client_options.hpp"
#include "memcachedlock/key.hpp"
#include "memcachedlock/options.hpp"
#include "memcachedlock/servers.hpp"
#include "server/routing.hpp"
#include "server/server.hpp"

namespace memcachedlock::detail {

/// The lists that a client goes by: the one that is in force, or the old and the new one of a move.
struct View {
  const Routing* list = nullptr;
  const Routing* next = nullptr;

  friend bool operator==(const View&, const View&) = default;
};

/// The servers at which a key is to be held, as the item of one of them says.
struct Demand {
  bool here = false;         ///< at the server that keeps the item
  Server* first = nullptr;   ///< another one, by the list in force or the old one
  Server* second = nullptr;  ///< another one, by the new list
  [[nodiscard]] bool is_here_alone() const { return here && first == nullptr && second == nullptr; }
};

/// What one client knows of the lists in use. Each server keeps, in an item of its own, the list in
/// which it is used. A client writes at the server that its own list names, reads that item in the
/// same request, and counts what it wrote only where it is held at all servers for which the item
/// asks: who changes the item afterwards knows that the lease began before. PROTOCOL.md says why
/// that is enough.
///
/// Thread safe. Nothing of it is locked while a process forks, but for what is skipped then; the
/// lists and servers that it ever knew stay as long as it does.
class Agreement {
 public:
  /// `servers` is a list, or `OLD>NEW`. Throws InvalidServers.
  Agreement(std::string_view servers, const ClientOptions& options);
  ~Agreement();
  Agreement(const Agreement&) = delete;
  Agreement& operator=(const Agreement&) = delete;

  /// The one with which it was made.
  [[nodiscard]] const Routing& configured() const noexcept { return *configured_; }
  [[nodiscard]] const View& view() const noexcept { return *view_.load(std::memory_order_acquire); }
  /// Where a key is to be locked first.
  [[nodiscard]] Server& first_server_of(const Key& key) const {
    return view().list->server_of(key);
  }
  /// Made at first need.
  Server& server_at(const ServerAddress& address);
  /// Null where it was never needed.
  [[nodiscard]] Server* find_server(const ServerAddress& address) const noexcept;
  /// Made at first need. Throws InvalidServers.
  const Routing& routing(std::string_view list);

  /// To be asked before the first record is sent to a server: reads its item where that is not
  /// known yet. No request otherwise, unless the guard is closed. Throws as admit().
  Admission prepare(Server& server, const Key& key, std::chrono::milliseconds lease,
                    RestartGuard guard);
  /// To be asked with what came back with a record of `key`. Makes the item where there is none,
  /// and raises its longest lease where it must. Throws Unavailable, ServerError, ServersDiffer.
  Admission admit(Server& server, const Key& key, const Snapshot& snapshot,
                  std::chrono::milliseconds lease, RestartGuard guard);
  /// Whether admit() would make no request, but perhaps for the guard.
  [[nodiscard]] bool knows(Server& server, const std::optional<SeenItem>& seen, std::uint64_t start,
                           std::chrono::milliseconds lease) const;
  /// What was read with a renewal of such a lease: true if it serves, false if admit() is to be
  /// asked. Makes no request. Throws ServersDiffer.
  bool serves(Server& server, const std::optional<SeenItem>& seen, std::chrono::milliseconds lease,
              const Key& key);
  /// Throws ServersDiffer, ServerError by what was read, without a request.
  void check(Server& server, const std::optional<SeenItem>& seen, const Key& key);
  /// After a server did not answer: asks others of the lists, once a second at most. Whether the
  /// lists have changed. Throws ServersDiffer.
  bool look_around(const Server& silent, const Key& key);
  /// Whether the last move that was seen is one from this list to that of the view.
  [[nodiscard]] bool precedes(const MarkedList& list, const Server& at, const View& view) const;
  /// Tells the observer that the list has moved, if it has. No mutex may be locked.
  void announce(const Server& at);
  [[nodiscard]] Demand demand(const ServerItem& item, Server& at, const Key& key);

  /// A list with the mark at one of its servers.
  [[nodiscard]] static MarkedList marked(const Routing& list, std::string_view self);

  /// Makes the item of a server that has none, or confirms it. Not always at once.
  void establish(Server& here, const Key& key, std::chrono::milliseconds lease);
  /// Throws ServersDiffer where a name leads to servers with different items.
  void check_addresses(Server& server, const Key& key);
  [[nodiscard]] const ClientOptions& options() const noexcept { return options_; }

 private:
  struct Servers;
  struct Routings;
  struct Views;
  struct Look;

  Admission decide(Server& server, const Key& key, RestartGuard guard);
  /// Throws ServersDiffer unless the item agrees with the view, or says how the view goes on.
  void learn(Server& at, const SeenItem& seen, const Key& key);
  /// The same; where it would throw, asks those that it knew before whether the list has moved.
  void learn_by_others(Server& at, const SeenItem& seen, const Key& key);
  [[nodiscard]] View view_of(Server& at, const SeenItem& seen, const Key& key);
  void check_marks(const Server& at, const MarkedList& list, const Key& key) const;
  /// Of those known, the one that is meant.
  [[nodiscard]] const Routing* known(const MarkedList& list, const Server& at) const;
  const Routing& routing_of(const MarkedList& list, const Server& at, const Key& key);
  void set_view(View next, const Server& at, const Key& key);
  [[noreturn]] void differ(const Server& at, const std::string& theirs, const std::string& why,
                           const Key& key) const;
  [[noreturn]] void reject(const Server& at, const std::string& text, const Key& key) const;
  void begin_list(const Key& key, std::chrono::milliseconds lease);
  Look look(const Server& here, std::uint64_t id, const Key& key,
            std::vector<const Server*>& silent);
  [[nodiscard]] std::vector<Server*> servers_of_view(const Server* but) const;
  [[nodiscard]] static bool is_silent(const Server& server);
  static void note_silent(Server& server);
  [[nodiscard]] std::chrono::milliseconds limit_for(std::size_t count) const;
  /// `must`: where one does not answer, throws Unavailable.
  void raise_longest(Server& here, const Key& key, std::chrono::milliseconds lease, bool must);
  void raise_if_differing(const Key& key) const;

  const ClientOptions& options_;
  std::atomic<Servers*> servers_{nullptr};
  std::atomic<Routings*> routings_{nullptr};
  std::atomic<Views*> views_{nullptr};
  std::atomic<const View*> view_{nullptr};
  std::atomic<const View*> last_move_{nullptr};
  std::atomic<std::uint64_t> floor_{
      0};  // of that move; a server that it left again has a higher number
  const Routing* configured_ = nullptr;
  const Routing* configured_next_ = nullptr;
  std::atomic<const Routing*> announced_{nullptr};  // the last to which it has moved

  std::atomic<Clock::time_point> looked_around_{Clock::time_point::min()};

  mutable Mutex trouble_mutex_;  // tried only, as a parent of a fork may have locked it
  mutable SharedFailure trouble_ MCL_GUARDED_BY(trouble_mutex_);
  mutable Clock::time_point trouble_until_ MCL_GUARDED_BY(trouble_mutex_){};
};

}  // namespace memcachedlock::detail
