#include "cli/run.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>

#include "cli/child.hpp"
#include "cli/exit_status.hpp"
#include "cli/show.hpp"
#include "cli/streams.hpp"
#include "memcachedlock/error.hpp"
#include "memcachedlock/lock.hpp"

namespace memcachedlock::cli {

namespace {

using Clock = std::chrono::steady_clock;

/// Something that another thread tells the one that waits for descriptors.
class WakeFd {
 public:
  WakeFd() : descriptor_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  }
  ~WakeFd() { close(descriptor_); }
  WakeFd(const WakeFd&) = delete;
  WakeFd& operator=(const WakeFd&) = delete;
  void ring() const noexcept { eventfd_write(descriptor_, 1); }
  /// True once after each ring().
  [[nodiscard]] bool rang() const noexcept {
    eventfd_t count = 0;
    return eventfd_read(descriptor_, &count) == 0;
  }
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

 private:
  int descriptor_;
};

/// Until a signal, the bell, or the time.
void wait_for(int signals, const WakeFd& bell, std::optional<Clock::time_point> until) {
  std::array<pollfd, 2> both{{{signals, POLLIN, 0}, {bell.descriptor(), POLLIN, 0}}};
  int limit = -1;
  if (until) {
    const auto left = std::chrono::ceil<milliseconds>(*until - Clock::now());
    limit = static_cast<int>(std::clamp<milliseconds::rep>(left.count(), 0, 1'000'000));
  }
  poll(both.data(), both.size(), limit);
}

/// Ends as the command did.
[[noreturn]] void end_by(int signal) {
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  std::signal(signal, SIG_DFL);
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, signal);
  kill(getpid(), signal);
  sigprocmask(SIG_UNBLOCK, &one, nullptr);
  std::_Exit(128 + signal);
}

enum class LockOutcome { yes, not_in_time, interrupted };

/// Until it is had, or `stop` is requested. memcached has answered before; where it goes away
/// meanwhile, as for a restart, it is asked again. Throws what it said last, where it has not come
/// back.
bool wait_patiently(Lock& lock, const std::stop_token& stop) {
  constexpr milliseconds pause{200};
  std::mutex mutex;
  std::condition_variable_any never;
  for (bool told = false;;) {
    try {
      lock.lock(stop);
      return true;
    } catch (const Cancelled&) {
      return false;
    } catch (const Unavailable& error) {
      if (stop.stop_requested()) throw;
      if (!std::exchange(told, true)) warn(text_of(error) + "; still waiting");
    }
    std::unique_lock guard(mutex);
    never.wait_for(guard, stop, pause, [&] { return stop.stop_requested(); });
    if (stop.stop_requested()) (void)lock.try_lock();  // throws where it is away still
    if (lock.owns_lock()) return true;
  }
}

/// Waits in a second thread, so that signals find this one. `signal` is what interrupted it.
LockOutcome wait_for_lock(Lock& lock, const RunOptions& options, int signals, int& signal) {
  const bool once = options.wait == milliseconds(0);
  const auto deadline =
      options.wait && !once ? std::optional(Clock::now() + *options.wait) : std::nullopt;
  const WakeFd done;
  std::exception_ptr trouble;
  bool held = false;
  std::stop_source stop;
  std::jthread waiter([&] {
    try {
      held = lock.try_lock();
      if (!held && !once) held = wait_patiently(lock, stop.get_token());
    } catch (...) {
      trouble = std::current_exception();
    }
    done.ring();
  });
  LockOutcome outcome = LockOutcome::yes;
  while (!done.rang()) {
    wait_for(signals, done, outcome == LockOutcome::yes ? deadline : std::nullopt);
    const ReceivedSignal sent = Child::read_signal(signals);
    if (Child::ends_a_process(sent.number)) {
      signal = sent.number;
      outcome = LockOutcome::interrupted;
    } else if (sent.number == SIGTSTP) {
      kill(getpid(), SIGSTOP);
    } else if (outcome == LockOutcome::yes && deadline && Clock::now() >= *deadline) {
      outcome = LockOutcome::not_in_time;
    }
    if (outcome != LockOutcome::yes) stop.request_stop();
  }
  waiter.join();
  if (outcome == LockOutcome::interrupted) {
    if (held) lock.unlock();
    return outcome;
  }
  if (trouble) std::rethrow_exception(trouble);
  return held ? LockOutcome::yes : LockOutcome::not_in_time;
}

/// Until the command has ended. True when the lease was lost meanwhile.
bool supervise(Child& child, const Lease& lease, const RunOptions& options, int signals) {
  const WakeFd lost;
  const std::stop_callback on_loss(lease.lost(), [&lost] { lost.ring(); });
  bool gone = false;
  std::optional<Clock::time_point> kill_at;
  for (;;) {
    wait_for(signals, lost, kill_at);
    for (ReceivedSignal sent = Child::read_signal(signals); sent.number != 0;
         sent = Child::read_signal(signals)) {
      if (sent.number != SIGCHLD) child.forward(sent);
    }
    if (child.has_ended()) break;
    if (lost.rang()) {
      gone = true;
      if (options.on_lost == OnLost::ignore) {
        warn(fmt::format(
            "the lock \"{}\" was lost; another may hold it now, and the command runs on",
            options.key));
      } else {
        warn(fmt::format(
            "the lock \"{}\" was lost; another may hold it now, so the command is ended",
            options.key));
        child.send(options.on_lost == OnLost::kill ? SIGKILL : SIGTERM);
        if (options.on_lost == OnLost::term) kill_at = Clock::now() + options.grace;
      }
    }
    if (kill_at && Clock::now() >= *kill_at) {
      kill_at.reset();
      child.send(SIGKILL);
    }
  }
  // What it has started may still be at work.
  if (gone && options.on_lost != OnLost::ignore) child.end_group();
  return gone;
}

struct Ending {
  int trouble = 0;  ///< of exec()
  int status = 0;
  bool lost = false;
};

Ending run_under(Lock& lock, const RunOptions& options, int signals) {
  Child child(options.command);
  Ending ending;
  ending.lost = supervise(child, lock.lease(), options, signals);
  ending.trouble = child.trouble();
  ending.status = child.status();
  switch (lock.release()) {
    case Release::released:
      break;
    case Release::lost:
      if (!ending.lost) {
        warn(fmt::format("the lock \"{}\" was lost before the command ended", options.key));
      }
      ending.lost = true;
      break;
    case Release::unavailable:
      warn(fmt::format(
          "the lock \"{}\" could not be released; it is free when its lease is over, "
          "in at most {} s",
          options.key, std::chrono::ceil<std::chrono::seconds>(options.timeout).count()));
      break;
  }
  return ending;
}

}  // namespace

int run(const CommonOptions& common, const RunOptions& options) {
  const int signals = Child::catch_signals();
  const MemcachedClient client = common.connect();
  LockOptions lock_options;
  lock_options.timeout = options.timeout;
  lock_options.renew = true;
  lock_options.scope = common.scope;
  Lock lock(client, options.key, lock_options);

  int signal = 0;
  const LockOutcome had = wait_for_lock(lock, options, signals, signal);
  if (had == LockOutcome::interrupted) end_by(signal);
  if (had == LockOutcome::not_in_time) return options.conflict_status;

  setenv("MEMCACHEDLOCK_TOKEN", lock.fencing_token().to_string().c_str(), 1);
  const Ending ending = run_under(lock, options, signals);
  if (ending.trouble != 0) {
    warn(fmt::format("{}: {}", options.command.front(),
                     std::generic_category().message(ending.trouble)));
    return ending.trouble == ENOENT ? status::not_found : status::not_executable;
  }
  if (ending.lost && options.on_lost != OnLost::ignore) return status::lost;
  if (WIFSIGNALED(ending.status)) end_by(WTERMSIG(ending.status));
  return WEXITSTATUS(ending.status);
}

}  // namespace memcachedlock::cli
