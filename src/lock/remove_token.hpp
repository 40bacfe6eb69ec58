// How a member leaves a lock's record: as a holder or from the queue.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "memcachedlock/release.hpp"
#include "server/server.hpp"
#include "waiting/lock_spec.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

/// How long a waiter that was granted the lock may take to confirm it.
constexpr std::chrono::milliseconds grace{2'000};

/// How long an item must live that keeps a queue, in which a waiter will take out a holder whose
/// lease has run out.
std::chrono::milliseconds max_lifetime(std::chrono::milliseconds lease);

/// The term of a record that is written anew without a new lease: its item's expiry stays.
Term same_term(const Record& record);

/// The term of a record in which this token is alone and begins a lease.
Term lease_term(std::string_view token, const LockOptions& options);

/// How often a record is read again that others change at the same time.
constexpr int max_tries = 64;
/// The limit for code that only waits for this: others may be faster for a while.
constexpr int max_patient_tries = 1'000;

/// What is believed to be in an item. Where it is likely outdated, that is read first.
enum class CasHint { fresh, stale };

struct Removal {
  Release outcome = Release::lost;
  bool others_wrote = false;  ///< others came while the token was there
};

/// Takes a token out of the lock's item. The last one deletes the item; else the next in the queue
/// holds the lock then. `record` and `cas` are what is believed to be there; others may have
/// written meanwhile. If the item is gone after a request that may have done it, the outcome is
/// `released` if the server has kept its memory since `since`, or since `cas` was learned.
Removal remove_token(Server& server, const Key& key, const std::string& token, Record& record,
                     Cas cas, CasHint hint = CasHint::fresh,
                     std::optional<Clock::time_point> since = std::nullopt);

/// Takes out a holder or waiter if it still has this COUNT. True if it is not there any more, and
/// was. For those that are not this process's.
bool take_out(Server& server, const Key& key, const std::string& token, std::uint64_t count);

/// remove_token() from what was read: nothing when the token is not in it.
std::optional<Release> remove_token(Server& server, const Key& key, const std::string& token,
                                    const Snapshot& snapshot);

/// Whether the token has been in the item. A stored token that is not found is gone; an
/// acquire that was not answered may still land, and would keep others out for a whole lease.
enum class WasStored { yes, maybe };

/// remove_token() in the background. Tries until its lease is certainly over. Removals from a
/// server share their reads, and there are at most 10 000 of them: the oldest are then left to
/// expire by themselves, as all are where no thread can be made.
void remove_token_later(const SharedSpec& spec, const std::string& token,
                        WasStored arrival = WasStored::maybe) noexcept;
/// Once, and not for long: the threads of the library are stopped.
void remove_token_at_exit(const SharedSpec& spec, const std::string& token) noexcept;

}  // namespace memcachedlock::detail
