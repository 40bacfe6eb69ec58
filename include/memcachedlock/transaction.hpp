// A transaction of a database, and the locks that must be held until it has ended.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <concepts>
#include <functional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "memcachedlock/detail/call_then.hpp"
#include "memcachedlock/error.hpp"
#include "memcachedlock/zlock.hpp"

namespace memcachedlock {

/// A `Tx` with locks: any class whose constructor begins a transaction, whose destructor aborts it
/// unless it has ended, with commit() and abort(). ConflictErrors are what it throws when another
/// transaction was faster. Used by one thread at a time.
///
/// The locks go after the transaction has ended, not before, the last one first; however it ends,
/// also by an exception. If it ends by a conflict, they stay reserved for their owner, which
/// will begin again (ZLockOptions::reservation says for how long).
template <class Tx, class... ConflictErrors>
class LockedTransaction {
 public:
  /// Begins it. Throws what `Tx` does.
  template <class... Args>
  requires std::constructible_from<Tx, Args...>
  explicit LockedTransaction(Args&&... args) : transaction_(std::forward<Args>(args)...) {}
  ~LockedTransaction() = default;  // the transaction first
  LockedTransaction(const LockedTransaction&) = delete;
  LockedTransaction& operator=(const LockedTransaction&) = delete;

  /// The transaction itself. End it through this class, not through its own members.
  Tx& operator*() noexcept { return transaction_; }
  /// The same.
  Tx* operator->() noexcept { return &transaction_; }

  /// Until the transaction has ended. For ZLockOptions::until_transaction_ends:
  /// `[&](DeferredRelease lock) { transaction.keep(std::move(lock)); }`.
  void keep(DeferredRelease lock) { locks_.all.push_back(std::move(lock)); }

  /// Throws what `Tx::commit` does; the locks are free, or reserved, then too.
  void commit() {
    try {
      transaction_.commit();
    } catch (...) {
      locks_.end(handling_conflict());
      throw;
    }
    locks_.end(false);
  }

  /// Throws what `Tx::abort` does; the locks are free then too.
  void abort() { abort(false); }
  /// abort() after a conflict in it: the locks are kept reserved.
  void abort_for_retry() { abort(true); }

  /// In a catch block: whether what was caught is a conflict.
  [[nodiscard]] static bool handling_conflict() {
    return detail::handling_any_of<ConflictErrors...>();
  }

 private:
  struct Locks {
    std::vector<DeferredRelease> all;

    Locks() = default;
    Locks(const Locks&) = delete;
    Locks& operator=(const Locks&) = delete;
    ~Locks() { end(false); }

    void end(bool reserve) {
      while (!all.empty()) {
        const DeferredRelease lock = std::move(all.back());
        all.pop_back();
        reserve ? lock.reserve() : lock();
      }
    }
  };

  void abort(bool retry) {
    try {
      transaction_.abort();
    } catch (...) {
      locks_.end(retry);
      throw;
    }
    locks_.end(retry);
  }

  Locks locks_;
  Tx transaction_;
};

/// Begins a `Transaction` (a LockedTransaction) with `begin`, its constructor's only argument;
/// calls `body(transaction)` and commits. On conflict all of it again, in a fresh transaction,
/// after a short pause with jitter; the last conflict leaves after `max_attempts` (at least 1, else
/// InvalidOption). Anything else leaves at once, the transaction aborted. Returns what `body` does.
///
/// It is the outer loop that Transaction::outside counts on: `body` calls what is wrapped by
/// with_zlock(), and finds the locks that it had to wait for reserved the next time.
template <class Transaction, class Begin, class Body>
auto run_transaction(Begin& begin, Body&& body, int max_attempts = 10)
    -> std::invoke_result_t<Body&, Transaction&> {
  if (max_attempts < 1) {
    throw InvalidOption("run_transaction: max_attempts is " + std::to_string(max_attempts) +
                        "; it must be at least 1");
  }
  for (int attempt = 1;; ++attempt) {
    try {
      Transaction transaction(begin);
      try {
        return detail::call_then([&]() -> decltype(auto) { return std::invoke(body, transaction); },
                                 [&] { transaction.commit(); });
      } catch (...) {
        if (Transaction::handling_conflict()) transaction.abort_for_retry();
        throw;
      }
    } catch (...) {
      if (attempt >= max_attempts || !Transaction::handling_conflict()) throw;
    }
    std::this_thread::sleep_for(detail::retry_pause(attempt));
  }
}

}  // namespace memcachedlock
