// One connection to one memcached: the commands that a lock needs, each one round trip. The only
// code that speaks to libmemcached, except the ring in cluster.cpp.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/failure.hpp"
#include "memcachedlock/client_options.hpp"
#include "memcachedlock/servers.hpp"
#include "server/server_clock.hpp"
#include "wire/record.hpp"
#include "wire/server_item.hpp"

struct memcached_st;

namespace memcachedlock::detail {

/// A CAS id, and how it was learned. A server that restarts counts from 1 again, so the id may by
/// then be another holder's: it is good only on a connection that is older than the question.
struct Cas {
  std::uint64_t id = 0;
  std::uint64_t connection = 0;  ///< the number of the one that learned it
  Clock::time_point asked{};     ///< before the request was sent
};

/// What `stats` tells, by name.
using Statistics = std::map<std::string, std::string, std::less<>>;

struct Item {
  std::string value;
  Cas cas;
};

/// What a server keeps of itself, as it was found.
struct SeenItem {
  std::shared_ptr<const ServerItem> item;  ///< null where it is none of ours
  Cas cas;
  std::string text = {};  ///< where it is none of ours, for the error
};

/// What was at two keys of one server at one moment.
struct Snapshot {
  std::optional<Item> lock;  ///< its value may be left out if `as_sent`
  std::optional<SeenItem> server_item;
  std::uint64_t start = 0;  ///< ClockReading::start_number() of the server; 0: not read yet
  bool asked_item = false;  ///< `server_item` is missing because there is none
  bool as_sent = false;     ///< `lock` is what this request has sent
  bool sent_again = false;  ///< the request was sent twice, as its first answer did not come
};

/// What was at several locks of one server at one moment, in their order.
struct Rewritten {
  std::vector<std::optional<Item>> locks;
  std::optional<SeenItem> server_item;
};

/// What a compare-and-swap came to. Unknown: an earlier sending of it was not answered, and what is
/// there now does not tell whether it was done.
enum class CasResult { done, changed, absent, unknown };

/// Used by one thread at a time.
class Connection {
 public:
  /// Asks nothing. Refers to both.
  Connection(const ServerAddress& server, const ClientOptions& options);

  /// Before each request: the longest wait of each of its steps. The first looks up the host, logs
  /// in, and connects within ClientOptions::connect_timeout.
  void begin(std::chrono::milliseconds limit);
  /// After each request that was answered.
  void end() noexcept;
  /// Whether the server that this id is from is still the same.
  [[nodiscard]] bool may_use(const Cas& cas) const noexcept;
  /// The server's numeric address, or the path of its socket; known after begin().
  [[nodiscard]] const std::string& peer() const noexcept { return peer_; }
  /// From any thread, during a request: it does not begin to wait again, and fails.
  void cut() noexcept;

  Statistics statistics(const char* which);
  /// What the server's clock shows. Also sets whether it was ever asked over this connection.
  ClockReading read_clock();
  [[nodiscard]] bool has_read_clock() const noexcept { return start_number_ != 0; }
  /// Of the server at the other end; 0 where its clock was not read.
  [[nodiscard]] std::uint64_t start_number() const noexcept { return start_number_; }
  /// `add` without a reply, then `gets` of both keys: the server runs them in this order, so the
  /// value that comes back names the holder, with its CAS id.
  Snapshot add_and_read(std::string_view key, std::string_view item_key, std::string_view value,
                        std::time_t expiry);
  Snapshot cas_and_read(std::string_view key, std::string_view item_key, std::string_view value,
                        std::time_t expiry, const Cas& cas);
  static constexpr std::size_t max_keys = 33;  ///< with the server's item
  /// One of several that are written together, fewer than `max_keys`.
  struct Rewrite {
    std::string_view key;
    std::string_view value;
    std::time_t expiry = 0;
    Cas cas;
    bool append = false;  ///< in place of `cas`
  };
  /// `cas` or `append` of each without a reply, except those whose id is not known here, then one
  /// `gets` of all, and of the server's item: one round trip. In their order.
  Rewritten write_and_read_all(const std::vector<Rewrite>& all, std::string_view item_key);
  /// Its text, in memory that serves again for the next one.
  [[nodiscard]] std::string_view encoded(const Record& record) {
    record.encode_into(scratch_);
    return scratch_;
  }
  /// The item keeps its expiry.
  Snapshot append_and_read(std::string_view key, std::string_view item_key, std::string_view text);
  Snapshot read(std::string_view key, std::string_view item_key);
  /// What the server keeps of itself.
  std::optional<SeenItem> read_item(std::string_view item_key);
  /// `add`, or `cas` where one is replaced, without a reply, then `gets`.
  std::optional<SeenItem> write_item(std::string_view item_key, std::string_view value,
                                     std::time_t expiry, const std::optional<Cas>& replaced);
  /// The lock alone.
  Snapshot read(std::string_view key);
  /// Several, fewer than `max_keys`, in their order, each with the server's item.
  std::vector<Snapshot> read_all(std::span<const std::string_view> keys, std::string_view item_key);
  CasResult compare_and_swap(std::string_view key, std::string_view value, std::time_t expiry,
                             const Cas& cas);
  /// Compare-and-delete.
  CasResult compare_and_delete(std::string_view key, const Cas& cas);
  /// Only for servers without compare-and-swap, where nothing else takes an item away.
  void remove(std::string_view key);

 private:
  struct Free {
    void operator()(memcached_st* handle) const noexcept;
  };
  void set_limit(std::chrono::milliseconds limit);
  void find_server();
  /// `gets` of at most `max_keys`; `store(name, value, cas)` is given what was found, and says
  /// whether that was asked for.
  template <class Store>
  void fetch(std::span<const std::string_view> keys, const Store& store);
  /// `sent`: what the lock's item is expected to be.
  Snapshot read(std::string_view key, std::string_view item_key, std::string_view sent);
  SeenItem seen_item(std::string_view text, const Cas& cas);
  [[noreturn]] void fail(int code);

  const ServerAddress& server_;
  const ClientOptions& options_;
  std::unique_ptr<memcached_st, Free> handle_;
  const std::uint64_t number_;
  Clock::time_point asked_{};
  Clock::time_point open_since_ = Clock::time_point::max();  // at the latest
  std::chrono::milliseconds limit_;
  bool has_server_ = false;
  std::string peer_;
  bool log_in_;
  std::uint64_t start_number_ = 0;
  std::string scratch_;
  std::string item_text_;                   // as it was read last
  std::shared_ptr<const ServerItem> item_;  // which is in it
};

}  // namespace memcachedlock::detail
