// Where host names lead: to one server, to several, or to another one later. Each test has a view
// of /etc/hosts, and a network with nothing but a loopback, of its own. Only root can make them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"
#include "support/message_of.hpp"
#include "support/recorder.hpp"
#include "support/temporary_directory.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

constexpr int port = 11211;  // of a network of the test's own
constexpr int not_permitted = 77;
const std::string name = "locks.test";

/// What the name leads to.
class Names {
 public:
  Names() : file_(directory_.path() + "/hosts") {
    lead_to({"127.0.0.1"});
    if (unshare(CLONE_NEWNS | CLONE_NEWNET) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount(file_.c_str(), "/etc/hosts", nullptr, MS_BIND, nullptr) != 0 ||
        std::system("ip link set lo up && ip addr add 10.77.0.1/32 dev lo && "
                    "ip addr add 10.77.0.2/32 dev lo") != 0) {
      _exit(not_permitted);
    }
  }
  void lead_to(const std::vector<std::string>& addresses) const {
    std::ofstream hosts(file_);
    for (const std::string& address : addresses) hosts << address << ' ' << name << '\n';
  }

 private:
  TemporaryDirectory directory_;
  std::string file_;
};

/// Runs it in a process whose names and network are its own; it says what is wrong.
void with_names(const std::function<std::string(const Names&)>& body) {
  const pid_t child = fork();
  if (child == 0) {
    std::string wrong;
    {
      const Names names;
      try {
        wrong = body(names);
      } catch (const std::exception& error) {
        wrong = error.what();
      }
    }
    if (!wrong.empty()) std::fprintf(stderr, "%s\n", wrong.c_str());
    _exit(wrong.empty() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == not_permitted) {
    GTEST_SKIP() << "a mount and a network of its own are not permitted here";
  }
  EXPECT_EQ(status, 0);
}

/// Of some keys, each by a client of its own: "told" or "let in", or the error.
std::string outcome_of_all() {
  std::string outcome;
  for (int i = 0; i < 20; ++i) {
    std::string one = "let in";
    try {
      mcl::Lock lock(mcl::MemcachedClient(name), "key" + std::to_string(i));
      if (!lock.try_lock()) one = "held";
    } catch (const mcl::ServersDiffer& error) {
      one = std::string(error.what()).find(" leads to two servers") != std::string::npos
                ? "told"
                : error.what();
    } catch (const mcl::Error& error) {
      one = error.what();
    }
    if (outcome.empty()) outcome = one;
    if (one != outcome) return outcome + ", then " + one;
  }
  return outcome;
}

TEST(Names, ThatLeadToTwoServersAreTold) {
  with_names([](const Names& names) -> std::string {
    const LocalServer first("127.0.0.2", port);
    const LocalServer second("127.0.0.3", port);
    names.lead_to({"127.0.0.2", "127.0.0.3"});
    const std::string outcome = outcome_of_all();
    return outcome == "told" ? "" : outcome;
  });
}

TEST(Names, ThatLeadToOneServerByTwoWaysAreFine) {
  with_names([](const Names& names) -> std::string {
    const LocalServer server("127.0.0.2,127.0.0.3", port);
    names.lead_to({"127.0.0.2", "127.0.0.3"});
    const std::string outcome = outcome_of_all();
    return outcome == "let in" ? "" : outcome;
  });
}

TEST(Names, ThatHaveAnAddressWhereNobodyListensAreFine) {
  with_names([](const Names& names) -> std::string {
    const LocalServer server("127.0.0.3", port);
    names.lead_to({"127.0.0.2", "127.0.0.3"});
    const std::string outcome = outcome_of_all();
    return outcome == "let in" ? "" : outcome;
  });
}

// Fault: a name leads to another server, while the one before lives, at which others may lock.
TEST(Names, ThatLeadToAnotherServerWhileTheOldOneLivesAreTold) {
  with_names([](const Names& names) -> std::string {
    const LocalServer first("127.0.0.2", port);
    const LocalServer second("127.0.0.3", port);
    names.lead_to({"127.0.0.2"});
    const mcl::MemcachedClient client(name, {.restart_window = 0ms});
    const mcl::LockOptions brief{.timeout = 100ms};
    if (!mcl::Lock(client, "before", brief).try_lock()) return "not let in before";
    names.lead_to({"127.0.0.3"});
    // Its connections are closed, as a firewall may do, and so it connects anew.
    if (!ended_well(in_child([&] {
          return message_of<mcl::ServersDiffer>([&] {
                   mcl::Lock lock(client, "key", brief);
                   (void)eventually([&] { return lock.try_lock(); });
                 }).find("leads to two servers") != std::string::npos;
        }))) {
      return "a child that connects anew was not told";
    }
    return "";
  });
}

// Fault: a server moves to another address under the same name, with all that it keeps. Promise:
// who waits and who renews finds it there within a lease.
TEST(Names, MayLeadToAnotherAddressOfTheServer) {
  with_names([](const Names& names) -> std::string {
    const LocalServer server("10.77.0.2,10.77.0.1", port);
    names.lead_to({"10.77.0.1"});
    const auto recorder = std::make_shared<Recorder>();
    const mcl::MemcachedClient client(
        name, {.connect_timeout = 200ms, .operation_timeout = 200ms, .observer = recorder});
    mcl::Lock renewed(client, "renewed", {.timeout = 4s, .renew = true});
    renewed.lock();
    names.lead_to({"10.77.0.2"});
    if (std::system("ip addr del 10.77.0.1/32 dev lo") != 0) return "the address stays";
    mcl::Lock lock(client, "key", {.timeout = 4s});
    if (!eventually([&] {
          try {
            return lock.try_lock();
          } catch (const mcl::Unavailable&) {
            return false;
          }
        })) {
      return "no new lock";
    }
    const int extended = recorder->count(mcl::EventKind::extended);
    if (!eventually([&] { return recorder->count(mcl::EventKind::extended) > extended + 1; })) {
      return "not renewed";
    }
    if (!renewed.owns_lock()) return "lost";
    return renewed.release() == mcl::Release::released ? "" : "not released";
  });
}

// Fault: a server is started anew at another address under the same name, as a container is.
TEST(Names, MayLeadToANewServerWhenTheOldOneIsGone) {
  with_names([](const Names& names) -> std::string {
    std::optional<LocalServer> first(std::in_place, "10.77.0.1", port);
    names.lead_to({"10.77.0.1"});
    const mcl::MemcachedClient client(
        name, {.connect_timeout = 200ms, .operation_timeout = 200ms, .restart_window = 100ms});
    mcl::Lock held(client, "key", {.timeout = 1s, .renew = true});
    held.lock();
    const auto before = held.fencing_token();
    first.reset();
    names.lead_to({"10.77.0.2"});
    const LocalServer second("10.77.0.2", port);
    if (!eventually([&] { return held.lost().stop_requested(); })) return "not told of the loss";
    mcl::Lock next(client, "key", {.timeout = 1s});
    if (!eventually([&] {
          try {
            return next.try_lock();
          } catch (const mcl::Unavailable&) {
            return false;
          }
        })) {
      return "never let in again";
    }
    return next.fencing_token() > before ? "" : "the token fell";
  });
}

}  // namespace
