// All clients lock a key at the same servers, also while the list of servers changes.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <regex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"
#include "memcachedlock/move_servers.hpp"
#include "support/local_server.hpp"
#include "support/message_of.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

constexpr int keys = 300;

std::string key(int number) { return "key" + std::to_string(number); }

std::string alias(const LocalServer& server) {
  return "localhost:" + std::to_string(server.port());
}

std::string item(const LocalServer& server) { return server.get("memcachedlock:^server"); }

/// What its item says of lists: the last word.
std::string lists(const LocalServer& server) {
  const std::string text = item(server);
  return text.substr(text.rfind(' ') + 1);
}

void put_item(const LocalServer& server, const std::string& text) {
  ASSERT_EQ(
      server.ask("set memcachedlock:^server 0 0 " + std::to_string(text.size()) + "\r\n" + text),
      "STORED\r\n");
}

class Agreement : public testing::Test {
 protected:
  /// All keys, under this list.
  void hold_all(const std::string& list) {
    holder.emplace(list);
    for (int i = 0; i < keys; ++i) {
      held.push_back(std::make_unique<mcl::Lock>(*holder, key(i), mcl::LockOptions{.timeout = 1h}));
      held.back()->lock();
    }
  }
  struct Outcome {
    int granted = 0;
    int refused = 0;
    int differ = 0;
  };
  static Outcome try_all(const std::string& list) {
    Outcome outcome;
    const mcl::MemcachedClient client(list);
    for (int i = 0; i < keys; ++i) {
      mcl::Lock lock(client, key(i));
      try {
        ++(lock.try_lock() ? outcome.granted : outcome.refused);
      } catch (const mcl::ServersDiffer&) {
        ++outcome.differ;
      }
    }
    return outcome;
  }
  void expect_all_differ(const std::string& list) {
    SCOPED_TRACE(list);
    const Outcome outcome = try_all(list);
    EXPECT_EQ(outcome.granted, 0);
    EXPECT_EQ(outcome.differ, keys);
  }
  void expect_all_agree(const std::string& list) {
    SCOPED_TRACE(list);
    const Outcome outcome = try_all(list);
    EXPECT_EQ(outcome.granted, 0);
    EXPECT_EQ(outcome.refused, keys);
  }

  LocalServer a;
  LocalServer b;
  LocalServer c;
  std::string ab = a.address() + "," + b.address();
  std::string abc = ab + "," + c.address();
  std::optional<mcl::MemcachedClient> holder;
  std::vector<std::unique_ptr<mcl::Lock>> held;
};

// Fault: clients of one memcached have other lists. Promise: they are told for each key, never let
// in together.
TEST_F(Agreement, WhoHasAnotherListIsLetInNowhere) {
  hold_all(ab);
  expect_all_differ(abc);
  expect_all_differ(a.address());
  expect_all_differ(a.address() + "," + c.address());
  expect_all_differ(alias(a) + "," + b.address());
  expect_all_differ(alias(a) + "," + alias(b));
  expect_all_differ(alias(a));
  EXPECT_EQ(item(c), "");  // a list that nobody uses leaves nothing
}

TEST_F(Agreement, TheSameListIsAnyWayToWriteIt) {
  hold_all(ab);
  expect_all_agree(b.address() + "," + a.address());
  expect_all_agree("  " + b.address() + " , " + a.address() + " ");
}

TEST_F(Agreement, CaseDoesNotMatter) {
  hold_all(alias(a) + "," + b.address());
  expect_all_agree("LOCALHOST:" + std::to_string(a.port()) + "," + b.address());
}

TEST_F(Agreement, OneServerAloneMayHaveTwoNames) {
  hold_all(a.address());
  expect_all_agree(alias(a));
}

TEST_F(Agreement, ASocketAloneMayHaveTwoNames) {
  const LocalServer local({}, LocalServer::Listen::unix_socket);
  const std::string other = local.address() + "-too";
  std::filesystem::create_symlink(local.address(), other);
  hold_all(local.address());
  expect_all_agree(other);
  expect_all_differ(other + "," + a.address());
}

TEST_F(Agreement, TwoNamesOfOneServerAreNoList) {
  const mcl::MemcachedClient client(a.address() + "," + alias(a));
  mcl::Lock lock(client, "key");
  EXPECT_THROW((void)lock.try_lock(), mcl::ServersDiffer);
}

TEST_F(Agreement, EachServerKnowsTheListAndWhichItIs) {
  hold_all(ab);
  const auto with_mark = [&](const LocalServer& marked) {
    std::vector<std::string> names{a.address(), b.address()};
    std::sort(names.begin(), names.end());
    for (std::string& name : names) {
      if (name == marked.address()) name.insert(0, "*");
    }
    return names[0] + "," + names[1];
  };
  EXPECT_EQ(lists(a), with_mark(a));
  EXPECT_EQ(lists(b), with_mark(b));
}

TEST_F(Agreement, TheErrorNamesBothListsAndTheWayOut) {
  hold_all(ab);
  const mcl::MemcachedClient client(abc);
  mcl::Lock lock(client, "key");
  try {
    lock.lock();
    FAIL() << "it was let in";
  } catch (const mcl::ServersDiffer& error) {
    const std::string said = error.what();
    EXPECT_NE(said.find(error.ours()), std::string::npos) << said;
    EXPECT_NE(said.find(error.theirs()), std::string::npos) << said;
    EXPECT_NE(said.find("memcachedlock servers move --to " + error.ours()), std::string::npos)
        << said;
    EXPECT_NE(said.find(error.server()), std::string::npos) << said;
    EXPECT_EQ(error.key(), "key");
    EXPECT_EQ(std::count(error.ours().begin(), error.ours().end(), ','), 2);
    EXPECT_EQ(std::count(error.theirs().begin(), error.theirs().end(), ','), 1);
  }
}

// Promise: wrong configuration is not an outage, so nothing runs unlocked for it.
TEST_F(Agreement, WhatProceedsUnlockedInAnOutageDoesNotHere) {
  hold_all(ab);
  const auto recorder = std::make_shared<Recorder>();
  const mcl::MemcachedClient client(abc, {.observer = recorder});
  int runs = 0;
  const auto write = mcl::with_zlock<std::runtime_error>(
      client, [](int number) { return key(number); }, [&](int) { ++runs; });
  EXPECT_THROW(write(1), mcl::ServersDiffer);
  mcl::Lock lock(client, key(2), {.on_unavailable = mcl::OnUnavailable::proceed});
  EXPECT_THROW(lock.lock(), mcl::ServersDiffer);
  EXPECT_EQ(runs, 0);
  EXPECT_EQ(recorder->count(mcl::EventKind::servers_differ), 2);
  EXPECT_EQ(recorder->count(mcl::EventKind::proceeded_unlocked), 0);
  EXPECT_EQ(recorder->count(mcl::EventKind::given_up), 2);
}

// Promise: a new list needs all of its servers once, and the error says which one is missing.
TEST_F(Agreement, ANewListNeedsAllOfItsServersOnce) {
  b.stop();
  const mcl::MemcachedClient client(ab);
  for (int i = 0; i < 8; ++i) {
    mcl::Lock lock(client, key(i));
    const std::string said = message_of<mcl::Unavailable>([&] { (void)lock.try_lock(); });
    EXPECT_NE(said.find(b.address()), std::string::npos) << said;
  }
  b.start();
  mcl::Lock lock(client, "key");
  EXPECT_TRUE(lock.try_lock());
}

TEST_F(Agreement, ThenADeadServerIsNoTroubleForTheKeysOfOthers) {
  hold_all(ab);
  held.clear();
  b.stop();
  const mcl::MemcachedClient client(ab, {.restart_window = 0ms});
  int free = 0;
  for (int i = 0; i < keys; ++i) {
    mcl::Lock lock(client, key(i));
    if (client.server_of(key(i)).to_string() == a.address() && lock.try_lock()) ++free;
  }
  EXPECT_GT(free, 50);
}

// Fault: the item is lost by itself, while a move is under way. Promise: it is made again as the
// others have it, with a higher epoch.
TEST_F(Agreement, ALostItemIsMadeAsTheOthersHaveIt) {
  hold_all(ab);
  held.clear();
  ASSERT_EQ(
      mcl::move_servers(mcl::MemcachedClient(ab), abc, {.part = mcl::MoveOptions::Part::begin}),
      mcl::Moved::begun);
  const std::string before = item(b);
  ASSERT_NE(before.find('>'), std::string::npos);
  ASSERT_EQ(b.ask("delete memcachedlock:^server"), "DELETED\r\n");
  const mcl::MemcachedClient client(ab);
  for (int i = 0; i < 20; ++i) {
    mcl::Lock lock(client, key(i), {.restart_guard = mcl::RestartGuard::off});
    EXPECT_TRUE(lock.try_lock());
  }
  EXPECT_EQ(lists(b), before.substr(before.rfind(' ') + 1));
  EXPECT_NE(item(b), before);  // another id
}

TEST_F(Agreement, WhatIsNotConfirmedGrantsNothing) {
  std::vector<std::string> names{"*" + a.address(), c.address()};
  if (a.address() > c.address()) std::swap(names[0], names[1]);
  put_item(a, "mcl-server1 ab 5 1000 9 ?" + names[0] + "," + names[1]);
  for (const std::string& list : {a.address(), ab}) {
    const mcl::MemcachedClient client(list);
    mcl::Lock lock(client, "key1");
    EXPECT_THROW((void)lock.try_lock(), mcl::ServersDiffer);
  }
  const mcl::MemcachedClient client(a.address() + "," + c.address());  // who began it goes on
  mcl::Lock lock(client, "key1", {.restart_guard = mcl::RestartGuard::off});
  EXPECT_TRUE(lock.try_lock());
  EXPECT_EQ(lists(a).find('?'), std::string::npos);
  EXPECT_EQ(lists(c).find('?'), std::string::npos);
}

TEST_F(Agreement, AHolderWhoseListIsNotInUseAnyMoreIsTold) {
  const auto recorder = std::make_shared<Recorder>();
  const mcl::MemcachedClient client(a.address(), {.observer = recorder});
  mcl::Lock lock(client, "key", {.timeout = 2s, .renew = true});
  lock.lock();
  const std::string before = item(a);
  put_item(a, "mcl-server1 abc 5 2000 9 *" + a.address() + "," + b.address());
  EXPECT_TRUE(eventually([&] { return lock.lost().stop_requested(); }));
  EXPECT_GE(recorder->count(mcl::EventKind::servers_differ), 1);
  EXPECT_THROW((void)mcl::Lock(client, "other").try_lock(), mcl::ServersDiffer);
  put_item(a, before);
  EXPECT_TRUE(eventually([&] {  // it looks once a second
    try {
      return mcl::Lock(client, "other", {.restart_guard = mcl::RestartGuard::off}).try_lock();
    } catch (const mcl::ServersDiffer&) {
      return false;
    }
  }));
}

// ---- moves

class Moving : public Agreement {
 protected:
  static mcl::Moved move(const std::string& from, const std::string& to,
                         mcl::MoveOptions options = {}) {
    return mcl::move_servers(mcl::MemcachedClient(from), to, options);
  }
  /// One whose server is another after the move.
  static std::string moving_key(const std::string& from, const std::string& to) {
    const mcl::MemcachedClient old(from);
    const mcl::MemcachedClient fresh(to);
    for (int i = 0;; ++i) {
      if (old.server_of(key(i)) != fresh.server_of(key(i))) return key(i);
    }
  }
};

TEST_F(Moving, ClientsFollowWithoutAPauseAndTokensRise) {
  const auto recorder = std::make_shared<Recorder>();
  const mcl::MemcachedClient client(ab, {.observer = recorder});
  const std::string moving = moving_key(ab, abc);
  mcl::FencingToken last;
  std::atomic<int> rounds{0};
  std::jthread worker([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      mcl::Lock lock(client, moving, {.timeout = 1s});
      lock.lock();
      EXPECT_GT(lock.fencing_token(), last);
      last = lock.fencing_token();
      EXPECT_EQ(lock.release(), mcl::Release::released);
      ++rounds;
    }
  });
  ASSERT_TRUE(eventually([&] { return rounds > 10; }));
  std::atomic<int> during{0};
  EXPECT_EQ(move(ab, abc,
                 {.progress =
                      [&](const mcl::MoveProgress& progress) {
                        if (progress.step == mcl::MoveProgress::Step::wait) during = rounds.load();
                      }}),
            mcl::Moved::moved);
  EXPECT_GT(during, 10);
  const int after = rounds;
  ASSERT_TRUE(eventually([&] { return rounds > after + 10; }));
  worker.request_stop();
  worker.join();
  EXPECT_EQ(recorder->count(mcl::EventKind::servers_moved), 1);
  EXPECT_EQ(recorder->count(mcl::EventKind::lost), 0);
  EXPECT_EQ(recorder->count(mcl::EventKind::unavailable), 0);
  EXPECT_THROW((void)mcl::Lock(mcl::MemcachedClient(ab), moving).try_lock(), mcl::ServersDiffer);
  EXPECT_TRUE(mcl::Lock(mcl::MemcachedClient(abc), moving).try_lock());
  EXPECT_EQ(move(abc, abc), mcl::Moved::already);
  EXPECT_EQ(move(ab, abc), mcl::Moved::already);
}

// Promise: while both lists are in force, clients that have either exclude each other.
TEST_F(Moving, ClientsOfBothListsExcludeEachOther) {
  EXPECT_TRUE(mcl::Lock(mcl::MemcachedClient(ab), "key").try_lock());
  ASSERT_EQ(move(ab, abc, {.part = mcl::MoveOptions::Part::begin}), mcl::Moved::begun);
  const mcl::MemcachedClient old(ab);
  const mcl::MemcachedClient fresh(abc);
  for (int i = 0; i < keys; ++i) {
    for (const auto& [one, other] : {std::pair(&old, &fresh), std::pair(&fresh, &old)}) {
      mcl::Lock first(*one, key(i));
      ASSERT_TRUE(first.try_lock());
      EXPECT_FALSE(mcl::Lock(*other, key(i)).try_lock());
      const auto token = first.fencing_token();
      EXPECT_EQ(first.release(), mcl::Release::released);
      mcl::Lock second(*other, key(i));
      ASSERT_TRUE(second.try_lock());
      EXPECT_GT(second.fencing_token(), token);
    }
  }
  EXPECT_EQ(move(ab, abc, {.part = mcl::MoveOptions::Part::finish, .wait = 0s}), mcl::Moved::moved);
}

// Promise: who holds and renews while the list changes, holds on.
TEST_F(Moving, AHolderThatRenewsKeepsTheLockThroughMoves) {
  const auto recorder = std::make_shared<Recorder>();
  const mcl::MemcachedClient client(ab, {.observer = recorder});
  const mcl::LockOptions brief{.timeout = 1s};
  const std::string moving = moving_key(ab, abc);
  mcl::Lock lock(client, moving, {.timeout = 1s, .renew = true});
  lock.lock();
  const auto token = lock.fencing_token();
  EXPECT_EQ(move(ab, abc), mcl::Moved::moved);
  EXPECT_FALSE(mcl::Lock(mcl::MemcachedClient(abc), moving, brief).try_lock());
  EXPECT_EQ(move(abc, ab), mcl::Moved::moved);
  EXPECT_FALSE(mcl::Lock(mcl::MemcachedClient(ab), moving, brief).try_lock());
  EXPECT_EQ(move(ab, abc), mcl::Moved::moved);
  EXPECT_TRUE(lock.owns_lock());
  EXPECT_EQ(recorder->count(mcl::EventKind::lost), 0);
  EXPECT_EQ(lock.release(), mcl::Release::released);
  mcl::Lock next(mcl::MemcachedClient(abc), moving);
  EXPECT_TRUE(next.try_lock());
  EXPECT_GT(next.fencing_token(), token);
}

TEST_F(Moving, AnExtensionTakesTheSecondPlace) {
  const mcl::MemcachedClient client(ab);
  const std::string moving = moving_key(ab, abc);
  mcl::Lock lock(client, moving, {.timeout = 3s});
  lock.lock();
  std::jthread mover([&] { EXPECT_EQ(move(ab, abc), mcl::Moved::moved); });
  while (lists(c).find('>') != std::string::npos || lists(c).empty()) {
    ASSERT_TRUE(lock.extend());
    std::this_thread::sleep_for(100ms);
  }
  mover.join();
  EXPECT_TRUE(lock.extend());
  EXPECT_FALSE(mcl::Lock(mcl::MemcachedClient(abc), moving).try_lock());
  EXPECT_EQ(lock.release(), mcl::Release::released);
  EXPECT_TRUE(mcl::Lock(mcl::MemcachedClient(abc), moving).try_lock());
}

TEST_F(Moving, ReservationsAndNamedOwnersGoAlong) {
  const std::string moving = moving_key(ab, abc);
  const mcl::LockOptions team{.timeout = 1h, .owner = mcl::OwnerId::named("team")};
  const mcl::MemcachedClient client(ab);
  mcl::RLock one(client, moving, team);
  one.lock();
  const auto token = one.fencing_token();
  one.unlock();
  ASSERT_EQ(move(ab, abc, {.part = mcl::MoveOptions::Part::begin}), mcl::Moved::begun);
  one.lock();
  EXPECT_GT(one.fencing_token(), token);
  EXPECT_TRUE(ended_well(in_child([&] {
    mcl::RLock other(mcl::MemcachedClient(abc), moving, team);
    return other.try_lock() && other.fencing_token() == one.fencing_token() &&
           !mcl::Lock(mcl::MemcachedClient(abc), moving).try_lock();
  })));
  EXPECT_EQ(one.release(), mcl::Release::released);
  EXPECT_TRUE(mcl::Lock(client, moving).try_lock());
}

/// Ends its process when so many requests were answered.
class Mortal : public mcl::Observer {
 public:
  explicit Mortal(int requests) : left_(requests) {}
  void on_event(const mcl::Event& /*event*/) override {}
  void on_round_trip(std::string_view /*server*/, std::chrono::nanoseconds /*duration*/) override {
    if (--left_ == 0) _exit(9);
  }

 private:
  int left_;
};

// Fault: the mover dies, after each of its requests. Promise: clients of either list exclude each
// other then, or are refused; tokens rise; and whoever begins it again ends it.
TEST_F(Moving, TheMoverMayDieAfterAnyOfItsRequests) {
  const std::string moving = moving_key(ab, abc);
  mcl::FencingToken last;
  bool survived = false;
  for (int requests = 1; !survived; ++requests) {
    SCOPED_TRACE(requests);
    for (LocalServer* server : {&a, &b, &c}) server->ask("flush_all");
    last = {};  // nobody remembers
    const auto lock_once = [&](const std::string& list, const std::string& other) {
      mcl::Lock lock(mcl::MemcachedClient(list), moving, {.timeout = 1s});
      try {
        ASSERT_TRUE(lock.try_lock());
      } catch (const mcl::ServersDiffer&) {
        return;
      }
      EXPECT_GT(lock.fencing_token(), last);
      last = lock.fencing_token();
      try {
        EXPECT_FALSE(mcl::Lock(mcl::MemcachedClient(other), moving, {.timeout = 1s}).try_lock());
      } catch (const mcl::ServersDiffer&) {
      }
    };
    lock_once(ab, abc);
    const pid_t mover = in_child([&] {
      const mcl::MemcachedClient client(ab, {.observer = std::make_shared<Mortal>(requests)});
      return mcl::move_servers(client, abc) == mcl::Moved::moved;
    });
    survived = ended_well(mover);
    lock_once(ab, abc);
    lock_once(abc, ab);
    lock_once(ab, abc);
    constexpr int sometimes = 5;  // it waits each time
    if (requests % sometimes != 0 && !survived) continue;
    EXPECT_EQ(move(ab, abc), survived ? mcl::Moved::already : mcl::Moved::moved);
    EXPECT_THROW((void)mcl::Lock(mcl::MemcachedClient(ab), moving).try_lock(), mcl::ServersDiffer);
    lock_once(abc, ab);
  }
}

TEST_F(Moving, NamesMayChangeWhileTheServersStay) {
  const mcl::MemcachedClient client(ab);
  const std::string names = alias(a) + "," + alias(b);
  std::vector<mcl::FencingToken> tokens(60);
  const auto lock_all = [&](const mcl::MemcachedClient& by) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      mcl::Lock lock(by, key(static_cast<int>(i)));
      ASSERT_TRUE(lock.try_lock());
      EXPECT_GT(lock.fencing_token(), tokens[i]);
      tokens[i] = lock.fencing_token();
    }
  };
  lock_all(client);
  ASSERT_EQ(move(ab, names, {.part = mcl::MoveOptions::Part::begin}), mcl::Moved::begun);
  lock_all(client);
  lock_all(mcl::MemcachedClient(names));
  ASSERT_EQ(move(ab, names, {.wait = 0s}), mcl::Moved::moved);
  lock_all(client);
  lock_all(mcl::MemcachedClient(names));
}

TEST_F(Moving, AListOfOneGrows) {
  const mcl::MemcachedClient client(alias(a));
  const std::string to = a.address() + "," + b.address();
  const std::string moving = moving_key(a.address(), to);
  mcl::Lock lock(client, moving, {.timeout = 1s, .renew = true});
  lock.lock();
  EXPECT_EQ(move(a.address(), to), mcl::Moved::moved);
  EXPECT_TRUE(lock.owns_lock());
  EXPECT_FALSE(mcl::Lock(mcl::MemcachedClient(to), moving).try_lock());
  EXPECT_EQ(lock.release(), mcl::Release::released);
  EXPECT_TRUE(mcl::Lock(client, moving).try_lock());
}

// Promise: what does not do is refused before the first write, and all of it is named at once.
TEST_F(Moving, WhatDoesNotDoIsRefusedBeforeAnythingIsWritten) {
  hold_all(ab);
  const LocalServer no_cas({"-C"});
  c.stop();
  const std::string before = item(a) + item(b);
  const std::string said = message_of<mcl::ServerError>(
      [&] { (void)move(ab, abc + "," + no_cas.address() + "," + alias(a)); });
  EXPECT_NE(said.find(c.address()), std::string::npos) << said;
  EXPECT_NE(said.find(no_cas.address() + " runs without"), std::string::npos) << said;
  EXPECT_NE(said.find("are one server"), std::string::npos) << said;
  EXPECT_EQ(item(a) + item(b), before);
  EXPECT_EQ(item(no_cas), "");
  EXPECT_THROW((void)move(ab, "a b"), mcl::InvalidServers);
}

TEST_F(Moving, TheSecondMoveIsToldOfTheFirst) {
  hold_all(ab);
  ASSERT_EQ(move(ab, abc, {.part = mcl::MoveOptions::Part::begin}), mcl::Moved::begun);
  const std::string said = message_of<mcl::ServerError>([&] { (void)move(ab, a.address()); });
  EXPECT_NE(said.find("moving to \"" + mcl::MemcachedClient(abc).servers()[0].to_string()),
            std::string::npos)
      << said;
}

TEST_F(Moving, AnItemThatIsNoneOfOursIsLeftAlone) {
  hold_all(ab);
  put_item(c, "hello");
  const std::string said = message_of<mcl::ServerError>([&] { (void)move(ab, abc); });
  EXPECT_NE(said.find("\"hello\""), std::string::npos) << said;
  EXPECT_EQ(item(c), "hello");
}

TEST_F(Moving, AServerThatIsDeadForGoodIsLeftOut) {
  const mcl::MemcachedClient client(abc);
  std::vector<mcl::FencingToken> tokens;
  for (int i = 0; i < 60; ++i) {
    mcl::Lock lock(client, key(i), {.timeout = 1s});
    lock.lock();
    tokens.push_back(lock.fencing_token());
  }
  c.stop();
  EXPECT_THROW((void)move(abc, ab), mcl::ServerError);
  EXPECT_EQ(move(abc, ab, {.gone = mcl::parse_servers(c.address())}), mcl::Moved::moved);
  for (int i = 0; i < 60; ++i) {  // also those that were at the dead one
    mcl::Lock lock(client, key(i), {.timeout = 1s});
    ASSERT_TRUE(lock.try_lock());
    EXPECT_GT(lock.fencing_token(), tokens[static_cast<std::size_t>(i)]);
  }
}

TEST_F(Moving, AFirstListCanBeGivenToo) {
  EXPECT_EQ(move(ab, ab, {.wait = 0s}), mcl::Moved::moved);
  EXPECT_TRUE(mcl::Lock(mcl::MemcachedClient(ab), "key").try_lock());
  EXPECT_THROW((void)mcl::Lock(mcl::MemcachedClient(abc), "key").try_lock(), mcl::ServersDiffer);
}

TEST_F(Moving, ShowTellsWhatEachServerSays) {
  hold_all(ab);
  ASSERT_EQ(move(ab, abc, {.part = mcl::MoveOptions::Part::begin}), mcl::Moved::begun);
  const auto all = mcl::show_servers(mcl::MemcachedClient(ab));
  ASSERT_EQ(all.size(), 3U);
  for (const mcl::ServerState& one : all) {
    EXPECT_EQ(one.trouble, "");
    EXPECT_TRUE(one.in_use && one.confirmed);
    EXPECT_EQ(one.list, all[0].list);
    EXPECT_EQ(std::count(one.next.begin(), one.next.end(), ','), 2);
    EXPECT_EQ(one.id.size(), 16U);
  }
}

// ---- what was found by trying

// Fault: a client with a list that is in force nowhere any more rolls it back. Promise: it is a
// move like any other, and who holds by the list in force holds on.
TEST_F(Moving, AMoveBackByAClientOfTheOldListWaitsForTheListInForce) {
  const LocalServer d;
  const std::string cd = c.address() + "," + d.address();
  EXPECT_TRUE(mcl::Lock(mcl::MemcachedClient(ab), "key", {.timeout = 1s}).try_lock());
  ASSERT_EQ(move(ab, cd), mcl::Moved::moved);
  mcl::Lock one(mcl::MemcachedClient(cd), "key", {.timeout = 3s});
  ASSERT_TRUE(one.try_lock());
  ASSERT_EQ(move(ab, ab), mcl::Moved::moved);
  EXPECT_FALSE(one.owns_lock());  // it has waited for that lease
  EXPECT_TRUE(mcl::Lock(mcl::MemcachedClient(ab), "key").try_lock());
}

// Fault: all that is known of a list is lost. Promise: leases from before are waited for.
TEST_F(Moving, ServersThatRememberNothingMayHaveLostLocks) {
  const mcl::MemcachedClient client(a.address(), {.restart_window = 3s});
  mcl::Lock one(client, "key", {.timeout = 2s});
  ASSERT_TRUE(one.try_lock());
  ASSERT_EQ(a.ask("delete memcachedlock:^server"), "DELETED\r\n");
  ASSERT_EQ(mcl::move_servers(client, ab), mcl::Moved::moved);
  EXPECT_FALSE(one.owns_lock());
}

// Fault: an old server is started anew, and its item is made by the mover. Promise: who is strict
// waits for leases from before, there too.
TEST_F(Moving, AnItemThatTheMoverMakesForAnOldServerIsGuarded) {
  const mcl::MemcachedClient client(ab);
  EXPECT_TRUE(mcl::Lock(client, "key", {.timeout = 1h}).try_lock());
  a.stop();
  a.start();
  ASSERT_EQ(move(ab, abc, {.part = mcl::MoveOptions::Part::begin}), mcl::Moved::begun);
  EXPECT_EQ(item(c).find(" 0 "), item(c).rfind(" 0 "));
  const mcl::MemcachedClient fresh(ab);
  int let_in = 0;
  for (int i = 0; i < 60; ++i) {
    if (fresh.server_of(key(i)).to_string() != a.address()) continue;
    mcl::Lock lock(fresh, key(i), {.restart_guard = mcl::RestartGuard::strict});
    if (lock.try_lock()) ++let_in;
  }
  EXPECT_EQ(let_in, 0);
}

// Fault: the list of one server is moved to another one server. Promise: they are not taken for
// each other.
TEST_F(Moving, OneServerMayFollowAnother) {
  const auto recorder = std::make_shared<Recorder>();
  const mcl::MemcachedClient client(a.address(), {.observer = recorder});
  mcl::Lock lock(client, "key", {.timeout = 1s, .renew = true});
  lock.lock();
  ASSERT_EQ(move(a.address(), c.address()), mcl::Moved::moved);
  a.stop();
  const int extended = recorder->count(mcl::EventKind::extended);
  ASSERT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::extended) > extended + 2; }));
  EXPECT_TRUE(lock.owns_lock());
  EXPECT_FALSE(mcl::Lock(mcl::MemcachedClient(c.address()), "key").try_lock());
  a.start();  // empty: a client that looks there again is not let in by it
  mcl::Lock other(client, "key");
  EXPECT_FALSE(other.try_lock());
}

// Promise: a move that has begun can be taken back, also where the new server has died.
TEST_F(Moving, AMoveThatHasBegunCanBeTakenBack) {
  const std::string moving = moving_key(ab, abc);
  const mcl::MemcachedClient client(ab);
  mcl::Lock one(client, moving, {.timeout = 2s, .renew = true});
  ASSERT_TRUE(one.try_lock());
  ASSERT_EQ(move(ab, abc, {.part = mcl::MoveOptions::Part::begin}), mcl::Moved::begun);
  ASSERT_TRUE(eventually([&] { return !c.get("memcachedlock:" + moving).empty(); }));
  c.stop();
  ASSERT_EQ(move(ab, ab, {.gone = mcl::parse_servers(c.address())}), mcl::Moved::moved);
  std::this_thread::sleep_for(3s);  // longer than a lease: for nothing to happen
  EXPECT_TRUE(one.owns_lock());
  const auto token = one.fencing_token();
  EXPECT_EQ(one.release(), mcl::Release::released);
  mcl::Lock next(client, moving);
  EXPECT_TRUE(next.try_lock());
  EXPECT_GT(next.fencing_token(), token);
}

// Fault: two movers to different lists at once. Promise: one goes on, the other is refused.
TEST_F(Moving, TwoAtOnceEndWithOneOfThem) {
  const LocalServer d;
  const std::string abd = ab + "," + d.address();
  EXPECT_TRUE(mcl::Lock(mcl::MemcachedClient(ab), "key", {.timeout = 1s}).try_lock());
  std::atomic<int> moved{0};
  std::atomic<int> refused{0};
  const auto try_to = [&](const std::string& to) {
    try {
      if (move(ab, to) == mcl::Moved::moved) ++moved;
    } catch (const mcl::ServerError&) {
      ++refused;
    }
  };
  {
    const std::jthread one([&] { try_to(abc); });
    const std::jthread other([&] { try_to(abd); });
  }
  EXPECT_EQ(moved, 1);
  EXPECT_EQ(refused, 1);
  EXPECT_NE(item(c).empty(), item(d).empty());  // the other has written nothing
}

TEST_F(Moving, TokensRiseForKeysThatStayWhileOthersMove) {
  const LocalServer d;
  const std::string ad = a.address() + "," + d.address();
  std::string staying;  // that moved to a in the first move, and stays in the second
  for (int i = 0; staying.empty(); ++i) {
    const auto at = [&](const std::string& list) {
      return mcl::MemcachedClient(list).server_of(key(i)).to_string();
    };
    if (at(ad) == d.address() && at(ab) == b.address() && at(abc) == b.address()) staying = key(i);
  }
  const mcl::LockOptions brief{.timeout = 1s};
  const mcl::MemcachedClient idle(ad);
  EXPECT_TRUE(mcl::Lock(idle, staying, brief).try_lock());
  ASSERT_EQ(move(ad, ab), mcl::Moved::moved);
  ASSERT_EQ(move(ab, abc, {.part = mcl::MoveOptions::Part::begin}), mcl::Moved::begun);
  mcl::FencingToken last;
  for (const std::string& list : {ad, ab, abc}) {
    const mcl::MemcachedClient fresh(list);
    mcl::Lock lock(list == ad ? idle : fresh, staying, brief);
    ASSERT_TRUE(lock.try_lock());
    EXPECT_GT(lock.fencing_token(), last);
    last = lock.fencing_token();
  }
}

// Fault: an observer that releases a lock when the list has moved. Promise: no lock of ours is held
// while it is called.
TEST_F(Moving, AnObserverMayReleaseWhenTheListHasMoved) {
  struct Releaser : Recorder {
    void on_event(const mcl::Event& event) override {
      Recorder::on_event(event);
      if (event.kind == mcl::EventKind::servers_moved && lock != nullptr) (void)lock->release();
    }
    mcl::Lock* lock = nullptr;
  };
  const auto observer = std::make_shared<Releaser>();
  const mcl::MemcachedClient client(ab, {.observer = observer});
  mcl::Lock lock(client, moving_key(ab, abc), {.timeout = 1s, .renew = true});
  mcl::Lock other(client, "other", {.timeout = 1s, .renew = true});
  lock.lock();
  other.lock();
  observer->lock = &lock;
  ASSERT_EQ(move(ab, abc), mcl::Moved::moved);
  ASSERT_TRUE(eventually([&] { return observer->count(mcl::EventKind::servers_moved) == 1; }));
  const int extended = observer->count(mcl::EventKind::extended);
  ASSERT_TRUE(eventually([&] { return observer->count(mcl::EventKind::extended) > extended + 3; }));
  EXPECT_TRUE(other.owns_lock());
  EXPECT_FALSE(lock.owns_lock());
}

TEST_F(Agreement, TooManyServersAreNoList) {
  std::string list = a.address();
  for (int i = 1; i <= 100; ++i) list += ",192.0.2.1:" + std::to_string(i);
  EXPECT_THROW((void)mcl::MemcachedClient(list), mcl::InvalidServers);
  put_item(a, "mcl-server1 ab 5 1000 9 *" + list);
  EXPECT_THROW((void)mcl::Lock(mcl::MemcachedClient(a.address()), "key").try_lock(),
               mcl::ServerError);
}

// Fault: a server does not answer when a longer lease than any before is to be put down. Promise:
// it is refused, again and again.
TEST_F(Agreement, ALongerLeaseNeedsAllServersEachTime) {
  const mcl::MemcachedClient client(ab, {.operation_timeout = 200ms});
  EXPECT_TRUE(mcl::Lock(client, "key", {.timeout = 1s}).try_lock());
  int number = 0;
  const auto next_at_a = [&] {
    while (client.server_of(key(++number)).to_string() != a.address()) {
    }
    return key(number);
  };
  b.pause();
  for (int tries = 0; tries < 3; ++tries) {
    mcl::Lock longer(client, next_at_a(), {.timeout = 8s});
    EXPECT_THROW((void)longer.try_lock(), mcl::Unavailable);
  }
  EXPECT_TRUE(mcl::Lock(client, next_at_a(), {.timeout = 1s}).try_lock());
  b.resume();
  EXPECT_TRUE(mcl::Lock(client, next_at_a(), {.timeout = 8s}).try_lock());
  EXPECT_NE(item(b).find(" 8000 "), std::string::npos);
}

}  // namespace
