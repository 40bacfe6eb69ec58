// A lock's record as a log: what waiters write to go on waiting, and whom they take out. Some words
// are written here by hand, as a client that has died since, or whose word comes late, left them.
#include <gtest/gtest.h>

#include <memory>
#include <regex>
#include <string>
#include <thread>

#include "memcachedlock/memcachedlock.hpp"
#include "support/between_processes.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"
#include "support/queued.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

class Log : public testing::Test {
 protected:
  void put(const std::string& value) const {
    (void)server.ask("set memcachedlock:key 0 0 " + std::to_string(value.size()) + "\r\n" + value +
                     "\r\n");
  }
  void append(const std::string& words) const {
    (void)server.ask("append memcachedlock:key 0 0 " + std::to_string(words.size()) + "\r\n" +
                     words + "\r\n");
  }
  [[nodiscard]] std::string record() const { return server.get("memcachedlock:key"); }
  [[nodiscard]] std::string token_of(const mcl::Lock& lock) const {
    EXPECT_TRUE(lock.owns_lock());
    return mcl::inspect(client, "key")->holders.at(0).token;
  }
  /// The server's time, in so many seconds.
  [[nodiscard]] std::string time_in(long seconds) const {
    return std::to_string(server.counted({"time"}) + seconds);
  }
  static std::string entry(const std::string& token, const std::string& end,
                           const std::string& lease = "1000") {
    return token + ":x:" + lease + ":" + end + ":0:1:-@elsewhere:1:1";
  }
  /// A number out of the record; 0 if it does not match.
  [[nodiscard]] long number(const std::string& form) const {
    std::smatch match;
    const std::string text = record();
    return std::regex_search(text, match, std::regex(form)) ? std::stol(match[1]) : 0;
  }
  LocalServer server;
  const std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  const mcl::MemcachedClient client{server.address(), {.observer = recorder}};
  const mcl::MemcachedClient other{server.address()};
};

// Promise: the queue does not go with the item while somebody waits, though the holder, which
// expected none, made it for its own lease.
TEST_F(Log, AWaiterPutsTheExpiryOff) {
  mcl::Lock holder(other, "key", {.timeout = 5s});
  holder.lock();
  const long before = number("^mcl2 ([0-9]+) ");
  std::jthread waiter([&] { lock_once(mcl::Lock(client, "key", {.timeout = 1h, .fair = true})); });
  EXPECT_TRUE(eventually([&] { return number("^mcl2 ([0-9]+) ") > before + 3'600; }));
  EXPECT_EQ(holder.release(), mcl::Release::released);
}

// Promise: a waiter says that it still waits, before others take it for dead.
TEST_F(Log, AWaiterIsNotTakenForDead) {
  mcl::Lock holder(other, "key", {.timeout = 1h});
  holder.lock();
  std::jthread waiter([&] { lock_once(mcl::Lock(client, "key", {.timeout = 1s, .fair = true})); });
  EXPECT_TRUE(eventually([&] { return queued(server) == 1; }));
  std::jthread behind([&] { lock_once(mcl::Lock(other, "key", {.timeout = 1s, .fair = true})); });
  // It has renewed its wait thrice, and so has the one behind it: none was taken out.
  const std::string token = mcl::inspect(client, "key")->waiters.at(0).token;
  const auto renewed = [&] {
    const std::string text = record();
    if (text.find(token + ":x:1000:") == std::string::npos) return 99;  // it queued anew
    int words = 0;
    for (auto at = text.find("=" + token); at != std::string::npos;
         at = text.find("=" + token, at + 1)) {
      ++words;
    }
    return words + static_cast<int>(number(token + ":x:1000:[0-9]+:([0-9]+):"));
  };
  EXPECT_TRUE(eventually([&] { return renewed() >= 3; }));
  EXPECT_LT(renewed(), 99);
  EXPECT_EQ(holder.release(), mcl::Release::released);
}

// Fault: a waiter has died. Promise: those behind it take it out at its END, before its turn.
TEST_F(Log, ADeadWaiterGoesBeforeItsTurn) {
  mcl::Lock holder(other, "key", {.timeout = 1h});
  holder.lock();
  append(" ?" + entry("dead.1", time_in(2)) + " ?" + entry("alive.1", time_in(3'600)));
  std::jthread waiter(
      [&] { EXPECT_TRUE(mcl::Lock(client, "key", {.fair = true}).try_lock_for(60s)); });
  EXPECT_TRUE(
      eventually([&] { return mcl::inspect(client, "key")->waiters.at(0).token == "alive.1"; }));
  append(" -alive.1");
  EXPECT_EQ(holder.release(), mcl::Release::released);
}

// Fault: a waiter has died before it noticed that it holds. Promise: it is taken out after its
// grace, also by those who only try, each time with another object.
TEST_F(Log, AHolderThatNeverConfirmedIsTakenOut) {
  for (const bool waits : {true, false}) {
    const std::string dead = waits ? "dead.1" : "dead.2";
    put("mcl2 0 *" + entry(dead, time_in(3'600), "300"));
    const auto began = std::chrono::steady_clock::now();
    if (waits) {
      EXPECT_TRUE(mcl::Lock(client, "key").try_lock_for(60s));
    } else {
      EXPECT_TRUE(eventually([&] { return mcl::Lock(client, "key").try_lock(); }));
    }
    EXPECT_GE(std::chrono::steady_clock::now() - began, 300ms);
  }
}

// Fault: the word of a renewal comes late, behind a later one. Promise: the lease stays as it is.
TEST_F(Log, ALateRenewalShortensNoLease) {
  mcl::Lock holder(other, "key", {.timeout = 2s, .renew = true});
  holder.lock();
  append(" =" + token_of(holder) + ":" + time_in(-5));
  const auto until = std::chrono::steady_clock::now() + 1s;
  while (std::chrono::steady_clock::now() < until) {
    ASSERT_FALSE(mcl::Lock(client, "key").try_lock());
  }
  EXPECT_TRUE(holder.owns_lock());
  EXPECT_EQ(holder.release(), mcl::Release::released);
}

// Fault: a removal is of an earlier look. Promise: it takes nobody out who has renewed since.
TEST_F(Log, ALateRemovalTakesNobodyOut) {
  mcl::Lock holder(other, "key");
  holder.lock();
  const std::string token = token_of(holder);
  EXPECT_TRUE(holder.extend());
  append(" !" + token + ":0");
  EXPECT_TRUE(holder.extend());
  append(" !" + token + ":1");
  EXPECT_TRUE(holder.extend());
  EXPECT_EQ(holder.release(), mcl::Release::released);
}

// Promise: a holder that was taken out learns it at its next request, and touches nobody's lock.
TEST_F(Log, AHolderThatWasTakenOutLearnsIt) {
  mcl::Lock holder(other, "key");
  holder.lock();
  append(" !" + token_of(holder) + ":0");
  mcl::Lock next(client, "key");
  EXPECT_TRUE(next.try_lock());
  EXPECT_FALSE(holder.extend());
  EXPECT_EQ(holder.release(), mcl::Release::lost);
  EXPECT_TRUE(next.extend());
  EXPECT_EQ(next.release(), mcl::Release::released);
  EXPECT_EQ(record(), "");
}

// Promise: the token rises from thread to thread, also where the next takes over the entry of one
// that has renewed its lease, and written its token, before others came.
TEST_F(Log, TokensRiseThoughAnEntryIsTakenOver) {
  for (const bool renews : {false, true}) {
    mcl::Lock holder(client, "key", {.timeout = 1h});
    holder.lock();
    if (renews) {
      EXPECT_TRUE(holder.extend());
    }
    const auto token = holder.fencing_token();
    append(" ?" + entry("other.1", time_in(3'600)));
    EXPECT_TRUE(holder.extend());  // which learns of it
    std::jthread next([&] {
      mcl::Lock lock(client, "key", {.timeout = 1h});
      lock.lock();
      EXPECT_LT(token, lock.fencing_token());
      const auto shown = mcl::inspect(client, "key")->token;
      EXPECT_TRUE(!shown || shown == lock.fencing_token());
      EXPECT_TRUE(lock.extend());
      append(" -other.1");
      EXPECT_EQ(lock.release(), mcl::Release::released);
    });
    EXPECT_TRUE(
        eventually([&] { return recorder->count(mcl::EventKind::contended) == 1 + renews; }));
    EXPECT_EQ(holder.release(), mcl::Release::released);
  }
}

// Fault: the last holder died between its word and the removal of the item.
TEST_F(Log, ARecordWithoutEntriesIsFree) {
  put("mcl2 0 ?" + entry("a.1", "0") + " -a.1");
  EXPECT_FALSE(mcl::inspect(client, "key"));
  mcl::Lock lock(client, "key");
  EXPECT_TRUE(lock.try_lock());
  EXPECT_EQ(lock.release(), mcl::Release::released);
  EXPECT_EQ(record(), "");
}

// Promise: a record that only grows by words is written anew.
TEST_F(Log, ALongRecordIsWrittenAnew) {
  mcl::Lock holder(other, "key", {.fair = true});
  holder.lock();
  std::string words;
  for (int i = 0; i < 200; ++i) words += " -nobody." + std::to_string(i);
  append(words);
  std::jthread waiter([&] { lock_once(mcl::Lock(client, "key", {.fair = true})); });
  EXPECT_TRUE(eventually([&] { return record().find(" -nobody.") == std::string::npos; }));
  EXPECT_EQ(queued(server), 1);
  EXPECT_EQ(holder.release(), mcl::Release::released);
  waiter.join();
  EXPECT_EQ(record(), "");
}

// Fault: the item is too large for another word. Promise: a release takes its entry out all the
// same.
TEST_F(Log, AnItemThatCannotGrowIsLeft) {
  mcl::Lock holder(other, "key");
  holder.lock();
  int number = 0;
  const auto grow = [&](std::size_t length) {
    const std::string word =
        " ?" + entry("w" + std::to_string(++number) + "." + std::string(length, '1'), "0");
    return server.ask("append memcachedlock:key 0 0 " + std::to_string(word.size()) + "\r\n" +
                      word + "\r\n") == "STORED\r\n";
  };
  for (std::size_t length = 1U << 18U; length > 0; length /= 2) {
    while (grow(length)) {
    }
  }
  EXPECT_EQ(holder.release(), mcl::Release::released);
  const auto status = mcl::inspect(client, "key");
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->holders.at(0).token.starts_with("w1."));
}

TEST_F(Log, OfAnotherVersionIsSaidToBeOne) {
  put("mcl1 held 30000 0123456789abcde 0 - 1795723986/t.1@host:2:3");
  try {
    (void)mcl::Lock(client, "key").try_lock();
    FAIL();
  } catch (const mcl::ServerError& error) {
    EXPECT_NE(std::string(error.what()).find("another version"), std::string::npos) << error.what();
  }
  EXPECT_THROW((void)mcl::inspect(client, "key"), mcl::ServerError);
}

}  // namespace
