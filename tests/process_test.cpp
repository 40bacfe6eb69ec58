// Processes that write one file through with_lock; a server that asks for a login.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "local_server.hpp"
#include "memcachedlock/memcachedlock.hpp"
#include "temporary_directory.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

TEST(Processes, EightTimesTwoHundredWritesOfOneFileLoseNone) {
  constexpr int processes = 8;
  constexpr int rounds = 200;
  const LocalServer server;
  std::string file = "/tmp/memcachedlock-counter-XXXXXX";
  close(mkstemp(file.data()));
  std::ofstream(file) << 0;

  std::vector<pid_t> children;
  for (int i = 0; i < processes; ++i) {
    children.push_back(in_child([&] {
      const mcl::MemcachedClient client(server.address());
      const auto key = [](const std::string& path) { return path; };
      const auto increment = mcl::with_lock(
          client, key,
          [](const std::string& path) {
            int value = -1;
            std::ifstream(path) >> value;
            std::ofstream(path) << value + 1;
          },
          30s, 5ms);
      for (int round = 0; round < rounds; ++round) increment(file);
      return true;
    }));
  }
  for (const pid_t child : children) EXPECT_TRUE(ended_well(child));
  int value = -1;
  std::ifstream(file) >> value;
  EXPECT_EQ(value, processes * rounds);
  unlink(file.c_str());
}

/// A memcached that asks for a login, with a password database of its own.
class Sasl : public testing::Test {
 protected:
  Sasl() {
    const std::string database = directory.path() + "/sasldb";
    std::ofstream(directory.path() + "/memcached.conf")
        << "mech_list: plain\npwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: "
        << database << "\n";
    const std::string command =
        "echo secret | saslpasswd2 -p -c -a memcached -u local -f " + database + " locker";
    if (std::system(command.c_str()) != 0) throw std::runtime_error("saslpasswd2 failed");
    setenv("SASL_CONF_PATH", directory.path().c_str(), 1);
    server.emplace(std::vector<std::string>{"-S"});
    unsetenv("SASL_CONF_PATH");
    options.protocol = mcl::Protocol::binary;
    options.sasl_user = "locker@local";
    options.sasl_password = "secret";
  }
  const TemporaryDirectory directory;
  std::optional<LocalServer> server;
  mcl::ClientOptions options;
};

TEST_F(Sasl, TheRightPasswordLocks) {
  mcl::Lock lock(mcl::MemcachedClient(server->address(), options), "key");
  lock.lock();
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

TEST_F(Sasl, AWrongPasswordIsAClearError) {
  options.sasl_password = "wrong";
  mcl::Lock lock(mcl::MemcachedClient(server->address(), options), "key");
  try {
    lock.lock();
    FAIL();
  } catch (const mcl::ServerError& error) {
    EXPECT_NE(std::string(error.what()).find("sasl_password"), std::string::npos) << error.what();
  }
}

TEST_F(Sasl, NoPasswordIsAnError) {
  options.sasl_user.clear();
  mcl::Lock lock(mcl::MemcachedClient(server->address(), options), "key");
  EXPECT_THROW(lock.lock(), mcl::Error);
}

}  // namespace
