// with_lock, with_rlock, with_zlock: what is wrapped, and how it is called.
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
using namespace std::chrono_literals;

namespace {

struct Conflict : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Busy {};

struct Account {
  std::string id;
  int balance = 0;
  int add(int amount) { return balance += amount; }
  [[nodiscard]] const std::string& name() const { return id; }
};

std::string key_of_account(const Account& account, int) { return account.id; }
int free_function(const std::string& key, int x) { return static_cast<int>(key.size()) + x; }

class Decorators : public testing::Test {
 protected:
  Decorators() {
    mcl::ClientOptions options;
    options.observer = recorder;
    client.emplace(server.address(), options);
  }
  [[nodiscard]] bool is_free(const std::string& key) const {
    return mcl::Lock(*client, key).try_lock();
  }
  LocalServer server;
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  std::optional<mcl::MemcachedClient> client;
};

TEST_F(Decorators, FunctionsRunUnderTheLock) {
  const auto key = [](const std::string& text, int) { return text; };
  bool was_free = true;
  const auto write = mcl::with_lock(*client, key, [&](const std::string& text, int x) {
    was_free = is_free(text);
    return x + 1;
  });
  EXPECT_EQ(write("key", 1), 2);
  EXPECT_FALSE(was_free);
  EXPECT_TRUE(is_free("key"));
  EXPECT_EQ(mcl::with_lock(*client, key, free_function)("abc", 2), 5);
  EXPECT_EQ(mcl::with_lock(*client, key, &free_function)("abc", 3), 6);
}

TEST_F(Decorators, MemberFunctionsAndDataMembers) {
  const auto add = mcl::with_lock(*client, key_of_account, &Account::add);
  Account account{"a", 1};
  EXPECT_EQ(add(account, 2), 3);
  const auto balance = mcl::with_rlock(*client, &Account::name, &Account::balance);
  EXPECT_EQ(balance(account), 3);
  balance(account) = 7;  // a reference, as std::invoke gives it
  EXPECT_EQ(account.balance, 7);
  const auto by_member = mcl::with_zlock<Conflict>(*client, &Account::id, &Account::balance);
  EXPECT_EQ(by_member(account), 7);
}

TEST_F(Decorators, MoveOnlyAndReferenceArgumentsAndResults) {
  const auto key = [](const std::unique_ptr<int>& p) { return std::to_string(*p); };
  const auto pass = [](std::unique_ptr<int> p) { return p; };
  EXPECT_EQ(*mcl::with_lock(*client, key, pass)(std::make_unique<int>(3)), 3);
  EXPECT_EQ(*mcl::with_zlock<Conflict>(*client, key, pass)(std::make_unique<int>(4)), 4);

  const auto one = [](const auto&) { return "key"; };
  int x = 0;
  const auto same = mcl::with_lock(*client, one, [](int& y) -> int& { return y; });
  static_assert(std::is_same_v<decltype(same(x)), int&>);
  EXPECT_EQ(&same(x), &x);
  const auto nothing = mcl::with_lock(*client, one, [](int& y) { ++y; });
  static_assert(std::is_void_v<decltype(nothing(x))>);
  nothing(x);
  EXPECT_EQ(x, 1);
}

TEST_F(Decorators, OverloadedGenericAndMutableCallables) {
  struct Overloaded {
    int operator()(int) const { return 1; }
    std::string operator()(const std::string&) const { return "text"; }
  };
  const auto key = [](const auto&...) { return std::string("key"); };
  const auto overloaded = mcl::with_lock(*client, key, Overloaded{});
  EXPECT_EQ(overloaded(1), 1);
  EXPECT_EQ(overloaded(std::string()), "text");
  const auto generic =
      mcl::with_lock(*client, key, [](const auto&... all) { return sizeof...(all); });
  EXPECT_EQ(generic(1, 2.0, "three"), 3U);
  auto counting = mcl::with_lock(*client, key, [n = 0]() mutable { return ++n; });
  EXPECT_EQ(counting(), 1);
  EXPECT_EQ(counting(), 2);
  static_assert(!std::is_invocable_v<const decltype(counting)&>);
  static_assert(!std::is_invocable_v<decltype(overloaded)&, std::nullptr_t*>);
}

TEST_F(Decorators, ALeaseIsGivenToThoseWhoAskForIt) {
  const auto key = [](int) { return "key"; };
  const auto write = mcl::with_lock(*client, key, [](const mcl::Lease& lease, int x) {
    EXPECT_TRUE(lease.owns_lock());
    EXPECT_TRUE(lease.fencing_token());
    EXPECT_GT(lease.remaining(), 1s);
    EXPECT_FALSE(lease.lost().stop_requested());
    return x;
  });
  EXPECT_EQ(write(5), 5);
}

TEST_F(Decorators, NulloptAndDontLockRunUnlocked) {
  const auto no_key = [](bool lock) -> std::optional<std::string_view> {
    if (!lock) return std::nullopt;
    return "key";
  };
  const auto throws = [](bool lock) -> std::string {
    if (!lock) throw mcl::DontLock{};
    return "key";
  };
  const auto held = [](const mcl::Lease& lease, bool) { return lease.owns_lock(); };
  EXPECT_TRUE(mcl::with_lock(*client, no_key, held)(true));
  EXPECT_FALSE(mcl::with_lock(*client, no_key, held)(false));
  EXPECT_TRUE(mcl::with_rlock(*client, throws, held)(true));
  EXPECT_FALSE(mcl::with_rlock(*client, throws, held)(false));
  EXPECT_FALSE(mcl::with_zlock<Conflict>(*client, throws, held)(false));
}

TEST_F(Decorators, AnEmptyKeyIsAnError) {
  bool ran = false;
  const auto run = [&] { ran = true; };
  EXPECT_THROW(mcl::with_lock(
                   *client, [] { return ""; }, run)(),
               mcl::InvalidKey);
  EXPECT_THROW(mcl::with_lock(
                   *client, []() -> const char* { return nullptr; }, run)(),
               mcl::InvalidKey);
  EXPECT_FALSE(ran);
}

TEST_F(Decorators, TheCallablesExceptionLeavesUnchangedAndTheLockIsFree) {
  const auto key = [] { return "key"; };
  const auto fail = mcl::with_lock(*client, key, []() -> int { throw Busy{}; });
  EXPECT_THROW(fail(), Busy);
  EXPECT_TRUE(is_free("key"));
  const auto zfail = mcl::with_zlock<Conflict>(*client, key, []() -> int { throw Busy{}; });
  EXPECT_THROW(zfail(), Busy);
  EXPECT_TRUE(is_free("key"));
}

TEST_F(Decorators, ALostLeaseIsToldToTheCaller) {
  const auto key = [] { return "key"; };
  const auto flush = [&] { server.ask("flush_all"); };
  EXPECT_THROW(mcl::with_lock(*client, key, flush)(), mcl::LeaseLost);
  EXPECT_NO_THROW(mcl::with_zlock<Conflict>(*client, key, flush)());
}

TEST_F(Decorators, TheEnvironmentNamesTheServers) {
  setenv("MEMCACHEDLOCK_SERVERS", server.address().c_str(), 1);
  const auto key = [](int) { return "key"; };
  const auto twice = [](int x) { return 2 * x; };
  EXPECT_EQ(mcl::with_lock(key, twice)(2), 4);
  EXPECT_EQ(mcl::with_rlock(key, twice, 10s, 20ms)(3), 6);
  EXPECT_EQ((mcl::with_zlock<Conflict, Busy>(key, twice, 10s)(4)), 8);
  setenv("MEMCACHEDLOCK_SERVERS", "127.0.0.1:0", 1);
  EXPECT_THROW(mcl::with_lock(key, twice)(2), mcl::InvalidServers);
  EXPECT_EQ(mcl::servers_from_environment(), "127.0.0.1:0");
  unsetenv("MEMCACHEDLOCK_SERVERS");
  EXPECT_EQ(mcl::servers_from_environment(), "127.0.0.1:11211");
}

TEST_F(Decorators, WrappedCallablesAreCopiedAndCalledFromManyThreads) {
  const auto key = [](int&) { return "key"; };
  const auto write = mcl::with_lock(*client, key, [](int& x) { x = x + 1; });
  int x = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, copy = write] {
      for (int round = 0; round < 50; ++round) copy(x);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(x, 200);
}

TEST_F(Decorators, RlockEntersAgain) {
  const auto key = [](int) { return "key"; };
  std::function<int(int)> factorial;
  factorial =
      mcl::with_rlock(*client, key, [&](int n) { return n < 2 ? 1 : n * factorial(n - 1); });
  EXPECT_EQ(factorial(5), 120);
  EXPECT_EQ(recorder->count(mcl::EventKind::released), 1);
}

TEST_F(Decorators, ZlockRunsAgainOnConflictAndKeepsTheArguments) {
  int runs = 0;
  const auto key = [](const std::string&) { return "key"; };
  const auto write = mcl::with_zlock<Conflict>(*client, key, [&](std::string text) {
    if (++runs < 3) throw Conflict("again");
    return text;
  });
  EXPECT_EQ(write(std::string("kept for the last run")), "kept for the last run");
  EXPECT_EQ(runs, 3);
  EXPECT_EQ(recorder->count(mcl::EventKind::conflict), 2);
  EXPECT_EQ(recorder->count(mcl::EventKind::retried), 2);
  EXPECT_TRUE(is_free("key"));
}

TEST_F(Decorators, ZlockLetsTheLastConflictOut) {
  int runs = 0;
  const auto key = [] { return "key"; };
  mcl::ZLockOptions options;
  options.max_attempts = 5;
  const auto write = mcl::with_zlock<Busy, Conflict>(
      *client, key, [&] { throw Conflict(std::to_string(++runs)); }, options);
  try {
    write();
    FAIL();
  } catch (const Conflict& conflict) {
    EXPECT_STREQ(conflict.what(), "5");
  }
  EXPECT_TRUE(is_free("key"));
}

TEST_F(Decorators, LockableTakesALockByValueOrByReference) {
  std::timed_mutex mutex;
  const auto by_reference = mcl::with_lockable(
      [&](const std::string&) -> std::timed_mutex& { return mutex; }, [](int) { return "key"; },
      [&](const mcl::Lease& lease, int number) {
        EXPECT_FALSE(lease.owns_lock());  // it has none
        bool taken = true;
        std::thread([&] { taken = !mutex.try_lock(); }).join();
        return taken ? number : -1;
      });
  EXPECT_EQ(by_reference(4), 4);
  const auto by_value = mcl::with_lockable(
      [&](const std::string& key) { return mcl::Lock(*client, key); }, [](int) { return "key"; },
      [&](const mcl::Lease& lease, int number) { return lease.owns_lock() ? number : -1; });
  EXPECT_EQ(by_value(5), 5);
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

TEST_F(Decorators, LockableReleasesWhatItsCallableLeavesByAnException) {
  std::timed_mutex mutex;
  const auto throws =
      mcl::with_lockable([&](const std::string&) -> std::timed_mutex& { return mutex; },
                         [] { return "key"; }, [] { throw std::logic_error("mine"); });
  EXPECT_THROW(throws(), std::logic_error);
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

TEST_F(Decorators, LockableWaitsNoLongerThanItWasTold) {
  mcl::Lock holder(*client, "key");
  holder.lock();
  int runs = 0;
  const auto write =
      mcl::with_lockable([&](const std::string& key) { return mcl::Lock(*client, key); },
                         [] { return "key"; }, [&] { ++runs; }, 30ms);
  try {
    write();
    ADD_FAILURE() << "ran";
  } catch (const mcl::TimedOut& error) {
    EXPECT_EQ(error.key(), "key");
  }
  holder.unlock();
  write();
  EXPECT_EQ(runs, 1);
}

TEST_F(Decorators, LockableTellsOfALostLease) {
  const auto write = mcl::with_lockable(
      [&](const std::string& key) { return mcl::Lock(*client, key, {.timeout = 20ms}); },
      [] { return "key"; },
      [](const mcl::Lease& lease) { EXPECT_TRUE(eventually([&] { return !lease.owns_lock(); })); });
  EXPECT_THROW(write(), mcl::LeaseLost);
}

TEST_F(Decorators, AnyOfNamesSeveralConflicts) {
  using Any = mcl::AnyOf<std::out_of_range, std::domain_error>;
  int runs = 0;
  const auto write = mcl::with_zlock<Any>(
      *client, [] { return "key"; },
      [&] {
        if (++runs == 1) throw std::domain_error("first");
        if (runs == 2) throw std::out_of_range("second");
        if (runs == 3) throw std::logic_error("no conflict");
      });
  EXPECT_THROW(write(), std::logic_error);
  EXPECT_EQ(runs, 3);
}

// What every decorator promises, over all three.

struct ByLock {
  template <class... Arguments>
  static auto wrap(Arguments&&... arguments) {
    return mcl::with_lock(std::forward<Arguments>(arguments)...);
  }
  using Options = mcl::LockOptions;
};
struct ByRLock : ByLock {
  template <class... Arguments>
  static auto wrap(Arguments&&... arguments) {
    return mcl::with_rlock(std::forward<Arguments>(arguments)...);
  }
};
struct ByZLock {
  template <class... Arguments>
  static auto wrap(Arguments&&... arguments) {
    return mcl::with_zlock<Conflict>(std::forward<Arguments>(arguments)...);
  }
  using Options = mcl::ZLockOptions;
};

template <class Decorator>
class EveryDecorator : public Decorators {
 protected:
  static std::string key() { return "key"; }
  template <class F>
  auto wrap(F&& callable, typename Decorator::Options options = {}) {
    return Decorator::wrap(*client, key, std::forward<F>(callable), std::move(options));
  }
};
using AllDecorators = testing::Types<ByLock, ByRLock, ByZLock>;
TYPED_TEST_SUITE(EveryDecorator, AllDecorators);

TYPED_TEST(EveryDecorator, KeepsThreadsApart) {
  constexpr int threads = 4;
  constexpr int rounds = 25;
  int counter = 0;  // no atomic: a sanitizer sees whether two are inside
  const auto count = this->wrap([&] { ++counter; });
  std::vector<std::thread> all;
  for (int i = 0; i < threads; ++i) {
    all.emplace_back([&] {
      for (int round = 0; round < rounds; ++round) count();
    });
  }
  for (std::thread& thread : all) thread.join();
  EXPECT_EQ(counter, threads * rounds);
}

TYPED_TEST(EveryDecorator, GivesTheLeaseAndFreesTheLock) {
  mcl::FencingToken last;
  const auto write = this->wrap([&](const mcl::Lease& lease) {
    EXPECT_TRUE(lease.owns_lock());
    EXPECT_GT(lease.remaining(), 0ms);
    EXPECT_LT(last, lease.fencing_token());
    last = lease.fencing_token();
    EXPECT_FALSE(this->is_free("key"));
  });
  write();
  EXPECT_TRUE(this->is_free("key"));
  write();
}

TYPED_TEST(EveryDecorator, FreesTheLockAfterAnException) {
  const auto write = this->wrap([] { throw Busy(); });
  EXPECT_THROW(write(), Busy);
  EXPECT_TRUE(this->is_free("key"));
}

TYPED_TEST(EveryDecorator, RenewsWhileTheCallableRuns) {
  typename TypeParam::Options options;
  options.timeout = 3s;  // a slow machine may pause for long
  options.renew = true;
  if constexpr (requires { options.reservation; }) options.reservation = 100ms;
  const auto write = this->wrap(
      [&](const mcl::Lease& lease) {
        EXPECT_TRUE(
            eventually([&] { return this->recorder->count(mcl::EventKind::extended) >= 3; }));
        return lease.owns_lock();
      },
      options);
  EXPECT_TRUE(write());
}

TYPED_TEST(EveryDecorator, KeepsToItsKey) {
  const auto write = this->wrap([&] { return this->is_free("another"); });
  EXPECT_TRUE(write());
}

TYPED_TEST(EveryDecorator, WithoutMemcachedSaysSoOrRunsUnlocked) {
  this->server.stop();
  bool ran = false;
  const auto write = this->wrap([&] { ran = true; });
  if constexpr (std::is_same_v<TypeParam, ByZLock>) {
    write();
    EXPECT_TRUE(ran);
    EXPECT_EQ(this->recorder->count(mcl::EventKind::proceeded_unlocked), 1);
  } else {
    EXPECT_THROW(write(), mcl::Unavailable);
    EXPECT_FALSE(ran);
  }
}

}  // namespace
