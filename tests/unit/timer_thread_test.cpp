// The background threads: when a task is called, and with which others.
#include "base/timer_thread.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <vector>

namespace memcachedlock::detail {
namespace {

using namespace std::chrono_literals;
using Times = TimerThread::Times;

struct Task : TimerThread::Task {
  std::optional<Times> on_time(std::chrono::milliseconds limit) override {
    limits.push_back(limit);
    ++calls;
    return call ? call() : std::nullopt;
  }
  void on_stop() override { ++stops; }
  [[nodiscard]] const void* group() const noexcept override { return of_group; }
  std::vector<std::optional<Times>> on_time_together(const TimerThread::Batch& batch,
                                                     std::chrono::milliseconds limit) override {
    batches.push_back(batch.size());
    return TimerThread::Task::on_time_together(batch, limit);
  }

  std::function<std::optional<Times>()> call;
  const void* of_group = nullptr;
  std::atomic<int> calls{0};
  std::atomic<int> stops{0};
  std::vector<std::chrono::milliseconds> limits;  // to be read when the thread has stopped
  std::vector<std::size_t> batches;
};

class TimerThreads : public testing::Test {
 protected:
  ~TimerThreads() override { thread.stop(true); }
  static Times at(Clock::time_point time) { return {time, time}; }
  /// Keeps the thread busy until the promise is set; returns when it is busy.
  std::shared_ptr<Task> occupy(std::shared_future<void> until) {
    auto busy = std::make_shared<Task>();
    auto begun = std::make_shared<std::promise<void>>();
    busy->call = [begun, until]() -> std::optional<Times> {
      begun->set_value();
      until.wait();
      return std::nullopt;
    };
    EXPECT_TRUE(thread.schedule(busy, at(Clock::now())));
    begun->get_future().wait();
    return busy;
  }
  /// All tasks that are due by now have been called.
  void drain() {
    auto reached = std::make_shared<std::promise<void>>();
    auto last = std::make_shared<Task>();
    last->call = [reached]() -> std::optional<Times> {
      reached->set_value();
      return std::nullopt;
    };
    EXPECT_TRUE(thread.schedule(last, at(Clock::now())));
    reached->get_future().wait();
  }
  TimerThread thread;
};

TEST_F(TimerThreads, CallATaskAgainWhenItSays) {
  auto task = std::make_shared<Task>();
  auto third = std::make_shared<std::promise<void>>();
  task->call = [self = task.get(), third]() -> std::optional<Times> {
    if (self->calls < 3) return at(Clock::now() + 1ms);
    third->set_value();
    return std::nullopt;
  };
  EXPECT_TRUE(thread.schedule(task, at(Clock::now())));
  third->get_future().wait();
  drain();
  EXPECT_EQ(task->calls, 3);
}

TEST_F(TimerThreads, CallNoTaskEarly) {
  auto task = std::make_shared<Task>();
  auto called = std::make_shared<std::promise<Clock::time_point>>();
  task->call = [called]() -> std::optional<Times> {
    called->set_value(Clock::now());
    return std::nullopt;
  };
  const auto due = Clock::now() + 20ms;
  EXPECT_TRUE(thread.schedule(task, at(due)));
  EXPECT_GE(called->get_future().get(), due);
}

TEST_F(TimerThreads, KeepTheEarlierOfTwoTimes) {
  auto task = std::make_shared<Task>();
  auto called = std::make_shared<std::promise<void>>();
  task->call = [called]() -> std::optional<Times> {
    called->set_value();
    return std::nullopt;
  };
  EXPECT_TRUE(thread.schedule(task, at(Clock::now() + 1h)));
  EXPECT_TRUE(thread.schedule(task, at(Clock::now())));
  EXPECT_TRUE(thread.schedule(task, at(Clock::now() + 2h)));
  called->get_future().wait();  // else this test runs into its time limit
  drain();
  EXPECT_EQ(task->calls, 1);  // one entry, not three
}

TEST_F(TimerThreads, CallNoCancelledTask) {
  std::promise<void> go;
  const auto busy = occupy(go.get_future().share());
  auto task = std::make_shared<Task>();
  EXPECT_TRUE(thread.schedule(task, at(Clock::now())));
  thread.cancel(task);
  thread.cancel(task);  // no effect
  go.set_value();
  drain();
  EXPECT_EQ(task->calls, 0);
}

TEST_F(TimerThreads, CallDueTasksOfAGroupTogether) {
  std::promise<void> go;
  const auto busy = occupy(go.get_future().share());
  std::vector<std::shared_ptr<Task>> all;
  const int groups[2] = {};
  for (int i = 0; i < 7; ++i) {
    all.push_back(std::make_shared<Task>());
    all.back()->of_group = i == 6 ? nullptr : &groups[i % 2];
    // The last of a group is not due yet.
    EXPECT_TRUE(
        thread.schedule(all.back(), at(i < 4 || i == 6 ? Clock::now() : Clock::now() + 1h)));
  }
  go.set_value();
  drain();
  thread.stop(true);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(all[i]->calls, 1) << i;
  EXPECT_EQ(all[4]->calls + all[5]->calls, 0);
  EXPECT_EQ(all[0]->batches, std::vector<std::size_t>{2});
  EXPECT_EQ(all[1]->batches, std::vector<std::size_t>{2});
  EXPECT_EQ(all[6]->batches, std::vector<std::size_t>{1});
  EXPECT_EQ(all[4]->stops, 1);
}

TEST_F(TimerThreads, LimitABatch) {
  std::promise<void> go;
  const auto busy = occupy(go.get_future().share());
  std::vector<std::shared_ptr<Task>> all;
  const int group = 0;
  for (std::size_t i = 0; i < TimerThread::largest_batch + 1; ++i) {
    all.push_back(std::make_shared<Task>());
    all.back()->of_group = &group;
    EXPECT_TRUE(thread.schedule(all.back(), at(Clock::now())));
  }
  go.set_value();
  drain();
  thread.stop(true);
  std::vector<std::size_t> batches;
  for (const auto& task : all) {
    EXPECT_EQ(task->calls, 1);
    batches.insert(batches.end(), task->batches.begin(), task->batches.end());
  }
  std::sort(batches.begin(), batches.end());
  EXPECT_EQ(batches, (std::vector<std::size_t>{1, TimerThread::largest_batch}));
}

TEST_F(TimerThreads, LimitATaskByTheLatestTimeOfAnother) {
  auto first = std::make_shared<Task>();
  auto other = std::make_shared<Task>();
  auto called = std::make_shared<std::promise<void>>();
  first->call = [called]() -> std::optional<Times> {
    called->set_value();
    return std::nullopt;
  };
  EXPECT_TRUE(thread.schedule(other, {Clock::now() + 1h, Clock::now() + 30min}));
  EXPECT_TRUE(thread.schedule(first, at(Clock::now())));
  called->get_future().wait();
  thread.stop(true);
  EXPECT_GT(first->limits.front(), 15min);
  EXPECT_LE(first->limits.front(), 30min);
}

TEST_F(TimerThreads, TellTasksOfTheEnd) {
  auto task = std::make_shared<Task>();
  EXPECT_TRUE(thread.schedule(task, at(Clock::now() + 1h)));
  thread.stop(true);
  EXPECT_EQ(task->stops, 1);
  EXPECT_EQ(task->calls, 0);
  EXPECT_FALSE(thread.schedule(task, at(Clock::now())));
}

TEST_F(TimerThreads, RunAgainAfterAStopThatIsNotForGood) {
  thread.prepare();
  thread.stop(false);
  auto task = std::make_shared<Task>();
  EXPECT_TRUE(thread.schedule(task, at(Clock::now())));
  drain();
  EXPECT_EQ(task->calls, 1);
}

TEST_F(TimerThreads, KnowThemselves) {
  EXPECT_FALSE(TimerThread::is_background());
  auto task = std::make_shared<Task>();
  auto here = std::make_shared<std::promise<bool>>();
  task->call = [here]() -> std::optional<Times> {
    here->set_value(TimerThread::is_background() && !TimerThread::is_ending());
    return std::nullopt;
  };
  EXPECT_TRUE(thread.schedule(task, at(Clock::now())));
  EXPECT_TRUE(here->get_future().get());
}

}  // namespace
}  // namespace memcachedlock::detail
