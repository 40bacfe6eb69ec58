// One server: what is asked of it, and what is known of its epoch.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "annotations.hpp"
#include "connection.hpp"
#include "memcachedlock/client.hpp"
#include "memcachedlock/key.hpp"
#include "memcachedlock/options.hpp"
#include "pool.hpp"
#include "process.hpp"
#include "record.hpp"
#include "server_clock.hpp"

namespace memcachedlock::detail {

/// Whether a lease may be given, by what the epoch item says.
struct Admission {
  bool open = false;
  std::uint64_t epoch = 0;       ///< for the fencing token
  Clock::time_point retry_at{};  ///< where it is not open: when it will be
};

/// Thread safe. Every request waits as ClientOptions tells, and throws Unavailable or ServerError,
/// which name key and server. A connection that sat idle while the server restarted is replaced and
/// the request sent again, once; that is why all requests are such that a second sending does no
/// harm. A `lease` is how long the item must live at least.
class Server {
 public:
  /// The limit of a request that has no other than `operation_timeout`.
  static constexpr auto longest = std::chrono::milliseconds::max();

  Server(ServerAddress address, const ClientOptions& options);

  [[nodiscard]] const ServerAddress& address() const noexcept { return address_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

  View add_and_read(const Key& key, std::string_view value, std::chrono::milliseconds lease);
  /// Only reads where the server may have restarted since `cas` was learned: then it is not good
  /// any more, and what is there now comes back.
  View cas_and_read(const Key& key, std::string_view value, std::chrono::milliseconds lease,
                    const Cas& cas, std::chrono::milliseconds limit = longest);
  struct Rewrite {
    const Key* key = nullptr;
    std::string value;
    std::chrono::milliseconds lease{0};
    Cas cas;
  };
  /// The same for several locks in one round trip, at most Connection::most_keys. Without
  /// the epoch. An error names the first of them.
  std::vector<std::optional<Item>> cas_and_read_all(const std::vector<Rewrite>& all,
                                                    std::chrono::milliseconds limit);
  /// A second sending may append twice.
  View append_and_read(const Key& key, std::string_view text);
  View read(const Key& key, std::chrono::milliseconds limit = longest);
  /// Different ones, fewer than Connection::most_keys, in one round trip. An error names the first.
  std::vector<View> read_all(std::span<const Key> keys);
  /// Without the epoch, which costs as much as another read.
  View read_lock(const Key& key);
  /// `changed` also where the server may have restarted since `cas` was learned, and where the
  /// first sending was done already.
  Swap swap(const Key& key, std::string_view value, std::chrono::milliseconds lease,
            const Cas& cas);
  Swap remove_if(const Key& key, const Cas& cas);

  /// `stats WHICH`.
  Statistics statistics(const char* which);

  /// After it failed to answer the background thread: that should not wait for it again so soon,
  /// as other servers' leases need it too.
  void rest(Clock::time_point until) { resting_until_.store(until); }
  [[nodiscard]] Clock::time_point resting_until() const { return resting_until_.load(); }

  /// To be asked before the first record is sent to a server: reads the epoch where it is not
  /// known yet. No request otherwise.
  Admission prepare(const Key& key, std::chrono::milliseconds lease, RestartGuard guard);
  /// To be asked with the epoch item that came back with a record of `key`. Makes the item where
  /// there is none, and raises its longest lease where it must.
  Admission admit(const Key& key, const std::optional<Item>& item, std::chrono::milliseconds lease,
                  RestartGuard guard);

 private:
  struct Memory {
    Mutex mutex;
    std::uint64_t epoch MCL_GUARDED_BY(mutex) = 0;  // 0: not seen yet
    std::string epoch_text MCL_GUARDED_BY(mutex);   // the item of that
    Clock::time_point first_seen MCL_GUARDED_BY(mutex){};
    bool follows_another MCL_GUARDED_BY(mutex) = false;  // we knew an earlier epoch
    bool waited_out MCL_GUARDED_BY(mutex) = false;       // leases from before it have ended
    std::chrono::milliseconds longest_lease MCL_GUARDED_BY(mutex){0};  // seen or used so far
  };

  template <class Request>
  auto ask(std::string_view key, std::chrono::milliseconds limit, Request&& request);
  /// For an item that lives as long as `lease` at least. Asks for the server's clock at times.
  std::time_t expiry(Connection& connection, std::chrono::milliseconds lease);
  /// Whether the server's epoch is one that was known before `time`.
  bool is_since(const std::optional<Item>& epoch, Clock::time_point time);
  [[noreturn]] void raise(const Failure& failure, std::string_view key) const;
  std::uint64_t settle(const Key& key, Memory& memory, std::optional<Item> item,
                       std::chrono::milliseconds lease) MCL_REQUIRES(memory.mutex);
  Admission decide(Memory& memory, RestartGuard guard) const MCL_REQUIRES(memory.mutex);

  const ServerAddress address_;
  const std::string name_;
  const ClientOptions& options_;
  const std::string epoch_key_;
  const std::chrono::nanoseconds clock_offset_;  // of the wall clock when we began
  std::atomic<Clock::time_point> resting_until_{};
  PerProcess<Pool> pool_;
  PerProcess<Memory> memory_;
  PerProcess<ServerClock> clock_;
};

/// Nothing where there is no item, or one that is no lock's.
std::optional<Record> record_in(const std::optional<Item>& item);

/// Throws the ServerError of an item that is no lock's.
[[noreturn]] void reject_item(const Key& key, const Server& server);

}  // namespace memcachedlock::detail
