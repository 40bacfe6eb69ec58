// Metrics as Prometheus itself sees them, and the rules and the dashboard that use them.
#include "memcachedlock/prometheus.hpp"

#include <gtest/gtest.h>
#include <prometheus/exposer.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"
#include "support/program.hpp"
#include "support/queued.hpp"
#include "support/reserved_port.hpp"
#include "support/temporary_directory.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;
using Json = nlohmann::json;

namespace {

struct Conflict {};

class Metrics : public testing::Test {
 protected:
  Metrics() {
    options.observer = std::make_shared<mcl::PrometheusObserver>(registry, 2);
    options.operation_timeout = 200ms;
  }
  [[nodiscard]] mcl::MemcachedClient client() const {
    return mcl::MemcachedClient(server.address(), options);
  }
  /// The value of a line of the exposition; -1 where there is none.
  [[nodiscard]] double value(const std::string& series) const {
    const std::string text = '\n' + exposition();
    const auto found = text.find('\n' + series + ' ');
    return found == std::string::npos ? -1 : std::stod(text.substr(found + series.size() + 2));
  }
  [[nodiscard]] std::string exposition() const {
    return prometheus::TextSerializer().Serialize(registry->Collect());
  }

  LocalServer server;
  std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  mcl::ClientOptions options;
};

/// One of everything that is counted.
void make_all_events(LocalServer& server, const mcl::MemcachedClient& client) {
  {
    mcl::Lock first(client, "first");  // so that the server knows a list
    ASSERT_TRUE(first.try_lock());
    const LocalServer another;
    const mcl::MemcachedClient other(server.address() + "," + another.address(), client.options());
    EXPECT_THROW((void)mcl::Lock(other, "a", {.scope = "s"}).try_lock(), mcl::ServersDiffer);
  }
  {
    mcl::Lock lock(client, "a", {.scope = "s"});
    lock.lock();
    ASSERT_TRUE(lock.extend());
    mcl::Lock other(client, "a", {.scope = "s"});
    ASSERT_FALSE(other.try_lock());
    std::stop_source stop;
    stop.request_stop();
    EXPECT_THROW(other.lock(stop.get_token()), mcl::Cancelled);
    std::thread waiter([&] {
      mcl::Lock third(client, "a", {.scope = "s"});
      third.lock();
    });
    EXPECT_TRUE(eventually([&] { return server.get("memcachedlock:s^a") != ""; }));
    lock.unlock();
    waiter.join();
  }
  int runs = 0;
  auto write = mcl::with_zlock<Conflict>(
      client, [] { return std::string("z"); },
      [&] {
        if (++runs == 1) throw Conflict();
      },
      mcl::ZLockOptions{.scope = "s"});
  write();
  {
    mcl::Lock lost(client, "b", {.scope = "s"});
    lost.lock();
    (void)server.ask("delete memcachedlock:s^b\r\n");
    EXPECT_EQ(lost.release(), mcl::Release::lost);
  }
  server.stop();
  EXPECT_THROW(lock_once(mcl::Lock(client, "a", {.scope = "s"})), mcl::Unavailable);
  write();  // unlocked
  server.start();
  mcl::Lock again(client, "a", {.scope = "s", .restart_guard = mcl::RestartGuard::off});
  again.lock();
}

/// One that waits in the record's queue is let in; it may hold before it is told.
void let_one_in(const LocalServer& server, const mcl::MemcachedClient& client) {
  mcl::RLock holder(client, "q", {.owner = mcl::OwnerId::unique()});
  holder.lock();
  const std::jthread waiter(
      [&] { lock_once(mcl::RLock(client, "q", {.owner = mcl::OwnerId::unique()})); });
  EXPECT_TRUE(eventually([&] { return queued(server, "q") == 1; }));
  holder.unlock();
}

TEST_F(Metrics, CountWhatHappens) {
  make_all_events(server, client());
  const std::string lock = R"({lock="lock",scope="s"})";
  const auto outcome = [&](const std::string& type, const std::string& name) {
    return value("memcachedlock_acquisitions_total{lock=\"" + type + "\",outcome=\"" + name +
                 "\",scope=\"s\"}");
  };
  EXPECT_EQ(outcome("lock", "acquired"), 4);
  EXPECT_EQ(outcome("lock", "timed_out"), 1);
  EXPECT_EQ(outcome("lock", "cancelled"), 1);
  EXPECT_EQ(outcome("lock", "unavailable"), 2);
  EXPECT_EQ(outcome("zlock", "acquired"), 1);
  EXPECT_EQ(outcome("zlock", "unlocked"), 1);
  EXPECT_EQ(value("memcachedlock_held" + lock), 0);
  EXPECT_EQ(value("memcachedlock_waiting" + lock), 0);
  EXPECT_EQ(value("memcachedlock_lost_total" + lock), 1);
  EXPECT_GE(value("memcachedlock_extended_total" + lock), 1);
  EXPECT_GE(value("memcachedlock_contended_total" + lock), 1);
  EXPECT_EQ(value("memcachedlock_wait_seconds_count" + lock), 4);
  EXPECT_EQ(value("memcachedlock_hold_seconds_count" + lock), 3);
  EXPECT_EQ(value(R"(memcachedlock_conflicts_total{lock="zlock",scope="s"})"), 1);
  EXPECT_EQ(value(R"(memcachedlock_retries_total{lock="zlock",scope="s"})"), 1);
  const std::string at = "{server=\"" + server.address() + "\"}";
  EXPECT_GE(value("memcachedlock_unavailable_total" + at), 2);
  EXPECT_EQ(value("memcachedlock_restarts_total" + at), 1);
  EXPECT_GE(value("memcachedlock_round_trip_seconds_count" + at), 10);
  EXPECT_EQ(exposition().find("\"a\""), std::string::npos);  // never the key
}

TEST_F(Metrics, GaugesShowWhatIsHeldAndWaitedForNow) {
  const auto gauge = [&](const std::string& name) {
    return value("memcachedlock_" + name + R"({lock="lock",scope=""})");
  };
  mcl::Lock lock(client(), "a");
  lock.lock();
  EXPECT_EQ(gauge("held"), 1);
  std::thread waiter([&] {
    mcl::Lock other(client(), "a");
    other.lock();
    // A holder that hands over reports it when the next is at work already.
    EXPECT_TRUE(eventually([&] { return gauge("held") == 1; }));
    EXPECT_EQ(gauge("waiting"), 0);
  });
  EXPECT_TRUE(eventually([&] { return gauge("waiting") == 1; }));
  lock.unlock();
  waiter.join();
  EXPECT_EQ(gauge("held"), 0);
}

TEST_F(Metrics, AReleaseThatIsNotAnsweredEndsTheHoldingToo) {
  mcl::Lock lock(client(), "a");
  lock.lock();
  server.pause();
  EXPECT_EQ(lock.release(), mcl::Release::unavailable);
  server.resume();
  EXPECT_EQ(value(R"(memcachedlock_held{lock="lock",scope=""})"), 0);
}

TEST_F(Metrics, ScopesAreBounded) {
  for (const std::string scope : {"one", "two", "three", "four", "one"}) {
    mcl::Lock lock(client(), "a", {.scope = scope});
    lock.lock();
  }
  const auto acquired = [&](const std::string& scope) {
    return value(R"(memcachedlock_acquisitions_total{lock="lock",outcome="acquired",scope=")" +
                 scope + "\"}");
  };
  EXPECT_EQ(acquired("one"), 2);
  EXPECT_EQ(acquired("two"), 1);
  EXPECT_EQ(acquired("other"), 2);
  EXPECT_EQ(acquired("three"), -1);
}

TEST_F(Metrics, PrometheusScrapesThemAndTheDashboardAsksForNoOthers) {
  make_all_events(server, client());
  EXPECT_TRUE(eventually([&] {
    let_one_in(server, client());
    return exposition().find("memcachedlock_grants_total{") != std::string::npos;
  }));

  prometheus::Exposer exposer("127.0.0.1:0");
  exposer.RegisterCollectable(registry);
  const TemporaryDirectory directory;
  std::ofstream(directory.path() + "/prometheus.yml")
      << "global: {scrape_interval: 100ms, evaluation_interval: 100ms}\n"
      << "rule_files: [" << MEMCACHEDLOCK_MONITORING << "/alerts.yml]\n"
      << "scrape_configs: [{job_name: test, static_configs: [{targets: ['127.0.0.1:"
      << exposer.GetListeningPorts().front() << "']}]}]\n";
  const std::string listen = "127.0.0.1:" + std::to_string(reserve_port());
  const Program prometheus({"prometheus", "--config.file=" + directory.path() + "/prometheus.yml",
                            "--storage.tsdb.path=" + directory.path() + "/data",
                            "--web.listen-address=" + listen, "--log.level=error"});
  const auto query = [&](const std::string& expression) {
    const Ended ended = Program({"curl", "-s", "-G", "--data-urlencode", "query=" + expression,
                                 "http://" + listen + "/api/v1/query"})
                            .wait();
    const Json answer = Json::parse(ended.output, nullptr, false);
    if (answer.is_discarded() || answer["status"] != "success") return Json::array();
    return answer["data"]["result"];
  };
  ASSERT_TRUE(eventually([&] { return !query("memcachedlock_lost_total{scope=\"s\"}").empty(); }));
  EXPECT_EQ(query("memcachedlock_lost_total{scope=\"s\",lock=\"lock\"}")[0]["value"][1], "1");

  // What the dashboard and the rules ask for is there.
  std::string text;
  for (const std::string name : {"dashboard.json", "alerts.yml"}) {
    std::ifstream in(std::string(MEMCACHEDLOCK_MONITORING) + '/' + name);
    text.append(std::istreambuf_iterator<char>(in), {});
  }
  std::set<std::string> asked;
  const std::regex name("memcachedlock_[a-z_]+");
  for (std::sregex_iterator at(text.begin(), text.end(), name), end; at != end; ++at) {
    asked.insert(at->str());
  }
  EXPECT_GE(asked.size(), 12U);
  for (const std::string& metric : asked) EXPECT_FALSE(query(metric).empty()) << metric;
  const Json dashboard =
      Json::parse(std::ifstream(std::string(MEMCACHEDLOCK_MONITORING) + "/dashboard.json"));
  for (const Json& panel : dashboard["panels"]) {
    for (const Json& target : panel["targets"]) {
      std::string expression = target["expr"];
      expression = std::regex_replace(expression, std::regex("\\$__rate_interval"), "1m");
      expression = std::regex_replace(expression, std::regex("\\$scope"), ".*");
      Json result;
      EXPECT_TRUE(eventually([&] { return !(result = query(expression)).empty(); })) << expression;
      const std::string legend = target.value("legendFormat", "");
      const std::regex label("\\{\\{([a-z]+)\\}\\}");
      for (std::sregex_iterator at(legend.begin(), legend.end(), label), end; at != end; ++at) {
        // An empty one is no label to Prometheus.
        EXPECT_TRUE(std::any_of(result.begin(), result.end(), [&](const Json& series) {
          return series["metric"].contains((*at)[1].str());
        })) << expression;
      }
    }
  }
}

}  // namespace
