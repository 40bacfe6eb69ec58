// Processes that write one file through with_lock; a server that asks for a login.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"
#include "support/sasl_server.hpp"

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

class Sasl : public testing::Test {
 protected:
  Sasl() {
    options.protocol = mcl::Protocol::binary;
    options.sasl_user = SaslServer::user;
    options.sasl_password = SaslServer::password;
  }
  const SaslServer server;
  mcl::ClientOptions options;
};

TEST_F(Sasl, TheRightPasswordLocks) {
  mcl::Lock lock(mcl::MemcachedClient(server.address(), options), "key");
  lock.lock();
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

TEST_F(Sasl, AWrongPasswordIsAClearError) {
  options.sasl_password = "wrong";
  mcl::Lock lock(mcl::MemcachedClient(server.address(), options), "key");
  try {
    lock.lock();
    FAIL();
  } catch (const mcl::ServerError& error) {
    EXPECT_NE(std::string(error.what()).find("sasl_password"), std::string::npos) << error.what();
  }
}

TEST_F(Sasl, NoPasswordIsAnError) {
  options.sasl_user.clear();
  mcl::Lock lock(mcl::MemcachedClient(server.address(), options), "key");
  EXPECT_THROW(lock.lock(), mcl::Error);
}

}  // namespace
