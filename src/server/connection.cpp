#include "server/connection.hpp"

#include <fmt/format.h>
#include <libmemcached-1.0/memcached.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <ctime>
#include <system_error>

#include "server/raw_socket.hpp"

namespace memcachedlock::detail {

namespace {

// An absolute time long ago (30 days and a second into 1970): `cas` with it removes the item.
constexpr std::time_t in_the_past = 2'592'001;

void set(memcached_st* handle, memcached_behavior_t behavior, std::uint64_t value) {
  if (const auto code = memcached_behavior_set(handle, behavior, value); memcached_failed(code)) {
    throw std::invalid_argument(fmt::format("libmemcached: {}", memcached_strerror(handle, code)));
  }
}

/// No replies while it lives.
class NoReply {
 public:
  explicit NoReply(memcached_st* handle) : handle_(handle) {
    set(handle_, MEMCACHED_BEHAVIOR_NOREPLY, 1);
  }
  ~NoReply() { memcached_behavior_set(handle_, MEMCACHED_BEHAVIOR_NOREPLY, 0); }
  NoReply(const NoReply&) = delete;
  NoReply& operator=(const NoReply&) = delete;

 private:
  memcached_st* handle_;
};

std::uint64_t next_number() {
  static std::atomic<std::uint64_t> number{0};
  return ++number;
}

class Result {
 public:
  explicit Result(memcached_st* handle) { memcached_result_create(handle, &result_); }
  ~Result() { memcached_result_free(&result_); }
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;
  memcached_result_st* get() { return &result_; }

 private:
  memcached_result_st result_{};
};

}  // namespace

void Connection::Free::operator()(memcached_st* handle) const noexcept { memcached_free(handle); }

Connection::Connection(const ServerAddress& server, const ClientOptions& options)
    : server_(server),
      options_(options),
      handle_(memcached_create(nullptr)),
      number_(next_number()),
      limit_(options.operation_timeout),
      log_in_(!options.sasl_user.empty()) {
  memcached_st* handle = handle_.get();
  if (handle == nullptr) throw std::bad_alloc();
  set(handle, MEMCACHED_BEHAVIOR_BINARY_PROTOCOL, options.protocol == Protocol::binary ? 1 : 0);
  set(handle, MEMCACHED_BEHAVIOR_SUPPORT_CAS, 1);
  set(handle, MEMCACHED_BEHAVIOR_TCP_NODELAY, 1);
  // Firewalls forget what was silent for some minutes.
  set(handle, MEMCACHED_BEHAVIOR_TCP_KEEPALIVE, 1);
  set(handle, MEMCACHED_BEHAVIOR_TCP_KEEPIDLE, 30);
  set(handle, MEMCACHED_BEHAVIOR_CONNECT_TIMEOUT,
      static_cast<std::uint64_t>(options.connect_timeout.count()));
  set(handle, MEMCACHED_BEHAVIOR_POLL_TIMEOUT, static_cast<std::uint64_t>(limit_.count()));
  if (!options.sasl_user.empty()) {
    memcached_set_sasl_auth_data(handle, options.sasl_user.c_str(), options.sasl_password.c_str());
  }
}

void Connection::begin(std::chrono::milliseconds limit) {
  if (!has_server_) find_server();
  asked_ = Clock::now();
  set_limit(limit);
  if (!log_in_) return;
  // Connects with a request of its own: a later one would hide that the login was refused.
  if (memcached_failed(memcached_version(handle_.get()))) {
    fail(memcached_last_error(handle_.get()));
  }
  log_in_ = false;
}

/// libmemcached would look a name up itself, without a limit.
void Connection::find_server() {
  peer_ = server_.is_unix_socket()
              ? server_.host
              : reachable_address(server_.host, server_.port, options_.connect_timeout);
  const auto code = server_.is_unix_socket()
                        ? memcached_server_add_unix_socket(handle_.get(), peer_.c_str())
                        : memcached_server_add(handle_.get(), peer_.c_str(), server_.port);
  if (memcached_failed(code)) fail(code);
  has_server_ = true;
}

void Connection::end() noexcept {
  if (open_since_ == Clock::time_point::max()) open_since_ = Clock::now();
}

bool Connection::may_use(const Cas& cas) const noexcept {
  return cas.connection == number_ || open_since_ < cas.asked;
}

void Connection::cut() noexcept {
  // libmemcached reads it again before each wait, and takes 0 for a limit that has passed. It has
  // nothing that is meant for other threads: its socket can't be had.
  std::atomic_ref(handle_->poll_timeout).store(0, std::memory_order_relaxed);
}

void Connection::set_limit(std::chrono::milliseconds limit) {
  if (limit == limit_) return;
  limit_ = limit;
  set(handle_.get(), MEMCACHED_BEHAVIOR_POLL_TIMEOUT, static_cast<std::uint64_t>(limit.count()));
}

void Connection::fail(int code_number) {
  const auto code = static_cast<memcached_return_t>(code_number);
  const int system = memcached_last_error_errno(handle_.get());
  std::string what = memcached_strerror(handle_.get(), code);
  if (system != 0) what += fmt::format(": {}", std::generic_category().message(system));
  using Kind = Failure::Kind;
  switch (code) {
    case MEMCACHED_TIMEOUT:
      throw Failure(Kind::timeout, fmt::format("no answer within {} ms", limit_.count()));
    case MEMCACHED_SERVER_MARKED_DEAD:
    case MEMCACHED_SERVER_TEMPORARILY_DISABLED:  // since an earlier step of the same request
      throw Failure(Kind::disconnected, "no connection can be made");
    case MEMCACHED_CONNECTION_FAILURE:
    case MEMCACHED_HOST_LOOKUP_FAILURE:
    case MEMCACHED_CONNECTION_SOCKET_CREATE_FAILURE:
    case MEMCACHED_FAIL_UNIX_SOCKET:
    case MEMCACHED_ERRNO:
    case MEMCACHED_WRITE_FAILURE:
    case MEMCACHED_UNKNOWN_READ_FAILURE:
    case MEMCACHED_PARTIAL_READ:
      throw Failure(Kind::disconnected, what);
    case MEMCACHED_AUTH_PROBLEM:
    case MEMCACHED_AUTH_FAILURE:
    case MEMCACHED_AUTH_CONTINUE:
      throw Failure(
          Kind::refused,
          fmt::format("the login was refused ({}); check sasl_user and sasl_password", what));
    default:  // some codes only say that something failed; then the system's error tells what
      throw Failure(system != 0 ? Kind::disconnected : Kind::refused, what);
  }
}

Statistics Connection::statistics(const char* which) {
  Statistics all;
  const auto one = [](const memcached_instance_st*, const char* name, std::size_t name_length,
                      const char* value, std::size_t length, void* context) {
    static_cast<Statistics*>(context)->emplace(std::string(name, name_length),
                                               std::string(value, length));
    return MEMCACHED_SUCCESS;
  };
  memcached_stat_execute(handle_.get(), which, one, &all);
  // It returns success whatever happens.
  if (const auto code = memcached_last_error(handle_.get()); memcached_failed(code)) fail(code);
  return all;
}

ClockReading Connection::read_clock() {
  ClockReading reading;
  reading.asked = Clock::now();
  const Statistics all = statistics("");
  reading.answered = Clock::now();
  const auto number = [&](const char* name) {
    const auto found = all.find(name);
    const std::string_view text = found != all.end() ? std::string_view(found->second) : "";
    std::int64_t result = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size()) {
      throw Failure(Failure::Kind::refused, "`stats` does not tell its time, uptime and pid");
    }
    return result;
  };
  reading.time = number("time");
  reading.uptime = number("uptime");
  reading.pid = number("pid");
  if (reading.time - reading.uptime <= in_the_past) {
    throw Failure(Failure::Kind::refused,
                  "it was started with a clock in January 1970, so it would not free what is "
                  "released; set the clock and start it again");
  }
  start_number_ = reading.start_number();
  return reading;
}

Snapshot Connection::read(std::string_view key) { return read(key, key); }

Snapshot Connection::read(std::string_view key, std::string_view item_key) {
  return read(key, item_key, {});
}

Snapshot Connection::read(std::string_view key, std::string_view item_key, std::string_view sent) {
  Snapshot snapshot;
  snapshot.start = start_number_;
  snapshot.asked_item = key != item_key;
  const std::array<std::string_view, 2> keys{key, item_key};
  fetch(std::span(keys).first(key == item_key ? 1 : 2),
        [&](std::string_view name, std::string_view value, const Cas& cas) {
          if (name == key) {
            snapshot.as_sent = !sent.empty() && value == sent;
            snapshot.lock = {snapshot.as_sent ? std::string() : std::string(value), cas};
          } else if (name == item_key) {
            snapshot.server_item = seen_item(value, cas);
          } else {
            return false;
          }
          return true;
        });
  return snapshot;
}

/// Nearly always it is the one that was read last.
SeenItem Connection::seen_item(std::string_view text, const Cas& cas) {
  if (text != item_text_) {
    auto item = ServerItem::parse(text);
    item_ = item ? std::make_shared<const ServerItem>(*std::move(item)) : nullptr;
    item_text_ = text;
  }
  return {item_, cas, item_ == nullptr ? item_text_ : std::string()};
}

std::vector<Snapshot> Connection::read_all(std::span<const std::string_view> keys,
                                           std::string_view item_key) {
  std::array<std::string_view, max_keys> names;
  std::copy(keys.begin(), keys.end(), names.begin());
  names.at(keys.size()) = item_key;
  std::vector<Snapshot> snapshots(keys.size());
  std::optional<SeenItem> found;
  fetch(std::span(names).first(keys.size() + 1),
        [&](std::string_view name, std::string_view value, const Cas& cas) {
          const auto at = static_cast<std::size_t>(
              std::distance(keys.begin(), std::find(keys.begin(), keys.end(), name)));
          if (at < keys.size()) {
            snapshots[at].lock = {std::string(value), cas};
          } else if (name == item_key) {
            found = seen_item(value, cas);
          } else {
            return false;
          }
          return true;
        });
  for (Snapshot& snapshot : snapshots) snapshot.server_item = found;
  return snapshots;
}

template <class Store>
void Connection::fetch(std::span<const std::string_view> keys, const Store& store) {
  memcached_st* handle = handle_.get();
  std::array<const char*, max_keys> texts{};
  std::array<std::size_t, max_keys> lengths{};
  for (std::size_t at = 0; at < keys.size(); ++at) {
    texts[at] = keys[at].data();
    lengths[at] = keys[at].size();
  }
  auto code = memcached_mget(handle, texts.data(), lengths.data(), keys.size());
  if (memcached_failed(code)) fail(code);

  Result result(handle);
  for (;;) {
    const memcached_result_st* found = memcached_fetch_result(handle, result.get(), &code);
    if (found == nullptr) break;
    if (code != MEMCACHED_SUCCESS) fail(code);
    const std::string_view name(memcached_result_key_value(found),
                                memcached_result_key_length(found));
    const std::string_view value(memcached_result_value(found), memcached_result_length(found));
    if (!store(name, value, Cas{memcached_result_cas(found), number_, asked_})) {
      throw Failure(Failure::Kind::refused, "the server answered with another key");
    }
  }
  // The binary protocol says NOTFOUND at the end, also of an answer that was cut off.
  if (code == MEMCACHED_NOTFOUND || code == MEMCACHED_END) {
    if (const auto last = memcached_last_error(handle); memcached_failed(last)) code = last;
  }
  if (code != MEMCACHED_SUCCESS && code != MEMCACHED_END && code != MEMCACHED_NOTFOUND) {
    fail(code);
  }
}

Rewritten Connection::write_and_read_all(const std::vector<Rewrite>& all,
                                         std::string_view item_key) {
  std::array<std::string_view, max_keys> keys;
  {
    const NoReply quiet(handle_.get());
    for (std::size_t at = 0; at < all.size(); ++at) {
      const Rewrite& one = all[at];
      keys[at] = one.key;
      if (!one.append && !may_use(one.cas)) continue;
      const auto code =
          one.append ? memcached_append(handle_.get(), one.key.data(), one.key.size(),
                                        one.value.data(), one.value.size(), 0, 0)
                     : memcached_cas(handle_.get(), one.key.data(), one.key.size(),
                                     one.value.data(), one.value.size(), one.expiry, 0, one.cas.id);
      if (memcached_failed(code)) fail(code);
    }
  }
  // Where two of ours believe to hold the same lock, both are to see whose it is.
  Rewritten result;
  std::vector<std::optional<Item>>& items = result.locks;
  items.resize(all.size());
  const auto first_of = [&](std::string_view name) {
    return static_cast<std::size_t>(std::distance(
        all.begin(),
        std::find_if(all.begin(), all.end(), [&](const Rewrite& one) { return one.key == name; })));
  };
  keys.at(all.size()) = item_key;
  fetch(std::span(keys).first(all.size() + 1),
        [&](std::string_view name, std::string_view value, const Cas& cas) {
          if (name == item_key) {
            result.server_item = seen_item(value, cas);
            return true;
          }
          const std::size_t at = first_of(name);
          if (at < items.size()) items[at] = {std::string(value), cas};
          return at < items.size();
        });
  for (std::size_t at = 1; at < all.size(); ++at) {
    if (const std::size_t first = first_of(all[at].key); first < at) items[at] = items[first];
  }
  return result;
}

Snapshot Connection::add_and_read(std::string_view key, std::string_view item_key,
                                  std::string_view value, std::time_t expiry) {
  memcached_st* handle = handle_.get();
  {
    const NoReply quiet(handle);
    const auto code =
        memcached_add(handle, key.data(), key.size(), value.data(), value.size(), expiry, 0);
    if (memcached_failed(code)) fail(code);
  }
  return read(key, item_key, value);
}

Snapshot Connection::cas_and_read(std::string_view key, std::string_view item_key,
                                  std::string_view value, std::time_t expiry, const Cas& cas) {
  memcached_st* handle = handle_.get();
  {
    const NoReply quiet(handle);
    const auto code = memcached_cas(handle, key.data(), key.size(), value.data(), value.size(),
                                    expiry, 0, cas.id);
    if (memcached_failed(code)) fail(code);
  }
  Snapshot snapshot = read(key, item_key);
  snapshot.as_sent = snapshot.lock && snapshot.lock->value == value;
  return snapshot;
}

Snapshot Connection::append_and_read(std::string_view key, std::string_view item_key,
                                     std::string_view text) {
  memcached_st* handle = handle_.get();
  {
    const NoReply quiet(handle);
    const auto code =
        memcached_append(handle, key.data(), key.size(), text.data(), text.size(), 0, 0);
    if (memcached_failed(code)) fail(code);
  }
  return read(key, item_key);
}

std::optional<SeenItem> Connection::read_item(std::string_view item_key) {
  std::optional<SeenItem> found;
  fetch(std::span(&item_key, 1),
        [&](std::string_view name, std::string_view value, const Cas& cas) {
          if (name != item_key) return false;
          found = seen_item(value, cas);
          return true;
        });
  return found;
}

std::optional<SeenItem> Connection::write_item(std::string_view item_key, std::string_view value,
                                               std::time_t expiry,
                                               const std::optional<Cas>& replaced) {
  memcached_st* handle = handle_.get();
  {
    const NoReply quiet(handle);
    const auto code = replaced ? memcached_cas(handle, item_key.data(), item_key.size(),
                                               value.data(), value.size(), expiry, 0, replaced->id)
                               : memcached_add(handle, item_key.data(), item_key.size(),
                                               value.data(), value.size(), expiry, 0);
    if (memcached_failed(code)) fail(code);
  }
  return read_item(item_key);
}

CasResult Connection::compare_and_swap(std::string_view key, std::string_view value,
                                       std::time_t expiry, const Cas& cas) {
  const auto code = memcached_cas(handle_.get(), key.data(), key.size(), value.data(), value.size(),
                                  expiry, 0, cas.id);
  switch (code) {
    case MEMCACHED_SUCCESS:
      return CasResult::done;
    case MEMCACHED_DATA_EXISTS:
      return CasResult::changed;
    case MEMCACHED_NOTFOUND:
      return CasResult::absent;
    default:
      fail(code);
  }
}

CasResult Connection::compare_and_delete(std::string_view key, const Cas& cas) {
  return compare_and_swap(key, "", in_the_past, cas);
}

void Connection::remove(std::string_view key) {
  memcached_delete(handle_.get(), key.data(), key.size(), 0);
}

}  // namespace memcachedlock::detail
