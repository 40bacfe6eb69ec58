// Bad input and bad servers: a clear error that names the thing, at once.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"
#include "support/loopback.hpp"
#include "support/message_of.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

TEST(Keys, OddTextsLock) {
  const LocalServer server;
  for (const auto protocol : {mcl::Protocol::text, mcl::Protocol::binary}) {
    mcl::ClientOptions options;
    options.protocol = protocol;
    const mcl::MemcachedClient client(server.address(), options);
    for (const std::string& text : {std::string("x\r\nflush_all\r\n"), std::string(1 << 20, 'k'),
                                    std::string("\0", 1), std::string("\xe2\x82\xac")}) {
      mcl::Lock lock(client, text);
      lock.lock();
      EXPECT_FALSE(mcl::Lock(client, text).try_lock());
      EXPECT_EQ(lock.release(), mcl::Release::released);
    }
  }
}

TEST(Options, OutOfRangeAreNamed) {
  const mcl::MemcachedClient client("127.0.0.1:1");
  for (const auto value : {0ms, -1ms, std::chrono::milliseconds(720h)}) {
    EXPECT_NE(message_of<mcl::InvalidOption>([&] {
                (void)mcl::Lock(client, "k", {.timeout = value});
              }).find("timeout"),
              std::string::npos);
    EXPECT_NE(message_of<mcl::InvalidOption>([&] {
                (void)mcl::Lock(client, "k", {.interval = value});
              }).find("interval"),
              std::string::npos);
  }
  EXPECT_NO_THROW((void)mcl::Lock(client, "k", {.timeout = 720h - 2s}));
  EXPECT_THROW((void)mcl::OwnerId::named(""), mcl::InvalidOption);
  mcl::ClientOptions options;
  options.operation_timeout = 0ms;
  EXPECT_THROW((void)mcl::MemcachedClient("h", options), mcl::InvalidOption);
  options = {};
  options.prefix = "with space";
  EXPECT_THROW((void)mcl::MemcachedClient("h", options), mcl::InvalidOption);
  options = {};
  options.sasl_user = "user";  // in the text protocol
  EXPECT_THROW((void)mcl::MemcachedClient("h", options), mcl::InvalidOption);
  options = {};
  options.connections = 0;
  EXPECT_THROW((void)mcl::MemcachedClient("h", options), mcl::InvalidOption);
}

TEST(Options, TheLongestLeaseWorks) {
  const LocalServer server;
  mcl::Lock lock(mcl::MemcachedClient(server.address()), "k", {.timeout = 720h - 2s});
  lock.lock();
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

/// Not memcached: answers each connection's first bytes with a given text.
class Impostor {
 public:
  enum class Manner { http, silent, closes };
  explicit Impostor(Manner manner) : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = loopback(0);
    socklen_t length = sizeof address;
    bind(listener_, reinterpret_cast<sockaddr*>(&address), length);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
    listen(listener_, 8);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, manner] {
      for (int fd = 0; (fd = accept(listener_, nullptr, nullptr)) >= 0;) {
        if (manner == Manner::http) {
          const std::string_view answer = "HTTP/1.1 400 Bad Request\r\n\r\n";
          (void)send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
        }
        if (manner == Manner::closes) {
          close(fd);
        } else {
          open_.push_back(fd);
        }
      }
    });
  }
  ~Impostor() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    for (const int fd : open_) close(fd);
    close(listener_);
  }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  int listener_;
  int port_ = 0;
  std::vector<int> open_;
  std::thread thread_;
};

void expect_refusal(const std::string& address, const mcl::ClientOptions& options = {}) {
  mcl::Lock lock(mcl::MemcachedClient(address, options), "the key");
  try {
    lock.lock();
    ADD_FAILURE() << "locked on " << address;
  } catch (const mcl::Error& error) {
    EXPECT_EQ(error.server(), address);
    EXPECT_NE(std::string(error.what()).find(address), std::string::npos) << error.what();
  }
}

TEST(BadServers, SomethingElseAtThePort) {
  mcl::ClientOptions options;
  options.operation_timeout = 100ms;
  for (const auto manner :
       {Impostor::Manner::http, Impostor::Manner::silent, Impostor::Manner::closes}) {
    for (const auto protocol : {mcl::Protocol::text, mcl::Protocol::binary}) {
      options.protocol = protocol;
      const Impostor impostor(manner);
      expect_refusal(impostor.address(), options);
    }
  }
}

TEST(BadServers, NobodyThere) {
  expect_refusal("127.0.0.1:1");
  expect_refusal("no-such-host.invalid:11211");
  expect_refusal("/nowhere/at/all.sock");
}

TEST(BadServers, WithoutCompareAndSwapIsAClearErrorAndLeavesNothing) {
  const LocalServer server({"-C"});
  mcl::Lock lock(mcl::MemcachedClient(server.address()), "key");
  const std::string message = message_of<mcl::ServerError>([&] { lock.lock(); });
  EXPECT_NE(message.find("-C"), std::string::npos) << message;
  EXPECT_NE(server.ask("stats", "END\r\n").find("STAT curr_items 0\r"), std::string::npos);
}

TEST(BadServers, AnItemThatIsNoLockIsLeftAlone) {
  const LocalServer server;
  server.ask("set memcachedlock:key 0 0 5\r\nhello", "STORED");
  mcl::Lock lock(mcl::MemcachedClient(server.address()), "key");
  const std::string message = message_of<mcl::ServerError>([&] { lock.lock(); });
  EXPECT_NE(message.find("memcachedlock:key"), std::string::npos) << message;
  EXPECT_EQ(server.get("memcachedlock:key"), "hello");
}

TEST(BadServers, AFullServerIsAClearError) {
  const LocalServer server({"-M", "-m", "2"});
  const std::string value(1000, 'x');
  for (int i = 0; i < 100000; ++i) {
    const std::string answer = server.ask("set fill" + std::to_string(i) + " 0 0 1000\r\n" + value);
    if (answer.rfind("SERVER_ERROR", 0) == 0) break;
  }
  const std::string small(60, 'x');
  for (int i = 0; i < 100000; ++i) {
    const std::string answer = server.ask("set s" + std::to_string(i) + " 0 0 60\r\n" + small);
    if (answer.rfind("SERVER_ERROR", 0) == 0) break;
  }
  const mcl::MemcachedClient client(server.address());
  std::vector<std::unique_ptr<mcl::Lock>> held;
  std::string message;
  while (message.empty() && held.size() < 20'000) {
    held.push_back(std::make_unique<mcl::Lock>(client, "key" + std::to_string(held.size())));
    try {
      held.back()->lock();
    } catch (const mcl::ServerError& error) {
      message = error.what();
    }
  }
  EXPECT_NE(message.find("-m"), std::string::npos) << message;
}

TEST(BadServers, ALockIsHadAgainAfterARestartWithoutANewClient) {
  LocalServer server;
  mcl::ClientOptions options;
  options.operation_timeout = 200ms;
  options.restart_window = 500ms;
  const mcl::MemcachedClient client(server.address(), options);
  mcl::Lock lock(client, "key", {.timeout = 500ms});
  lock.lock();
  server.stop();
  EXPECT_EQ(lock.release(), mcl::Release::unavailable);
  EXPECT_THROW(lock.lock(), mcl::Unavailable);
  server.start();
  lock.lock();  // once the guard has let it
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

TEST(BadServers, AnAnswerAfterTheLeaseIsNoSuccess) {
  LocalServer server;
  mcl::ClientOptions options;
  options.operation_timeout = 30s;
  const mcl::MemcachedClient client(server.address(), options);
  mcl::Lock other(client, "other");
  other.lock();  // so that the next request is the acquire itself
  mcl::Lock lock(client, "key", {.timeout = 500ms});
  server.pause();
  std::atomic<bool> asking{false};
  std::thread resumer([&] {
    EXPECT_TRUE(eventually([&] { return asking.load(); }));
    const auto end = std::chrono::steady_clock::now() + 1s;
    EXPECT_TRUE(eventually([&] { return std::chrono::steady_clock::now() > end; }));
    server.resume();
  });
  asking = true;
  EXPECT_FALSE(lock.try_lock());
  resumer.join();
  EXPECT_TRUE(mcl::Lock(client, "key").try_lock());  // and nothing was left behind
}

TEST(BadServers, AConnectionThatTimedOutIsNotUsedAgain) {
  LocalServer server;
  mcl::ClientOptions options;
  options.operation_timeout = 100ms;
  const mcl::MemcachedClient client(server.address(), options);
  mcl::Lock lock(client, "key");
  mcl::Lock other(client, "other");
  other.lock();
  other.unlock();
  server.pause();
  EXPECT_THROW(lock.lock(), mcl::Unavailable);
  server.resume();
  // The lost acquire has landed, and is taken away in the background.
  EXPECT_TRUE(lock.try_lock_for(20s));
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

}  // namespace
