// One server: what is asked of it, and what is known of its restarts.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/failure.hpp"
#include "base/mutex.hpp"
#include "base/process.hpp"
#include "base/timer_thread.hpp"
#include "memcachedlock/client_options.hpp"
#include "memcachedlock/key.hpp"
#include "memcachedlock/observer.hpp"
#include "memcachedlock/options.hpp"
#include "memcachedlock/servers.hpp"
#include "server/connection.hpp"
#include "server/connection_pool.hpp"
#include "server/epoch_watch.hpp"
#include "server/mailbox.hpp"
#include "server/server_clock.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

/// What a server keeps of itself, as it was found.
struct SeenServer {
  std::optional<SeenItem> found;
  std::uint64_t start = 0;  ///< ClockReading::start_number() of the server
};

/// How long something that is written is to count.
struct Term {
  std::string_view holder;             ///< whose lease begins with it; empty: nobody's
  std::chrono::milliseconds lease{0};  ///< of that holder
  std::chrono::milliseconds item{0};   ///< how long the item must live at least
};

/// Thread safe. Every request waits as ClientOptions tells, and throws Unavailable or ServerError,
/// which name key and server. A connection that sat idle while the server restarted is replaced and
/// the request sent again, once; that is why all requests are such that a second sending does no
/// harm. Those of the background threads use connections of their own, so that they never wait for
/// others. No signal is delivered to a thread while it waits for an answer, as libmemcached then
/// loses count of the time.
///
/// A `stored` is set before something is sent that the server may keep, so that a caller without an
/// answer knows whether anything may have to be removed.
class Server {
 public:
  /// The limit of a request that has no other than `operation_timeout`.
  static constexpr auto longest = std::chrono::milliseconds::max();

  Server(ServerAddress address, const ClientOptions& options);

  [[nodiscard]] const ServerAddress& address() const noexcept { return address_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] TimerThread& renewing() const { return TimerThread::renewing(name_); }
  [[nodiscard]] TimerThread& acquiring() const { return TimerThread::acquiring(name_); }

  /// The end of the holder's lease, and the item's expiry, are put into the record.
  Snapshot add_and_read(const Key& key, Record& record, const Term& term, bool& stored);
  /// Only reads where the server may have restarted since `cas` was learned: then it is not good
  /// any more, and what is there now comes back.
  Snapshot cas_and_read(const Key& key, Record& record, const Term& term, const Cas& cas,
                        bool& stored, std::chrono::milliseconds limit = longest);
  /// What is known when words are written.
  struct Stamps {
    std::int64_t end = 0;      ///< of a lease that begins now
    std::string_view told_at;  ///< see Mailbox::address()
  };
  /// Adds words to a text.
  using Words = std::function<void(std::string& text, const Stamps& now)>;
  /// Either `record` is stored by `cas`, or `words` are appended.
  struct Rewrite {
    const Key* key = nullptr;
    Record* record = nullptr;
    Term term;
    Cas cas;
    Words words = {};
  };
  /// For several locks in one round trip, fewer than Connection::max_keys. An error names the first
  /// of them.
  Rewritten write_and_read_all(const std::vector<Rewrite>& all, std::chrono::milliseconds limit);
  /// Words for the end of the item, which keeps its expiry. `lease` is that of their END. A second
  /// sending may append twice. If there is no item, nothing is stored.
  Snapshot append_and_read(const Key& key, std::chrono::milliseconds lease, const Words& words,
                           bool& stored);
  Snapshot read(const Key& key, std::chrono::milliseconds limit = longest);
  /// Different ones, fewer than Connection::max_keys, in one round trip. An error names the first.
  std::vector<Snapshot> read_all(std::span<const Key> keys,
                                 std::chrono::milliseconds limit = longest);
  /// Without the server's item, which costs as much as another read.
  Snapshot read_lock(const Key& key);
  /// `changed` also where the server may have restarted since `cas` was learned.
  CasResult compare_and_swap(const Key& key, Record& record, const Term& term, const Cas& cas);
  CasResult compare_and_delete(const Key& key, const Cas& cas);

  /// `stats WHICH`.
  Statistics statistics(const char* which);

  /// The server's clock as it is now; seconds, rounded down. A request of its own.
  std::int64_t time(const Key& key);
  /// Whether this time of the server's clock has passed, as far as is known without asking.
  bool seems_past(std::int64_t time);
  /// How long a lease with this END runs, about; 0 if it is over.
  std::chrono::seconds time_left(std::int64_t end);
  /// END of a lease that begins now, by what is known of the server's clock.
  std::int64_t end_of(std::chrono::milliseconds lease);

  /// Where this process is told of its locks.
  [[nodiscard]] Mailbox& mailbox() { return mailbox_.get(name_).box; }
  /// Whether waiters are told at all.
  [[nodiscard]] bool notifies() { return options_.notify && !mailbox().is_off(); }
  /// See Mailbox::address(); over a connection, which may have to be made.
  [[nodiscard]] std::string told_at(const Key& key);
  /// Tells those that hold a lock and may not know it, by what was read.
  void tell_holders(const Record& record, const Snapshot& snapshot);
  /// A waiter has learned that it holds the lock.
  void note_grant(GrantKind kind, bool by_datagram = false);

  /// After it failed to answer one of those that its background thread acquires for.
  void note_failure(SharedFailure failure);
  /// The last of these, for an acquire that has waited for that thread since before.
  [[nodiscard]] std::optional<SharedFailure> failure_since(Clock::time_point time) const;

  /// After it failed to answer the background thread, which should not ask it again so soon.
  void rest(Clock::time_point until) { resting_until_.store(until); }
  [[nodiscard]] Clock::time_point resting_until() const { return resting_until_.load(); }

  /// Whether the server keeps the memory that was known before `time`, by what came back now.
  bool is_since(const Snapshot& snapshot, Clock::time_point time);
  [[nodiscard]] EpochWatch& epochs() { return epochs_.get(options_.restart_window); }
  /// Its own item. `key` is for errors.
  SeenServer read_item(std::string_view key, std::chrono::milliseconds limit = longest);
  /// What to write; `made` is the time of the server's clock, at the latest. Nothing: only read.
  using MakeItem =
      std::function<std::optional<ServerItem>(const ClockReading& reading, std::int64_t made)>;
  /// Writes it in place of the one with that CAS id; without one, where there is none. What is
  /// there then.
  SeenServer write_item(std::string_view key, const MakeItem& make,
                        const std::optional<Cas>& replaced);
  /// A number for tokens, as a start of the server at this time from now would have.
  std::uint64_t time_number(std::chrono::seconds ahead);
  /// Those that its name has, and those at which it was reached before.
  [[nodiscard]] std::vector<std::string> all_addresses();
  /// Only of a server without compare-and-swap.
  void remove_item(std::string_view key);
  /// The view of its client by which the item that was seen last was found to be well.
  std::atomic<const void*> agreed_view{nullptr};
  /// It did not answer when it was asked what it knows of the list.
  std::atomic<Clock::time_point> silent_until{Clock::time_point::min()};

  /// For a caller that finds that what was just stored is not there.
  [[noreturn]] void raise_full(const Key& key) const;

 private:
  template <class Request>
  auto ask(std::string_view key, std::chrono::milliseconds limit, Request&& request);
  ConnectionPool& pool();
  /// For an item that lives as long as `lease` at least. Asks for the server's clock at times.
  std::time_t expiry(Connection& connection, std::chrono::milliseconds lease);
  void read_clock(Connection& connection);
  void note_address(const std::string& address);
  Snapshot read_with_item(Connection& connection, const Key& key);
  /// END of a lease that begins now; 0 if the server takes no absolute times any more.
  std::int64_t end_of(Connection& connection, std::chrono::milliseconds lease);
  /// Puts the end of the lease, and the expiry of the item, which it returns, into the record.
  std::time_t date(Connection& connection, Record& record, const Term& term);
  [[noreturn]] void raise(const Failure& failure, std::string_view key);

  const ServerAddress address_;
  const std::string name_;
  const ClientOptions& options_;
  const std::string item_key_;
  std::atomic<Clock::time_point> resting_until_{};
  Mutex addresses_mutex_;  // tried only, as a parent of a fork may have locked it
  std::vector<std::string> addresses_ MCL_GUARDED_BY(addresses_mutex_);
  mutable Mutex failure_mutex_;
  SharedFailure failure_ MCL_GUARDED_BY(failure_mutex_);
  std::atomic<Clock::time_point> failed_at_{};
  PerProcess<ConnectionPool> pool_;
  PerProcess<ConnectionPool> background_pool_;
  PerProcess<EpochWatch> epochs_;
  PerProcess<ServerClock> clock_;
  struct SharedMailbox {
    explicit SharedMailbox(const std::string& server) : box(Mailbox::of(server)) {}
    Mailbox& box;
  };
  PerProcess<SharedMailbox> mailbox_;
};

/// Nothing where there is no item, or one that is no lock's.
std::optional<Record> record_in(const std::optional<Item>& item);

/// Throws the ServerError of an item that is no lock's, or another version's.
[[noreturn]] void reject_item(const Key& key, const Server& server, std::string_view value);

}  // namespace memcachedlock::detail
