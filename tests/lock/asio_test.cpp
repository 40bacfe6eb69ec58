// Locks awaited by coroutines.
#include "memcachedlock/asio.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"
#include "support/between_processes.hpp"
#include "support/local_server.hpp"
#include "support/queued.hpp"
#include "support/recorder.hpp"

namespace mcl = memcachedlock;
namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

class Asio : public testing::Test {
 protected:
  /// Runs it in this thread, and throws what it throws.
  void run(asio::awaitable<void> body) {
    std::exception_ptr trouble;
    asio::co_spawn(loop, std::move(body),
                   [&](const std::exception_ptr& thrown) { trouble = thrown; });
    loop.restart();
    loop.run();
    if (trouble) std::rethrow_exception(trouble);
  }
  [[nodiscard]] auto executor() { return loop.get_executor(); }
  /// A process that holds the lock of "key" until somebody stands in its queue.
  [[nodiscard]] pid_t held_until_one_waits() const {
    const pid_t holder = in_child([&] {
      const mcl::MemcachedClient own(server.address());
      mcl::Lock lock(own, "key");
      lock.lock();
      return eventually([&] { return queued(server) == 1; }) &&
             lock.release() == mcl::Release::released;
    });
    EXPECT_TRUE(eventually([&] { return server.get("memcachedlock:key") != ""; }));
    return holder;
  }

  LocalServer server;
  asio::io_context loop;
  const std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  const mcl::MemcachedClient client{server.address(), {.observer = recorder}};
};

std::size_t threads() {
  const std::filesystem::directory_iterator all("/proc/self/task");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

TEST_F(Asio, ACoroutineLocksAndReleases) {
  run([&]() -> asio::awaitable<void> {
    mcl::Lock lock(client, "key");
    co_await mcl::async_lock(executor(), lock, asio::use_awaitable);
    EXPECT_TRUE(lock.owns_lock());
    EXPECT_TRUE(lock.fencing_token());
    mcl::Lock other(client, "key");
    EXPECT_FALSE(other.try_lock());
    EXPECT_FALSE(co_await mcl::async_try_lock_for(executor(), other, 20ms, asio::use_awaitable));
    EXPECT_EQ(co_await mcl::async_release(executor(), lock, asio::use_awaitable),
              mcl::Release::released);
    EXPECT_FALSE(lock.owns_lock());
    EXPECT_TRUE(co_await mcl::async_try_lock_for(executor(), other, 1h, asio::use_awaitable));
  }());
}

TEST_F(Asio, TheRecordNamesTheThreadThatAcquires) {
  run([&]() -> asio::awaitable<void> {
    mcl::Lock lock(client, "key");
    co_await mcl::async_lock(executor(), lock, asio::use_awaitable);
    const auto status = mcl::inspect(client, "key");
    EXPECT_TRUE(status && status->holders.front().thread == gettid());
  }());
}

// Fault: a lock is handed to one in line whose owner has lost its lease by another thread. Promise:
// nobody waits for the end of a lease that nobody has.
TEST_F(Asio, AHandOverThatCannotBeTakenIsRemoved) {
  const mcl::OwnerId owner = mcl::OwnerId::unique();
  mcl::Lock holder(client, "key", {.timeout = 1h, .interval = 1h});
  holder.lock();
  const int before = recorder->round_trips();
  mcl::RLock waiting(client, "key", {.timeout = 1h, .interval = 1h, .owner = owner});
  std::promise<void> ended;
  mcl::async_lock(executor(), waiting, [&](const std::exception_ptr& trouble) {
    EXPECT_NE(trouble, nullptr);
    ended.set_value();
  });
  std::thread thread([&] { loop.run(); });
  // It looks once more when it has joined the line of its process.
  EXPECT_TRUE(eventually([&] { return recorder->round_trips() == before + 2; }));
  (void)server.ask("flush_all");
  mcl::RLock inside(client, "key",
                    {.timeout = 100ms, .owner = owner, .restart_guard = mcl::RestartGuard::off});
  inside.lock();
  EXPECT_TRUE(eventually([&] { return !inside.owns_lock(); }));
  mcl::Lock another(client, "key", {.timeout = 1h, .restart_guard = mcl::RestartGuard::off});
  EXPECT_TRUE(eventually([&] { return another.try_lock(); }));
  EXPECT_EQ(another.release(), mcl::Release::released);  // to the one in line
  ended.get_future().wait();
  thread.join();
  EXPECT_TRUE(eventually([&] { return server.get("memcachedlock:key").empty(); }));
}

/// Forks in the thread of the event loops, which has just entered the queue.
class ForksWhenContended : public mcl::Observer {
 public:
  explicit ForksWhenContended(std::chrono::milliseconds childs_pause) : pause_(childs_pause) {}
  void on_event(const mcl::Event& event) override {
    if (event.kind == mcl::EventKind::given_up && child == 0) *gave_up = true;
    if (event.kind != mcl::EventKind::contended || forked_.exchange(true)) return;
    child = fork();
    if (child == 0) std::this_thread::sleep_for(pause_);
  }
  pid_t child = -1;
  Shared<std::atomic<bool>> gave_up;

 private:
  const std::chrono::milliseconds pause_;
  std::atomic<bool> forked_{false};
};

// Promise: a child that gives up a wait of its parent leaves the parent's entry alone.
TEST_F(Asio, AForkedChildGivesUpNothingOfItsParents) {
  const pid_t holder = held_until_one_waits();
  const auto forks = std::make_shared<ForksWhenContended>(4'500ms);
  const mcl::MemcachedClient own(server.address(), {.observer = forks});
  // Where contention was seen lately, a waiter enters the queue at once.
  EXPECT_FALSE(mcl::Lock(client, "key").try_lock());
  mcl::Lock lock(own, "key", {.timeout = 1h});
  bool got = false;
  mcl::async_try_lock_for(executor(), lock, 4s,
                          [&](const std::exception_ptr&, bool held) { got = held; });
  loop.run();
  ASSERT_TRUE(ended_well(holder));
  ASSERT_TRUE(got);
  ASSERT_GT(forks->child, 0);
  EXPECT_TRUE(eventually([&] { return forks->gave_up->load(); }));
  std::this_thread::sleep_for(500ms);  // in which the child's background would have removed it
  EXPECT_FALSE(mcl::Lock(mcl::MemcachedClient(server.address()), "key").try_lock());
  EXPECT_EQ(lock.release(), mcl::Release::released);
  kill(forks->child, SIGKILL);
  int status = 0;
  EXPECT_EQ(waitpid(forks->child, &status, 0), forks->child);
}

TEST_F(Asio, ErrorsComeAsExceptions) {
  run([&]() -> asio::awaitable<void> {
    mcl::Lock lock(client, "key");
    EXPECT_THROW((void)co_await mcl::async_release(executor(), lock, asio::use_awaitable),
                 std::system_error);  // not held
    co_await mcl::async_lock(executor(), lock, asio::use_awaitable);
    EXPECT_THROW(co_await mcl::async_lock(executor(), lock, asio::use_awaitable),
                 std::system_error);  // held already
    lock.unlock();
    server.stop();
    EXPECT_THROW(co_await mcl::async_lock(executor(), lock, asio::use_awaitable), mcl::Unavailable);
    mcl::Lock proceeding(client, "key", {.on_unavailable = mcl::OnUnavailable::proceed});
    co_await mcl::async_lock(executor(), proceeding, asio::use_awaitable);
    EXPECT_FALSE(proceeding.owns_lock());
  }());
}

TEST_F(Asio, AThousandWaitersNeedNoThreadEachAndComeInTurn) {
  constexpr int waiters = 1'000;
  std::vector<int> order;
  bool inside = false;
  mcl::Lock holder(client, "key");
  holder.lock();
  const std::size_t before = threads();
  std::size_t most = 0;
  int asking = 0;
  const auto body = [&](int number) -> asio::awaitable<void> {
    mcl::Lock lock(client, "key");
    ++asking;
    co_await mcl::async_lock(executor(), lock, asio::use_awaitable);
    EXPECT_FALSE(std::exchange(inside, true));
    order.push_back(number);
    most = std::max(most, threads());
    inside = false;
    (void)co_await mcl::async_release(executor(), lock, asio::use_awaitable);
  };
  for (int i = 0; i < waiters; ++i) asio::co_spawn(loop, body(i), asio::detached);
  asio::post(loop, [&] { holder.unlock(); });  // when all have asked
  const long reads_before = server.counted({"cmd_get"});
  loop.run();
  EXPECT_EQ(asking, waiters);
  EXPECT_EQ(order.size(), static_cast<std::size_t>(waiters));
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_LE(most, before + 2);
  // A hand-over each, and not a crowd that polls.
  EXPECT_LT(server.counted({"cmd_get"}) - reads_before, 10 * waiters);
}

TEST_F(Asio, ThreadsAndCoroutinesShareOneQueue) {
  std::atomic<int> inside{0};
  int count = 0;  // under the lock
  const auto work = [&] {
    EXPECT_EQ(inside.fetch_add(1), 0);
    ++count;
    inside.fetch_sub(1);
  };
  std::vector<std::thread> all;
  for (int i = 0; i < 4; ++i) {
    all.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        mcl::Lock lock(client, "key");
        lock.lock();
        work();
      }
    });
  }
  const auto body = [&]() -> asio::awaitable<void> {
    for (int round = 0; round < 100; ++round) {
      mcl::Lock lock(client, "key");
      co_await mcl::async_lock(executor(), lock, asio::use_awaitable);
      work();
      (void)co_await mcl::async_release(executor(), lock, asio::use_awaitable);
    }
  };
  for (int i = 0; i < 4; ++i) asio::co_spawn(loop, body(), asio::detached);
  loop.run();
  for (std::thread& thread : all) thread.join();
  EXPECT_EQ(count, 800);
}

TEST_F(Asio, ACancelledWaitEndsAndLeavesTheQueue) {
  mcl::Lock holder(client, "key");
  std::thread([&] { holder.lock(); }).join();
  for (const int before : {0, 1}) {
    asio::cancellation_signal signal;
    std::exception_ptr thrown;
    mcl::Lock lock(client, "key");
    mcl::async_lock(executor(), lock,
                    asio::bind_cancellation_slot(
                        signal.slot(), [&](const std::exception_ptr& what) { thrown = what; }));
    EXPECT_TRUE(
        eventually([&] { return recorder->count(mcl::EventKind::contended) == 1 + before; }));
    signal.emit(asio::cancellation_type::terminal);
    loop.restart();
    loop.run();
    ASSERT_TRUE(thrown);
    EXPECT_THROW(std::rethrow_exception(thrown), mcl::Cancelled);
    EXPECT_FALSE(lock.owns_lock());
    signal.emit(asio::cancellation_type::terminal);  // too late: nothing
  }
  EXPECT_TRUE(eventually([&] { return queued(server) == 0; }));
  EXPECT_EQ(holder.release(), mcl::Release::released);
}

// Nobody but the thread of the event loops reads what the process is told.
TEST_F(Asio, CoroutinesAreToldWithoutAThreadOfTheirOwn) {
  constexpr int waiters = 20;
  const pid_t holder = held_until_one_waits();
  const std::size_t before = threads();
  int got = 0;
  std::size_t most = 0;
  for (int i = 0; i < waiters; ++i) {
    asio::co_spawn(
        loop,
        [&]() -> asio::awaitable<void> {
          mcl::Lock lock(client, "key");
          co_await mcl::async_lock(executor(), lock, asio::use_awaitable);
          ++got;
          most = std::max(most, threads());
          co_await mcl::async_release(executor(), lock, asio::use_awaitable);
        },
        asio::detached);
  }
  loop.run();
  EXPECT_EQ(got, waiters);
  EXPECT_LE(most, before + 5);
  EXPECT_TRUE(ended_well(holder));
  // One stands for all in the record; it may hold before its entering is answered.
  EXPECT_LE(recorder->count(mcl::GrantKind::told) + recorder->count(mcl::GrantKind::found), 1);
}

TEST_F(Asio, ATimerMayEndTheWait) {
  using asio::experimental::awaitable_operators::operator||;
  mcl::Lock holder(client, "key");
  holder.lock();
  run([&]() -> asio::awaitable<void> {
    mcl::Lock lock(client, "key");
    asio::steady_timer timer(loop, 20ms);
    const auto first = co_await (mcl::async_lock(executor(), lock, asio::use_awaitable) ||
                                 timer.async_wait(asio::use_awaitable));
    EXPECT_EQ(first.index(), 1U);
    EXPECT_FALSE(lock.owns_lock());
  }());
}

TEST_F(Asio, ACoroutineThatChangesThreadsKeepsItsOwnership) {
  asio::thread_pool one(1);
  asio::thread_pool other(1);
  auto body = [&]() -> asio::awaitable<void> {
    const mcl::LockOptions options{.owner = mcl::OwnerId::unique()};
    mcl::RLock outer(client, "key", options);
    co_await mcl::async_lock(one.get_executor(), outer, asio::use_awaitable);
    const auto here = std::this_thread::get_id();
    const auto token = outer.fencing_token();

    co_await asio::co_spawn(
        other,
        [&]() -> asio::awaitable<void> {
          EXPECT_NE(std::this_thread::get_id(), here);
          mcl::RLock inner(client, "key", options);
          inner.lock();
          EXPECT_EQ(inner.fencing_token(), token);
          co_return;
        },
        asio::use_awaitable);
    const long commands = server.counted({"cmd_get", "cmd_set"});
    mcl::RLock inner(client, "key", options);
    co_await mcl::async_lock(other.get_executor(), inner, asio::use_awaitable);
    EXPECT_EQ(inner.fencing_token(), token);
    EXPECT_EQ(server.counted({"cmd_get", "cmd_set"}), commands);  // it entered again
    EXPECT_EQ(co_await mcl::async_release(other.get_executor(), inner, asio::use_awaitable),
              mcl::Release::released);
    EXPECT_TRUE(outer.owns_lock());

    mcl::RLock foreign(client, "key", {.owner = mcl::OwnerId::unique()});
    EXPECT_FALSE(
        co_await mcl::async_try_lock_for(one.get_executor(), foreign, 10ms, asio::use_awaitable));
    EXPECT_EQ(co_await mcl::async_release(one.get_executor(), outer, asio::use_awaitable),
              mcl::Release::released);
    EXPECT_TRUE(
        co_await mcl::async_try_lock_for(one.get_executor(), foreign, 1h, asio::use_awaitable));
  };
  asio::co_spawn(one, body(), asio::use_future).get();
}

TEST_F(Asio, OwnersOfTheirOwnWaitInTheQueueToo) {
  constexpr int waiters = 200;
  std::vector<int> order;
  mcl::RLock holder(client, "key");
  holder.lock();
  const auto body = [&](int number) -> asio::awaitable<void> {
    mcl::RLock lock(client, "key", {.owner = mcl::OwnerId::unique()});
    co_await mcl::async_lock(executor(), lock, asio::use_awaitable);
    order.push_back(number);
    (void)co_await mcl::async_release(executor(), lock, asio::use_awaitable);
  };
  for (int i = 0; i < waiters; ++i) asio::co_spawn(loop, body(i), asio::detached);
  asio::post(loop, [&] { holder.unlock(); });
  loop.run();
  EXPECT_EQ(order.size(), static_cast<std::size_t>(waiters));
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_F(Asio, AnOwnerThatGetsInElsewhereEndsTheWait) {
  mcl::RLock holder(client, "key");
  holder.lock();
  run([&]() -> asio::awaitable<void> {
    const mcl::LockOptions options{.owner = mcl::OwnerId::unique()};
    mcl::RLock first(client, "key", options);
    mcl::RLock second(client, "key", options);
    asio::co_spawn(
        loop,
        [&]() -> asio::awaitable<void> {
          co_await mcl::async_lock(executor(), second, asio::use_awaitable);
        },
        asio::detached);
    co_await asio::post(asio::use_awaitable);
    holder.unlock();
    co_await mcl::async_lock(executor(), first, asio::use_awaitable);
    while (!second.owns_lock()) co_await asio::post(asio::use_awaitable);
    EXPECT_EQ(first.fencing_token(), second.fencing_token());
  }());
}

/// A pool's executor that is slow to come back when it has posted. Of the kind from before Boost
/// 1.74, which still are in use.
class SlowToReturn {
 public:
  struct Watch {
    std::atomic<bool> context_gone = false;
    std::atomic<bool> gone_too_early = false;
    std::atomic<bool> returned = false;
  };
  SlowToReturn(asio::thread_pool& pool, Watch& watch) : pool_(&pool), watch_(&watch) {}

  [[nodiscard]] asio::execution_context& context() const noexcept { return *pool_; }
  void on_work_started() const noexcept {}
  void on_work_finished() const noexcept {}
  template <class Function, class Allocator>
  void post(Function&& function, const Allocator&) const {
    Watch& watch = *watch_;
    asio::post(*pool_, std::forward<Function>(function));
    // In vain, as it should be: a pause, in which the pool would be gone.
    const auto until = std::chrono::steady_clock::now() + 100ms;
    while (!watch.context_gone && std::chrono::steady_clock::now() < until) {
      std::this_thread::yield();
    }
    watch.gone_too_early = watch.context_gone.load();
    watch.returned = true;
  }
  template <class Function, class Allocator>
  void dispatch(Function&& function, const Allocator& allocator) const {
    post(std::forward<Function>(function), allocator);
  }
  template <class Function, class Allocator>
  void defer(Function&& function, const Allocator& allocator) const {
    post(std::forward<Function>(function), allocator);
  }
  bool operator==(const SlowToReturn&) const noexcept = default;

 private:
  asio::thread_pool* pool_;
  Watch* watch_;
};

// A completion may destroy the context at once, without join(): the background thread that called
// him has then left it.
TEST_F(Asio, TheContextMayGoOnceTheCompletionHasRun) {
  mcl::Lock lock(client, "key");
  SlowToReturn::Watch watch;
  {
    asio::thread_pool pool(1);
    std::promise<bool> called;
    mcl::async_try_lock_for(SlowToReturn(pool, watch), lock, 0s,
                            [&](const std::exception_ptr&, bool held) { called.set_value(held); });
    EXPECT_TRUE(called.get_future().get());
  }
  watch.context_gone = true;
  EXPECT_TRUE(eventually([&] { return watch.returned.load(); }));
  EXPECT_FALSE(watch.gone_too_early);
}

TEST_F(Asio, AnyTokenWillDo) {
  asio::thread_pool pool(1);
  mcl::Lock lock(client, "key");
  mcl::async_lock(pool.get_executor(), lock, asio::use_future).get();
  EXPECT_TRUE(lock.owns_lock());
  EXPECT_EQ(mcl::async_release(pool.get_executor(), lock, asio::use_future).get(),
            mcl::Release::released);
  std::promise<bool> called;
  mcl::async_try_lock_for(pool.get_executor(), lock, 0s,
                          [&](const std::exception_ptr&, bool held) { called.set_value(held); });
  EXPECT_TRUE(called.get_future().get());
}

// Promise: a coroutine is no thread: the lock object is the owner, unless another is given.
TEST_F(Asio, CoroutinesExcludeEachOther) {
  struct Conflict {};
  for (const int threads_used : {1, 4}) {
    asio::thread_pool pool(static_cast<std::size_t>(threads_used));
    std::atomic<int> inside{0};
    std::atomic<int> most{0};
    std::atomic<int> done{0};
    const auto body = [&](auto make) -> asio::awaitable<void> {
      const auto own = co_await asio::this_coro::executor;
      auto lock = make();
      co_await mcl::async_lock(own, lock, asio::use_awaitable);
      most = std::max(most.load(), ++inside);
      asio::steady_timer work(own, 30ms);
      co_await work.async_wait(asio::use_awaitable);
      --inside;
      co_await mcl::async_release(own, lock, asio::use_awaitable);
      ++done;
    };
    for (int i = 0; i < 3; ++i) {
      asio::co_spawn(pool, body([&] { return mcl::RLock(client, "key"); }), asio::detached);
      asio::co_spawn(pool, body([&] { return mcl::ZLock<Conflict>(client, "key"); }),
                     asio::detached);
    }
    pool.join();
    EXPECT_EQ(most, 1);
    EXPECT_EQ(done, 6);
  }
}

TEST_F(Asio, AnObjectAndANamedOwnerEnterAgain) {
  run([this]() -> asio::awaitable<void> {
    mcl::RLock lock(client, "key");
    co_await mcl::async_lock(executor(), lock, asio::use_awaitable);
    co_await mcl::async_lock(executor(), lock, asio::use_awaitable);
    EXPECT_EQ(lock.release(), mcl::Release::released);
    EXPECT_TRUE(lock.owns_lock());
    EXPECT_EQ(lock.release(), mcl::Release::released);
    const mcl::LockOptions shared{.owner = mcl::OwnerId::unique()};
    mcl::RLock first(client, "key", shared);
    mcl::RLock second(client, "key", shared);
    co_await mcl::async_lock(executor(), first, asio::use_awaitable);
    co_await mcl::async_lock(executor(), second, asio::use_awaitable);
    EXPECT_TRUE(first.owns_lock() && second.owns_lock());
  }());
}

// Two that wait with one owner: the second gets in by the first.
TEST_F(Asio, OneOwnersWaitersComeInTogether) {
  mcl::Lock holder(client, "key");
  holder.lock();
  const mcl::LockOptions shared{.interval = 50s, .owner = mcl::OwnerId::unique()};
  mcl::RLock first(client, "key", shared);
  mcl::RLock second(client, "key", shared);
  int in = 0;
  const auto done = [&](const std::exception_ptr& trouble) {
    EXPECT_FALSE(trouble);
    ++in;
  };
  mcl::async_lock(executor(), first, done);
  mcl::async_lock(executor(), second, done);
  ASSERT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) == 2; }));
  holder.unlock();
  loop.run();
  EXPECT_EQ(in, 2);
}

// Fault: the loop is destroyed while coroutines wait. Promise: they end with it, their frames too,
// and nothing of them is used afterwards.
TEST_F(Asio, WaitsEndWithTheLoop) {
  struct Frame {
    explicit Frame(int& number) : count(number) { ++count; }
    ~Frame() { --count; }
    int& count;
  };
  mcl::Lock holder(client, "key");
  holder.lock();
  int frames = 0;
  {
    asio::io_context short_lived;
    const auto wait = [&](const char* key) -> asio::awaitable<void> {
      const Frame frame(frames);
      mcl::Lock lock(client, key);
      co_await mcl::async_lock(short_lived.get_executor(), lock, asio::use_awaitable);
      asio::steady_timer never(short_lived, 1h);
      co_await never.async_wait(asio::use_awaitable);
    };
    for (int i = 0; i < 3; ++i) asio::co_spawn(short_lived, wait("key"), asio::detached);
    asio::co_spawn(short_lived, wait("free"), asio::detached);  // which gets it
    short_lived.poll();
    ASSERT_TRUE(eventually([&] {
      short_lived.poll();
      return recorder->count(mcl::EventKind::contended) == 3 &&
             recorder->count(mcl::EventKind::acquired) == 2;
    }));
    EXPECT_EQ(frames, 4);
  }
  EXPECT_EQ(frames, 0);
  holder.unlock();
  // What the coroutines had, or were about to get, is free.
  mcl::Lock next(client, "key");
  EXPECT_TRUE(next.try_lock_for(60s));
  EXPECT_TRUE(mcl::Lock(client, "free").try_lock_for(60s));
}

// Fault: a thread hands the lock to a coroutine whose loop is destroyed at the same moment.
TEST_F(Asio, AHandOverToALoopThatGoesIsNotKept) {
  for (int round = 0; round < 30; ++round) {
    mcl::Lock holder(client, "key");
    holder.lock();
    const int before = recorder->count(mcl::EventKind::contended);
    {
      auto short_lived = std::make_unique<asio::io_context>();
      mcl::Lock lock(client, "key");
      mcl::async_lock(short_lived->get_executor(), lock, [](const std::exception_ptr&) {});
      ASSERT_TRUE(eventually([&] { return recorder->count(mcl::EventKind::contended) > before; }));
      std::thread release;
      if (round % 2 == 0) {
        holder.unlock();
      } else {
        release = std::thread([&] { holder.unlock(); });
      }
      short_lived.reset();
      if (release.joinable()) release.join();
    }
    ASSERT_TRUE(holder.try_lock_for(10s)) << round;  // its lease would be 30 s
    holder.unlock();
  }
}

// Fault: an exception leaves a coroutine between async_lock() and async_release(), and the server
// hangs. Promise: the loop does not wait for the release.
TEST_F(Asio, ADestructorOnALoopHandsItsReleaseOver) {
  const mcl::MemcachedClient patient(server.address(), {.operation_timeout = 20min});
  std::thread in_time([&] {
    EXPECT_THROW(run([&]() -> asio::awaitable<void> {
                   mcl::RLock lock(patient, "key");
                   co_await mcl::async_lock(executor(), lock, asio::use_awaitable);
                   co_await mcl::async_lock(executor(), lock, asio::use_awaitable);
                   server.pause();
                   throw std::runtime_error("out of here");
                 }()),
                 std::runtime_error);
  });
  in_time.join();  // within 20 minutes
  server.resume();
  EXPECT_TRUE(mcl::Lock(client, "key").try_lock_for(20s));
}

// What is wrong with one key is that key's alone; what has been entered is entered without a
// request.
TEST_F(Asio, OneKeysErrorIsNoOthers) {
  struct Conflict {};
  server.ask("set memcachedlock:bad 0 0 5\r\nhello");
  mcl::Lock bad(client, "bad");
  mcl::ZLock<Conflict> good(client, "good");
  int ended = 0;
  mcl::async_lock(executor(), bad, [&](const std::exception_ptr& trouble) {
    EXPECT_TRUE(trouble);
    ++ended;
  });
  mcl::async_lock(executor(), good, [&](const std::exception_ptr& trouble) {
    EXPECT_FALSE(trouble);
    ++ended;
  });
  loop.run();
  EXPECT_EQ(ended, 2);
  EXPECT_TRUE(good.owns_lock());

  const mcl::MemcachedClient hasty(server.address(), {.operation_timeout = 300ms});
  const mcl::LockOptions owner{.owner = mcl::OwnerId::unique()};
  mcl::RLock outer(hasty, "key", owner);
  outer.lock();
  mcl::RLock inner(hasty, "key", owner);
  mcl::Lock other(hasty, "other");
  server.pause();
  loop.restart();
  mcl::async_lock(executor(), other,
                  [](const std::exception_ptr& trouble) { EXPECT_TRUE(trouble); });
  mcl::async_lock(executor(), inner,
                  [](const std::exception_ptr& trouble) { EXPECT_FALSE(trouble); });
  loop.run();
  EXPECT_TRUE(inner.owns_lock());
  server.resume();
}

// Fault: the process ends by exit() right after coroutines have dropped their locks, and while one
// waits in the queue. Promise: nobody has to wait for the ends of leases.
TEST_F(Asio, WhatWasDroppedBeforeExitIsFree) {
  mcl::Lock holder(client, "held");
  holder.lock();
  EXPECT_TRUE(ended_well(in_child([&]() -> bool {
    const auto mine = std::make_shared<Recorder>();
    const mcl::MemcachedClient own(server.address(), {.observer = mine});
    {
      asio::io_context short_lived;
      for (int i = 0; i < 10; ++i) {
        asio::co_spawn(
            short_lived,
            [&own, i]() -> asio::awaitable<void> {
              mcl::Lock lock(own, "k" + std::to_string(i));
              co_await mcl::async_lock(co_await asio::this_coro::executor, lock,
                                       asio::use_awaitable);
              throw std::runtime_error("out of here");
            },
            [](const std::exception_ptr&) {});
      }
      mcl::Lock waiting(own, "held");
      mcl::async_lock(short_lived.get_executor(), waiting, [](const std::exception_ptr&) {});
      (void)eventually([&] {
        short_lived.poll();
        return mine->count(mcl::EventKind::acquired) == 10 && queued(server, "held") == 1;
      });
      short_lived.poll();
    }
    std::exit(0);
  })));
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(mcl::Lock(client, "k" + std::to_string(i)).try_lock()) << i;
  }
  EXPECT_EQ(queued(server, "held"), 0);
}

/// What can't be moved is copied.
struct Kept {
  const std::shared_ptr<int> own;
  bool& called;
  void operator()(const std::exception_ptr& /*trouble*/) const { called = true; }
};

// Promise: no copy of a handler outlives its call in a thread of the library.
TEST_F(Asio, AHandlerDiesWithItsCall) {
  const auto own = std::make_shared<int>(0);
  mcl::Lock lock(client, "key");
  bool called = false;
  mcl::async_lock(executor(), lock, Kept{own, called});
  loop.run();
  EXPECT_TRUE(called);
  EXPECT_EQ(own.use_count(), 1);
}

}  // namespace
