// Signals held back from a thread for a while.
#pragma once

#include <pthread.h>

#include <csignal>

namespace memcachedlock::detail {

/// All signals but those that a thread sends itself by an error, which must find its handler.
class SignalMask {
 public:
  SignalMask() noexcept {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) {
      sigdelset(&all, fault);
    }
    pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  ~SignalMask() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalMask(const SignalMask&) = delete;
  SignalMask& operator=(const SignalMask&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace memcachedlock::detail
