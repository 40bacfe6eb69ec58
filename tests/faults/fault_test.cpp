// Fault: the connection to memcached breaks, stalls or lies at any byte of a request or reply.
// Promise: one holder within a lease, an end within the limit, a clear outcome, no reply read by
// another command, nothing leaked, and the lock is to be had again once lease and TTL are over.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <set>
#include <thread>

#include "memcachedlock/memcachedlock.hpp"
#include "support/fault_proxy.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"
#include "support/recorder.hpp"
#include "support/reserved_port.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;
using Fault = FaultProxy::Fault;

namespace {

constexpr auto lease = 4s;

/// One operation of a lock: what is made ready on a good network, and what is done on a bad one.
struct Operation {
  const char* name;
  bool held_before;
  mcl::OwnerId owner;
  std::function<void(mcl::RLock& lock)> prepare;
  /// Whether it was answered.
  std::function<bool(mcl::RLock& lock)> run;
};

void nothing(mcl::RLock&) {}
bool acquire(mcl::RLock& lock) {
  lock.lock();
  return true;
}

const Operation& operation(int number) {
  static const std::vector<Operation> all{
      {"Acquire", false, mcl::OwnerId::unique(), nothing, acquire},
      {"Extend", true, mcl::OwnerId::unique(), [](mcl::RLock& lock) { lock.lock(); },
       [](mcl::RLock& lock) {
         const bool extended = lock.extend();
         EXPECT_EQ(extended, lock.owns_lock());
         return true;
       }},
      {"Release", true, mcl::OwnerId::unique(), [](mcl::RLock& lock) { lock.lock(); },
       [](mcl::RLock& lock) {
         const auto end = std::chrono::steady_clock::now() + lock.remaining();
         const auto outcome = lock.release();
         EXPECT_TRUE(outcome != mcl::Release::lost || std::chrono::steady_clock::now() >= end);
         return outcome != mcl::Release::unavailable;
       }},
      {"AcquireAgain", false, mcl::OwnerId::unique(),
       [](mcl::RLock& lock) {
         do {  // again where the machine was slower than the limit
           lock.lock();
         } while (lock.release() != mcl::Release::released);
       },
       acquire},
      // Another client of the owner is inside by another address, as another process would be.
      {"Join", false, mcl::OwnerId::named("several processes"), nothing, acquire},
  };
  return all[static_cast<std::size_t>(number)];
}

/// What somebody with a good network sees of the key.
bool is_free(const mcl::MemcachedClient& direct, const std::string& key) {
  return mcl::Lock(direct, key, {.timeout = lease}).try_lock();
}

std::set<std::string> entries(const char* directory) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    std::error_code gone;  // the descriptor of the iteration itself
    const auto target = std::filesystem::read_symlink(entry, gone);
    names.insert(entry.path().filename().string() + " " + target.string());
  }
  return names;
}

/// Over the operations, both protocols, and the faults that strike at a byte.
class FaultAtEveryByte : public testing::TestWithParam<std::tuple<int, mcl::Protocol, Fault>> {
 protected:
  FaultAtEveryByte() {
    options.protocol = std::get<1>(GetParam());
    options.operation_timeout = 15ms;  // what is held is waited for so long
  }
  /// A request of another key, through the same connections: must find its own answer.
  void expect_no_mixed_answers(const mcl::MemcachedClient& client) {
    mcl::Lock control(client, "control", {.timeout = lease});
    for (bool done = false; !done;) {
      try {
        control.lock();
        EXPECT_LT(last_control_token, control.fencing_token());
        last_control_token = control.fencing_token();
        // Where the lease ran out, or the release was not answered, the next round tells.
        const mcl::Release outcome = control.release();
        EXPECT_TRUE(outcome == mcl::Release::released || outcome == mcl::Release::unavailable ||
                    !control.owns_lock());
        done = true;
      } catch (const mcl::Unavailable&) {  // the machine was slower than the limit
      }
    }
  }
  LocalServer server;
  mcl::ClientOptions options;
  mcl::FencingToken last_control_token;
};

TEST_P(FaultAtEveryByte, KeepsThePromises) {
  const Operation& what = operation(std::get<0>(GetParam()));
  const bool join = what.owner.is_named();
  const mcl::MemcachedClient direct(server.address());
  std::vector<std::string> keys;
  std::size_t after = 0;
  for (bool more = true; more;) {
    SCOPED_TRACE("after " + std::to_string(after) + " bytes");
    const std::string key = "key" + std::to_string(keys.size());
    keys.push_back(key);
    // Of their own, so that nobody else's bytes meet the fault.
    FaultProxy proxy(server.port());
    const mcl::MemcachedClient client(proxy.address(), options);
    expect_no_mixed_answers(client);
    mcl::RLock inside(direct, key, {.timeout = lease, .owner = what.owner});
    if (join) inside.lock();
    mcl::RLock lock(client, key, {.timeout = lease, .owner = what.owner});
    for (bool ready = false; !ready;) {
      try {
        what.prepare(lock);
        ready = true;
      } catch (const mcl::Unavailable&) {
      }
    }
    proxy.arm({.fault = std::get<2>(GetParam()), .after = after});
    bool answered = false;
    try {
      answered = what.run(lock);
    } catch (const mcl::Unavailable& error) {
      EXPECT_EQ(error.key(), key);
      EXPECT_EQ(error.server(), proxy.address());
    }
    const bool struck = proxy.struck();
    proxy.heal();

    EXPECT_TRUE(answered || what.held_before || !lock.owns_lock());
    if (lock.owns_lock()) {
      const bool free = is_free(direct, key);
      EXPECT_FALSE(free && lock.owns_lock()) << "two holders";
      try {
        const auto outcome = lock.release();
        EXPECT_NE(outcome, mcl::Release::lost);
      } catch (const std::system_error& error) {
        ADD_FAILURE() << error.what();
      }
    }
    expect_no_mixed_answers(client);
    more = struck || !answered;
    if (struck) ++after;  // or the machine was slower than the limit: the same byte again
  }
  EXPECT_GE(after, std::string("STORED\r\n").size()) << "the fault did not strike";
  for (const std::string& key : keys) {
    EXPECT_TRUE(eventually([&] { return is_free(direct, key); })) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(, FaultAtEveryByte,
                         testing::Combine(testing::Range(0, 5),
                                          testing::Values(mcl::Protocol::text,
                                                          mcl::Protocol::binary),
                                          testing::Values(Fault::cut_request, Fault::cut_reply,
                                                          Fault::hold_request, Fault::hold_reply)),
                         [](const auto& setting) {
                           const Fault fault = std::get<2>(setting.param);
                           const std::string where = fault == Fault::cut_request    ? "CutRequest"
                                                     : fault == Fault::cut_reply    ? "CutReply"
                                                     : fault == Fault::hold_request ? "HoldRequest"
                                                                                    : "HoldReply";
                           return operation(std::get<0>(setting.param)).name + where +
                                  (std::get<1>(setting.param) == mcl::Protocol::text ? "Text"
                                                                                     : "Binary");
                         });

class Faults : public testing::TestWithParam<mcl::Protocol> {
 protected:
  Faults() {
    options.protocol = GetParam();
    options.operation_timeout = 100ms;
    options.observer = recorder;
  }
  [[nodiscard]] mcl::MemcachedClient client() const {
    return mcl::MemcachedClient(proxy.address(), options);
  }
  LocalServer server;
  FaultProxy proxy{server.port()};
  mcl::ClientOptions options;
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
};

// Fault: the reply comes one byte at a time, each well within the limit of a wait.
// Promise: the request ends at its limit all the same.
TEST_P(Faults, AReplyThatDripsIsCutOff) {
  const auto shared = client();
  mcl::Lock other(shared, "other");
  other.lock();
  proxy.arm({.fault = Fault::drip_reply, .pause = 30ms});  // some seconds in all
  EXPECT_THROW(lock_once(mcl::Lock(shared, "key")), mcl::Unavailable);
  EXPECT_THROW((void)other.extend(), mcl::Unavailable);
  EXPECT_TRUE(other.owns_lock());
  EXPECT_EQ(other.release(), mcl::Release::unavailable);
}

// Fault: the same, to the background thread.
// Promise: its holder is notified of the loss in time, and leases on other servers are renewed.
TEST_P(Faults, ARenewalThatDripsHarmsNoOtherLease) {
  const LocalServer healthy;
  auto healthy_options = options;
  const auto healthy_recorder = std::make_shared<Recorder>();
  healthy_options.observer = healthy_recorder;
  healthy_options.operation_timeout = 1s;
  mcl::Lock good(mcl::MemcachedClient(healthy.address(), healthy_options), "key",
                 {.timeout = 3s, .renew = true});
  mcl::Lock bad(client(), "key", {.timeout = 2s, .renew = true});
  good.lock();
  bad.lock();
  const auto lost = bad.lost();
  proxy.arm({.fault = Fault::drip_reply, .pause = 30ms});
  EXPECT_TRUE(eventually([&] { return lost.stop_requested(); }));
  EXPECT_FALSE(bad.owns_lock());
  const int renewed = healthy_recorder->count(mcl::EventKind::extended);
  EXPECT_TRUE(
      eventually([&] { return healthy_recorder->count(mcl::EventKind::extended) >= renewed + 2; }));
  EXPECT_EQ(good.release(), mcl::Release::released);
}

// Fault: connections refused, never answered, not read, or answered with garbage.
// Promise: Unavailable or ServerError, with key and server, and the next attempt works when it is
// over, with the same client.
TEST_P(Faults, TroubleEndsWithAClearErrorAndIsForgotten) {
  const std::vector<FaultProxy::Plan> plans{
      {.fault = Fault::refuse},
      {.fault = Fault::silent},
      {.fault = Fault::stop_reading},
      {.fault = Fault::garbage, .text = "hello\r\n"},
      {.fault = Fault::garbage, .text = std::string(100'000, 'x')},
      {.fault = Fault::garbage, .text = std::string(4096, '\0')},
      {.fault = Fault::garbage, .text = "VALUE k 0 99999999999 1\r\n"},
      {.fault = Fault::garbage, .text = "VALUE \r\nEND\r\nEND\r\nSTORED\r\n"},
      {.fault = Fault::garbage, .text = "SERVER_ERROR out of luck\r\n"},
      {.fault = Fault::garbage, .text = "ERROR\r\n"},
  };
  const auto shared = client();
  for (std::size_t i = 0; i < plans.size(); ++i) {
    SCOPED_TRACE(i);
    const std::string key = "key" + std::to_string(i);
    proxy.arm(plans[i]);
    const auto fresh = client();
    try {
      lock_once(mcl::Lock(fresh, key));
      ADD_FAILURE() << "locked";
    } catch (const mcl::Error& error) {
      EXPECT_EQ(error.key(), key);
      EXPECT_EQ(error.server(), proxy.address());
    }
    proxy.heal();
    EXPECT_TRUE(eventually([&] {
      try {
        return is_free(fresh, key) && is_free(shared, key);
      } catch (const mcl::Unavailable&) {
        return false;
      }
    }));
  }
}

// Fault: a reply that is late, but within the limit. Promise: no harm.
TEST_P(Faults, ALateReplyIsAReply) {
  options.operation_timeout = 30s;
  proxy.arm({.fault = Fault::delay_reply, .pause = 50ms});
  mcl::Lock lock(client(), "key");
  lock.lock();
  EXPECT_TRUE(lock.extend());
  EXPECT_EQ(lock.release(), mcl::Release::released);
}

// Fault: the acquire is carried out, and its reply lost with the connection.
// Promise: nothing is left behind once the network is good again.
TEST_P(Faults, AnAcquireWithoutReplyIsTakenAwayAgain) {
  const auto shared = client();
  { lock_once(mcl::Lock(shared, "other")); }  // so that the next request is the acquire itself
  proxy.arm({.fault = Fault::hold_reply});
  EXPECT_THROW(lock_once(mcl::Lock(shared, "key", {.timeout = 1h})), mcl::Unavailable);
  ASSERT_FALSE(server.get("memcachedlock:key").empty()) << "it had not landed";
  proxy.heal();
  EXPECT_TRUE(eventually([&] { return server.get("memcachedlock:key").empty(); }));
}

// Fault: many broken connections. Promise: neither descriptors nor threads are leaked.
// The fixture's proxy is not used: it keeps descriptors of its own for each connection to its
// port.
class Leaks : public testing::TestWithParam<mcl::Protocol> {};

TEST_P(Leaks, NothingIsLeaked) {
  const LocalServer server;
  const mcl::ClientOptions options{.operation_timeout = 100ms, .protocol = GetParam()};
  const auto threads = [] { return entries("/proc/self/task"); };
  const auto descriptors = [] { return entries("/proc/self/fd"); };
  const int port = reserve_port();
  const auto descriptors_before = descriptors();
  {
    const mcl::ClientOptions patient{.operation_timeout = 30s, .protocol = GetParam()};
    const mcl::MemcachedClient client(server.address(), patient);
    lock_once(mcl::Lock(client, "warm", {.timeout = 1h, .renew = true}));  // due in 20 min
  }
  const auto threads_before = threads();
  {
    FaultProxy proxy(server.port(), port);
    const mcl::MemcachedClient broken(proxy.address(), options);
    for (const Fault fault : {Fault::cut_reply, Fault::hold_reply, Fault::refuse, Fault::garbage}) {
      for (int round = 0; round < 5; ++round) {
        proxy.arm({.fault = fault, .after = 10, .text = "x\r\n"});
        try {
          mcl::Lock lock(broken, "key", {.timeout = 200ms, .renew = true});
          (void)lock.try_lock();
        } catch (const mcl::Error&) {
        }
      }
    }
  }
  // Those of the server that has gone end when they have had nothing to do for a while.
  EXPECT_TRUE(eventually([&] { return threads().size() <= threads_before.size(); }));
  EXPECT_TRUE(eventually([&] { return descriptors() == descriptors_before; }))
      << testing::PrintToString(descriptors()) << testing::PrintToString(descriptors_before);
}

const auto of_protocol = [](const testing::TestParamInfo<mcl::Protocol>& setting) {
  return setting.param == mcl::Protocol::text ? "Text" : "Binary";
};
const auto protocols = testing::Values(mcl::Protocol::text, mcl::Protocol::binary);
INSTANTIATE_TEST_SUITE_P(, Faults, protocols, of_protocol);
INSTANTIATE_TEST_SUITE_P(, Leaks, protocols, of_protocol);

}  // namespace
