// A lock's record as a log: what waiters write to go on waiting, and whom they take out. Some words
// are written here by hand, as a client that has died since, or whose word comes late, left them.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <regex>
#include <string>
#include <thread>

#include "memcachedlock/memcachedlock.hpp"
#include "support/between_processes.hpp"
#include "support/hand_written.hpp"
#include "support/local_server.hpp"
#include "support/lock_once.hpp"
#include "support/queued.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

class Log : public HandWritten {
 protected:
  [[nodiscard]] std::string token_of(const mcl::Lock& lock) const {
    EXPECT_TRUE(lock.owns_lock());
    return mcl::inspect(client, "key")->holders.at(0).token;
  }
  const std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  const mcl::MemcachedClient client{server.address(), {.observer = recorder}};
  const mcl::MemcachedClient other{server.address()};
};

// Promise: releases are counted while others wait, so that top can tell how fast the turns come.
// What waiters do does not count.
TEST_F(Log, CountsReleases) {
  const auto counted = [&] { return mcl::inspect(client, "key")->releases; };
  mcl::RLock first = stranger(client, 1h);
  first.lock();
  append(" ?" + entry("other.1", time_in(3'600)));
  EXPECT_FALSE(stranger(other, 1h).try_lock_for(50ms));
  EXPECT_EQ(counted(), 0U);
  EXPECT_EQ(first.release(), mcl::Release::released);
  EXPECT_EQ(counted(), 1U);
  std::jthread next([&] {
    mcl::RLock second = stranger(other, 1h);
    second.lock();
    EXPECT_TRUE(second.extend());
    append(" ?" + entry("other.2", time_in(3'600)));
    EXPECT_EQ(second.release(), mcl::Release::released);
  });
  EXPECT_TRUE(eventually([&] { return queued(server) == 1; }));
  append(" -other.1");
  next.join();
  EXPECT_EQ(counted(), 2U);
}

// Promise: the queue does not go with the item while somebody waits, though the holder, which
// expected none, made it for its own lease.
TEST_F(Log, AWaiterPutsTheExpiryOff) {
  mcl::Lock holder(other, "key", {.timeout = 5s});
  holder.lock();
  const long before = number("^mcl2 ([0-9]+) ");
  std::jthread waiter([&] { lock_once(stranger(client, 1h)); });
  EXPECT_TRUE(eventually([&] { return number("^mcl2 ([0-9]+) ") > before + 3'600; }));
  EXPECT_EQ(holder.release(), mcl::Release::released);
}

// Promise: a waiter says that it still waits, before others take it for dead.
TEST_F(Log, AWaiterIsNotTakenForDead) {
  mcl::Lock holder(other, "key", {.timeout = 1h});
  holder.lock();
  std::jthread waiter([&] { lock_once(stranger(client, 1s)); });
  EXPECT_TRUE(eventually([&] { return queued(server) == 1; }));
  std::jthread behind([&] { lock_once(stranger(other, 1s)); });
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

// Fault: a waiter has died, and nobody else comes. Promise: what the holder writes does not make
// the log longer and longer.
TEST_F(Log, AHolderKeepsTheLogShort) {
  struct Conflict {};
  mcl::ZLock<Conflict> holder(client, "key", {.timeout = 1h});
  holder.lock();
  append(" ?" + entry("dead.1", time_in(3'600)));
  std::size_t most = 0;
  for (int i = 0; i < 300; ++i) {
    EXPECT_TRUE(holder.extend());
    holder.reserve();
    EXPECT_TRUE(holder.try_lock());
    most = std::max(most, record().size());
  }
  EXPECT_LT(most, 5'000U);
  append(" -dead.1");
  EXPECT_EQ(holder.release(), mcl::Release::released);
}

// Fault: the waiters of a whole host have died. Promise: those that look once take all of them out,
// and do not fill the log with that.
TEST_F(Log, ManyDeadAreTakenOutAtOnce) {
  std::string text = "mcl2 " + time_in(7'200) + " +" + entry("held.1", time_in(3'600));
  for (int i = 0; i < 150; ++i) text += " *" + entry("dead." + std::to_string(i), time_in(-5));
  put(text);
  std::vector<std::jthread> lookers;
  for (int i = 0; i < 8; ++i) {
    lookers.emplace_back([&] {
      while (queued(server) > 0) {
        EXPECT_FALSE(stranger(client, 1h).try_lock());
        EXPECT_LT(record().size(), text.size() + 5'000);
      }
    });
  }
  lookers.clear();
  EXPECT_EQ(queued(server), 0);
}

// Fault: a process has died in which many waited. Promise: when it has let one turn pass, the
// others are not waited for one by one.
TEST_F(Log, TheWaitersOfADeadProcessGoTogether) {
  constexpr int waiters = 40;
  const std::string process(32, 'd');
  std::string text = "mcl2 " + time_in(7'200);
  for (int i = 0; i < waiters; ++i) {
    text += " *" + entry(process + "." + std::to_string(i), time_in(3'600), "3600000");
  }
  put(text + " *" + entry("alive.1", time_in(3'600)));
  const auto began = std::chrono::steady_clock::now();
  mcl::RLock lock = stranger(client, 1h);
  std::jthread waiter([&] { lock.lock(); });
  EXPECT_TRUE(eventually([&] { return record().find(process) == std::string::npos; }));
  EXPECT_LT(std::chrono::steady_clock::now() - began, waiters * 2s / 2);  // the grace is 2 s
  EXPECT_EQ(mcl::inspect(client, "key")->holders.at(0).token, "alive.1");
  append(" -alive.1");
}

/// An item that is as large as the server takes it.
class FullItem : public HandWritten {
 protected:
  /// Leaves no room for another word.
  void fill(std::string text) const {
    for (std::size_t length = 100'000; length > 0; length /= 10) {
      const std::string word = " -" + std::string(length, 'x');
      do {
        text += word;
        (void)server.ask("delete memcachedlock:key");
        put(text);
      } while (record() == text);
      text.resize(text.size() - word.size());
    }
    put(text);
    ASSERT_EQ(record(), text);
  }
  const mcl::MemcachedClient client{server.address()};
};

// Fault: a holder has died, and the item takes no more words. Promise: it is taken out all the
// same.
TEST_F(FullItem, TheDeadAreTakenOut) {
  fill("mcl2 0 +" + entry("dead.1", time_in(1)));
  const long before = server.counted({"cmd_get"});
  mcl::Lock lock(client, "key");
  lock.lock();
  EXPECT_EQ(lock.release(), mcl::Release::released);
  EXPECT_LT(server.counted({"cmd_get"}) - before, 100);
}

// Promise: who can't join its owner, as the item takes no more words, waits, and is not told of
// others that change it all the time.
TEST_F(FullItem, ANamedOwnerWaits) {
  fill("mcl2 0 +other.1:x:1000:" + time_in(3'600) + ":0:1:-:n:o@elsewhere:1:1");
  const long before = server.counted({"cmd_get"});
  mcl::RLock lock(client, "key", {.owner = mcl::OwnerId::named("o")});
  EXPECT_FALSE(lock.try_lock());
  EXPECT_LT(server.counted({"cmd_get"}) - before, 20);
  std::jthread waiter([&] { lock.lock(); });
  put("mcl2 0");
  waiter.join();
  EXPECT_TRUE(lock.owns_lock());
}

// Fault: a waiter has died. Promise: those behind it take it out at its END, before its turn.
TEST_F(Log, ADeadWaiterGoesBeforeItsTurn) {
  mcl::Lock holder(other, "key", {.timeout = 1h});
  holder.lock();
  append(" ?" + entry("dead.1", time_in(2)) + " ?" + entry("alive.1", time_in(3'600)));
  std::jthread waiter([&] { EXPECT_TRUE(stranger(client, 30s).try_lock_for(60s)); });
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

// Promise: a named owner's entry goes to nobody else, as its members hold by it.
TEST_F(Log, ANamedOwnersEntryIsNotHandedOver) {
  mcl::RLock holder(client, "key", {.timeout = 1h, .owner = mcl::OwnerId::named("o")});
  holder.lock();
  append(" ?" + entry("other.1", time_in(3'600)));
  EXPECT_TRUE(holder.extend());  // which learns of it
  std::jthread next([&] { lock_once(mcl::Lock(client, "key", {.timeout = 1h})); });
  EXPECT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) == 1; }));
  EXPECT_EQ(holder.release(), mcl::Release::released);
  EXPECT_EQ(mcl::inspect(client, "key")->holders.at(0).token, "other.1");
  append(" -other.1");
}

// Promise: whom somebody saw hold is not taken out in the place of the next, to whom it handed
// over.
TEST_F(Log, ABreakHitsNoneThatWasHandedTheLock) {
  mcl::Lock holder(client, "key", {.timeout = 1h});
  holder.lock();
  append(" ?" + entry("other.1", time_in(3'600)));
  EXPECT_TRUE(holder.extend());
  const auto seen = mcl::inspect(client, "key");
  std::jthread next([&] {
    mcl::Lock lock(client, "key", {.timeout = 1h});
    lock.lock();
    EXPECT_EQ(mcl::break_lock(client, *seen), mcl::Broken::changed);
    append(" -other.1");
    EXPECT_EQ(lock.release(), mcl::Release::released);
  });
  EXPECT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) == 1; }));
  EXPECT_EQ(holder.release(), mcl::Release::released);
}

/// Does something between two requests of a thread.
class Meanwhile : public mcl::Observer {
 public:
  explicit Meanwhile(std::function<void()> act) : act_(std::move(act)) {}
  void on_event(const mcl::Event& /*event*/) override {}
  void on_round_trip(std::string_view /*server*/, std::chrono::nanoseconds /*time*/) override {
    act_();
  }

 private:
  std::function<void()> act_;
};

// Fault: an acquire needs two requests, and is taken out between them. Promise: it does not come
// back under the same token, as another removal of that may be on its way.
TEST_F(Log, ATokenThatHasLeftIsNotUsedAgain) {
  std::string taken_out;
  std::atomic<bool> has_struck{false};
  const auto meanwhile = std::make_shared<Meanwhile>([&] {
    std::smatch match;
    const std::string text = record();
    if (has_struck || !std::regex_search(text, match, std::regex("[+?]([^:]+):x"))) return;
    taken_out = match[1];
    append(" !" + taken_out + ":0 ?" + entry("other.1", "0"));
    has_struck = true;
  });
  const mcl::MemcachedClient watched(server.address(), {.observer = meanwhile});
  mcl::RLock lock(watched, "key", {.owner = mcl::OwnerId::named("o")});
  std::jthread leaves([&] {
    EXPECT_TRUE(eventually([&] { return has_struck.load(); }));
    append(" -other.1");
  });
  EXPECT_TRUE(lock.try_lock_for(60s));
  EXPECT_NE(mcl::inspect(client, "key")->holders.at(0).token, taken_out);
}

// Fault: waiters have died, none of which had its turn. Promise: who comes takes all out at once
// whose wait is over, though it does not wait itself.
TEST_F(Log, DeadWaitersCostNothing) {
  std::string words;
  for (int i = 0; i < 20; ++i) words += " *" + entry("dead." + std::to_string(i), time_in(-20));
  put("mcl2 0" + words);
  const auto began = std::chrono::steady_clock::now();
  EXPECT_TRUE(mcl::Lock(client, "key").try_lock());
  EXPECT_LT(std::chrono::steady_clock::now() - began, 10s);
}

// Promise: inspect() shows the token that the holder has, or none.
TEST_F(Log, AnotherTokenIsNotShown) {
  mcl::Lock holder(other, "key", {.timeout = 1h});
  holder.lock();
  const auto token = holder.fencing_token();
  EXPECT_EQ(mcl::inspect(client, "key")->token, token);
  {
    std::jthread waiter([&] { EXPECT_FALSE(stranger(client, 30s).try_lock_for(100ms)); });
  }
  std::string words;
  for (int i = 0; i < 60; ++i) words += " -nobody.1";
  append(words);
  EXPECT_FALSE(stranger(client, 30s).try_lock_for(100ms));  // writes it anew
  EXPECT_EQ(record().find("nobody"), std::string::npos);
  const auto shown = mcl::inspect(client, "key")->token;
  EXPECT_TRUE(!shown || shown == token);
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
  mcl::Lock holder(other, "key");
  holder.lock();
  std::string words;
  for (int i = 0; i < 200; ++i) words += " -nobody." + std::to_string(i);
  append(words);
  std::jthread waiter([&] { lock_once(stranger(client, 30s)); });
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
