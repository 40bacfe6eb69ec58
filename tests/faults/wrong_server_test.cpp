// Servers that cannot serve a lock: each error names what the server is.
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <clocale>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"
#include "support/loopback.hpp"
#include "support/reserved_port.hpp"
#include "support/temporary_directory.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

/// A program that listens on a port of the loopback, ended with this.
class Listener {
 public:
  Listener(int port, std::vector<std::string> words) : port_(port) {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      (void)!freopen("/dev/null", "w", stdout);
      (void)!freopen("/dev/null", "w", stderr);
      execvp(arguments[0], arguments.data());
      _exit(127);
    }
    EXPECT_TRUE(eventually([&] {
      const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const sockaddr_in address = loopback(port_);
      const bool there =
          connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
      close(descriptor);
      return there;
    }));
  }
  ~Listener() {
    kill(pid_, SIGKILL);
    (void)ended_well(pid_);
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  const int port_;
  pid_t pid_ = -1;
};

/// All that may ask first fails alike, and says so.
template <class Error>
void expect_told(const std::string& address, const std::string& words) {
  const mcl::MemcachedClient client(address);
  const std::vector<std::function<void()>> questions{
      [&] { (void)mcl::Lock(client, "key").try_lock(); },
      [&] { (void)mcl::inspect(client, "key"); },
      [&] {
        mcl::with_lock(
            client, [] { return "key"; }, [] {})();
      }};
  for (const auto& question : questions) {
    try {
      question();
      ADD_FAILURE() << "nothing was thrown, but: " << words;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
      EXPECT_EQ(error.server(), address);
    }
  }
}

TEST(WrongServers, AskForALoginOfTheTextProtocol) {
  const TemporaryDirectory directory;
  std::ofstream(directory.path() + "/users") << "user:password\n";
  const LocalServer server({"-Y", directory.path() + "/users"});
  expect_told<mcl::ServerError>(server.address(), "(-Y)");
}

TEST(WrongServers, SpeakTls) {
  const TemporaryDirectory directory;
  const std::string file = directory.path();
  ASSERT_EQ(std::system(("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -keyout " +
                         file + "/key -out " + file + "/certificate 2>/dev/null")
                            .c_str()),
            0);
  const LocalServer server(
      {"-Z", "-o", "ssl_chain_cert=" + file + "/certificate,ssl_key=" + file + "/key"});
  expect_told<mcl::ServerError>(server.address(), "TLS");
}

// It waits for the rest of what it takes for a binary request.
TEST(WrongServers, SpeakOnlyTheBinaryProtocol) {
  const LocalServer server({"-B", "binary"});
  expect_told<mcl::Unavailable>(server.address(), "another protocol (-B)");
}

TEST(WrongServers, AreARedis) {
  const int port = reserve_port();
  const Listener redis(port, {"redis-server", "--port", std::to_string(port), "--bind", "127.0.0.1",
                              "--save", "", "--appendonly", "no"});
  expect_told<mcl::ServerError>(redis.address(), "Redis");
}

TEST(WrongServers, AreAProxy) {
  const LocalServer server;
  const TemporaryDirectory directory;
  const int port = reserve_port();
  std::ofstream(directory.path() + "/nutcracker.yml")
      << "all:\n  listen: 127.0.0.1:" << port << "\n  servers:\n   - " << server.address()
      << ":1\n";
  const Listener proxy(
      port, {"nutcracker", "-c", directory.path() + "/nutcracker.yml", "-a", "127.0.0.1", "-s",
             std::to_string(reserve_port()), "-o", directory.path() + "/log"});
  expect_told<mcl::ServerError>(proxy.address(), "proxy");
}

TEST(WrongServers, HaveNoConnectionLeft) {
  const LocalServer server({"-c", "100"});
  std::vector<int> taken;
  EXPECT_TRUE(eventually([&] {
    const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = loopback(server.port());
    taken.push_back(descriptor);
    return connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
           taken.size() >= 130;
  }));
  expect_told<mcl::Unavailable>(server.address(), "no connection left");
  for (const int descriptor : taken) close(descriptor);
}

TEST(WrongServers, AreNoneInAnEmptyVariable) {
  setenv("MEMCACHEDLOCK_SERVERS", " ", 1);
  try {
    (void)mcl::MemcachedClient::from_environment();
    ADD_FAILURE();
  } catch (const mcl::InvalidServers& error) {
    EXPECT_NE(std::string(error.what()).find("MEMCACHEDLOCK_SERVERS"), std::string::npos);
  }
  unsetenv("MEMCACHEDLOCK_SERVERS");
}

// Fault: the program has set the locale of its user. Promise: the same list routes the same key to
// the same server, and records are the same.
TEST(Locales, ChangeNothing) {
  const TemporaryDirectory directory;
  setenv("LOCPATH", directory.path().c_str(), 1);
  const auto routes = [] {
    std::string all;
    const mcl::MemcachedClient client("CACHE-I1:1,cache-I2:2,Cache-i3");
    for (const auto& server : client.servers()) all += server.to_string() + " ";
    for (int i = 0; i < 200; ++i) all += client.server_of("k" + std::to_string(i)).to_string()[7];
    return all;
  };
  const LocalServer server;
  const std::string before = routes();
  for (const std::string name : {"tr_TR.UTF-8", "de_DE.UTF-8", "tr_TR.ISO-8859-9"}) {
    const auto point = name.find('.');
    ASSERT_EQ(std::system(("localedef -i " + name.substr(0, point) + " -f " +
                           name.substr(point + 1) + " " + directory.path() + "/" + name)
                              .c_str()),
              0);
    ASSERT_NE(std::setlocale(LC_ALL, name.c_str()), nullptr) << name;
    EXPECT_EQ(routes(), before) << name;
    EXPECT_THROW((void)mcl::parse_servers("caf\xe9"), mcl::InvalidServers);
    const mcl::MemcachedClient client(server.address());
    mcl::RLock lock(client, "KEY I", {.timeout = 1234567ms, .owner = mcl::OwnerId::named("IiIi")});
    lock.lock();
    EXPECT_TRUE(lock.extend());
    const auto status = mcl::inspect(client, "KEY I");
    ASSERT_TRUE(status);
    EXPECT_EQ(status->timeout, 1234567ms);
    EXPECT_EQ(status->owner, "IiIi");
    EXPECT_EQ(status->token, lock.fencing_token());
    EXPECT_EQ(lock.release(), mcl::Release::released);
  }
  std::setlocale(LC_ALL, "C");
}

}  // namespace
