#include "sides.hpp"

#include <fcntl.h>
#include <libmemcached-1.0/memcached.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>

#include "memcachedlock/memcachedlock.hpp"

#ifdef WITH_HIREDIS
#include <hiredis/hiredis.h>
#endif
#ifdef WITH_PQXX
#include <pqxx/pqxx>
#endif
#ifdef WITH_CURL
#include <curl/curl.h>

#include <nlohmann/json.hpp>
#endif

namespace {

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

constexpr const char* key = "benchmark";

std::string new_token() {
  static std::random_device random;
  return std::to_string(random()) + std::to_string(random());
}

/// The pause of a polling client: constant, with some jitter.
void pause_about(std::chrono::microseconds interval) {
  thread_local std::minstd_rand random(std::random_device{}());
  std::uniform_real_distribution<double> jitter(0.5, 1.0);
  std::this_thread::sleep_for(interval * jitter(random));
}

class Ours final : public Side {
 public:
  explicit Ours(const mcl::MemcachedClient& client) : lock_(client, key) {}
  void lock() override { lock_.lock(); }
  void unlock() override {
    if (lock_.release() != mcl::Release::released) throw std::runtime_error("not released");
  }

 private:
  mcl::Lock lock_;
};

/// `add` until it succeeds; `get` and `delete` to release, as other libraries on memcached do.
class MemcachedPoller final : public Side {
 public:
  MemcachedPoller(const std::string& address, std::chrono::microseconds interval)
      : handle_(memcached_create(nullptr)), interval_(interval), token_(new_token()) {
    const auto colon = address.rfind(':');
    memcached_server_add(handle_, address.substr(0, colon).c_str(),
                         static_cast<in_port_t>(std::stoi(address.substr(colon + 1))));
    memcached_behavior_set(handle_, MEMCACHED_BEHAVIOR_TCP_NODELAY, 1);
  }
  ~MemcachedPoller() override { memcached_free(handle_); }
  void lock() override {
    for (;;) {
      const auto code = memcached_add(handle_, key, std::char_traits<char>::length(key),
                                      token_.data(), token_.size(), 30, 0);
      if (code == MEMCACHED_SUCCESS) return;
      if (code != MEMCACHED_NOTSTORED && code != MEMCACHED_DATA_EXISTS) {
        throw std::runtime_error(memcached_strerror(handle_, code));
      }
      pause_about(interval_);
    }
  }
  void unlock() override {
    std::size_t length = 0;
    std::uint32_t flags = 0;
    memcached_return_t code{};
    char* found =
        memcached_get(handle_, key, std::char_traits<char>::length(key), &length, &flags, &code);
    const bool mine = found != nullptr && std::string_view(found, length) == token_;
    std::free(found);  // NOLINT: libmemcached's
    if (!mine) throw std::runtime_error("not ours");
    memcached_delete(handle_, key, std::char_traits<char>::length(key), 0);
  }

 private:
  memcached_st* handle_;
  std::chrono::microseconds interval_;
  std::string token_;
};

/// A lock of the file system.
class FileLock final : public Side {
 public:
  FileLock() : fd_(open(path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (fd_ < 0) throw std::runtime_error("cannot open " + path());
  }
  ~FileLock() override { close(fd_); }
  void lock() override {
    if (flock(fd_, LOCK_EX) != 0) throw std::runtime_error("flock");
  }
  void unlock() override { flock(fd_, LOCK_UN); }

 private:
  static std::string path() {
    const char* directory = std::getenv("TMPDIR");
    return std::string(directory != nullptr ? directory : "/tmp") + "/memcachedlock-benchmark.lock";
  }
  int fd_;
};

#ifdef WITH_HIREDIS
/// SET NX PX until it succeeds, and the usual script to release.
struct FreeRedis {
  void operator()(redisContext* context) const { redisFree(context); }
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using Redis = std::unique_ptr<redisContext, FreeRedis>;
using Reply = std::unique_ptr<redisReply, FreeRedis>;

/// What both have in common: `SET NX PX`, and a script that deletes only what is ours.
class RedisLock : public Side {
 public:
  explicit RedisLock(const std::string& socket) : redis_(connect_to(socket)), token_(new_token()) {}

 protected:
  static Redis connect_to(const std::string& socket) {
    Redis made(redisConnectUnix(socket.c_str()));
    if (made == nullptr || made->err != 0) throw std::runtime_error("no Redis at " + socket);
    return made;
  }
  bool try_lock() {
    const Reply reply(static_cast<redisReply*>(
        redisCommand(redis_.get(), "SET %s %s NX PX 30000", key, token_.c_str())));
    return reply != nullptr && reply->type == REDIS_REPLY_STATUS;
  }
  void release_by(const char* script) {
    const Reply reply(static_cast<redisReply*>(
        redisCommand(redis_.get(), "EVAL %s 1 %s %s", script, key, token_.c_str())));
    if (reply == nullptr || reply->type != REDIS_REPLY_INTEGER || reply->integer != 1) {
      throw std::runtime_error("not ours");
    }
  }

 private:
  Redis redis_;
  std::string token_;
};

class RedisPoller final : public RedisLock {
 public:
  RedisPoller(const std::string& socket, std::chrono::microseconds interval)
      : RedisLock(socket), interval_(interval) {}
  void lock() override {
    while (!try_lock()) pause_about(interval_);
  }
  void unlock() override {
    release_by(
        "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) end return 0");
  }

 private:
  std::chrono::microseconds interval_;
};

/// As Redisson does it: who waits subscribes to a channel, on which each release is published; all
/// that are subscribed try again then.
class RedisSubscriber final : public RedisLock {
 public:
  explicit RedisSubscriber(const std::string& socket)
      : RedisLock(socket), channel_(connect_to(socket)) {}
  void lock() override {
    if (try_lock()) return;
    ask("SUBSCRIBE released");
    while (!try_lock()) next_message();
    ask("UNSUBSCRIBE released");
  }
  void unlock() override {
    release_by(
        "if redis.call('get',KEYS[1])==ARGV[1] then redis.call('del',KEYS[1]) "
        "redis.call('publish','released','') return 1 end return 0");
  }

 private:
  /// Messages may come before the answer.
  void ask(const char* command) {
    redisAppendCommand(channel_.get(), command);
    while (next_message() != (command[0] == 'S' ? "subscribe" : "unsubscribe")) {
    }
  }
  std::string next_message() {
    void* found = nullptr;
    if (redisGetReply(channel_.get(), &found) != REDIS_OK) {
      throw std::runtime_error("Redis: " + std::string(channel_->errstr));
    }
    const Reply reply(static_cast<redisReply*>(found));
    return reply->elements > 0 ? std::string(reply->element[0]->str) : std::string();
  }

  Redis channel_;
};
#endif

#ifdef WITH_PQXX
/// pg_advisory_lock: the database queues and wakes.
class PostgresAdvisory final : public Side {
 public:
  explicit PostgresAdvisory(const std::string& address) : connection_(address) {
    connection_.prepare("lock", "select pg_advisory_lock(4711)");
    connection_.prepare("unlock", "select pg_advisory_unlock(4711)");
  }
  void lock() override { run("lock"); }
  void unlock() override { run("unlock"); }

 private:
  void run(const char* statement) {
    pqxx::nontransaction work(connection_);
    work.exec_prepared(statement);
  }
  pqxx::connection connection_;
};
#endif

#ifdef WITH_CURL
/// etcd's own lock service, over its JSON gateway, as there is no client for C++ in Debian. It
/// queues and wakes, and writes each step to disk.
class EtcdLock final : public Side {
 public:
  explicit EtcdLock(std::string address) : address_(std::move(address)), curl_(curl_easy_init()) {
    if (curl_ == nullptr) throw std::runtime_error("no curl");
    curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, &append);
    curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &answer_);
    curl_easy_setopt(curl_, CURLOPT_TCP_NODELAY, 1L);
    lease_ = ask("/v3/lease/grant", {{"TTL", 600}}).at("ID");
  }
  ~EtcdLock() override { curl_easy_cleanup(curl_); }
  void lock() override {
    constexpr const char* name = "YmVuY2htYXJr";  // "benchmark", as the gateway wants it
    key_ = ask("/v3/lock/lock", {{"name", name}, {"lease", lease_}}).at("key");
  }
  void unlock() override { ask("/v3/lock/unlock", {{"key", key_}}); }

 private:
  static std::size_t append(const char* text, std::size_t size, std::size_t count,
                            std::string* answer) {
    answer->append(text, size * count);
    return size * count;
  }
  nlohmann::json ask(const std::string& path, const nlohmann::json& question) {
    const std::string url = address_ + path;
    const std::string body = question.dump();
    answer_.clear();
    curl_easy_setopt(curl_, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, body.c_str());
    if (const auto code = curl_easy_perform(curl_); code != CURLE_OK) {
      throw std::runtime_error(curl_easy_strerror(code));
    }
    return nlohmann::json::parse(answer_);
  }

  const std::string address_;
  CURL* curl_;
  std::string answer_;
  std::string lease_;
  std::string key_;
};
#endif

/// The client that the threads of a process share; a forked process makes its own connections.
template <bool told>
const mcl::MemcachedClient& shared_client(const std::string& memcached) {
  static const mcl::MemcachedClient client(memcached, {.notify = told});
  return client;
}

}  // namespace

std::vector<NamedSide> all_sides(const std::string& memcached) {
  std::vector<NamedSide> sides;
  const auto poll = [&](const char* name, std::chrono::microseconds interval) {
    sides.push_back({name, [memcached, interval]() -> std::unique_ptr<Side> {
                       return std::make_unique<MemcachedPoller>(memcached, interval);
                     }});
  };
  sides.push_back({"memcachedlock", [memcached]() -> std::unique_ptr<Side> {
                     return std::make_unique<Ours>(shared_client<true>(memcached));
                   }});
  sides.push_back({"memcachedlock-untold", [memcached]() -> std::unique_ptr<Side> {
                     return std::make_unique<Ours>(shared_client<false>(memcached));
                   }});
  poll("memcached-polled-1ms", 1ms);
  poll("memcached-polled-50ms", 50ms);
#ifdef WITH_HIREDIS
  if (const char* redis = std::getenv("REDIS_SOCKET"); redis != nullptr) {
    sides.push_back({"redis-subscribed", [redis = std::string(redis)]() -> std::unique_ptr<Side> {
                       return std::make_unique<RedisSubscriber>(redis);
                     }});
    for (const auto interval : {1ms, 50ms}) {
      sides.push_back({"redis-polled-" + std::to_string(interval.count()) + "ms",
                       [redis = std::string(redis), interval]() -> std::unique_ptr<Side> {
                         return std::make_unique<RedisPoller>(redis, interval);
                       }});
    }
  }
#endif
#ifdef WITH_PQXX
  if (const char* postgres = std::getenv("POSTGRES"); postgres != nullptr) {
    sides.push_back(
        {"pg_advisory_lock", [postgres = std::string(postgres)]() -> std::unique_ptr<Side> {
           return std::make_unique<PostgresAdvisory>(postgres);
         }});
  }
#endif
#ifdef WITH_CURL
  if (const char* etcd = std::getenv("ETCD"); etcd != nullptr) {
    sides.push_back({"etcd", [etcd = std::string(etcd)]() -> std::unique_ptr<Side> {
                       return std::make_unique<EtcdLock>(etcd);
                     }});
  }
#endif
  sides.push_back(
      {"flock", []() -> std::unique_ptr<Side> { return std::make_unique<FileLock>(); }});
  return sides;
}
