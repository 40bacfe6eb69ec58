// How a member leaves a lock's record: as a holder or from the queue.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "memcachedlock/release.hpp"
#include "server/server.hpp"
#include "waiting/lock_spec.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

/// How long a waiter that was granted the lock may take to confirm it.
constexpr std::chrono::milliseconds grace{2'000};

/// How long a record's item must live: the lease; longer if the holder is fair or has a queue to
/// keep, in which somebody will take out a holder whose lease has run out.
std::chrono::milliseconds lifetime(const Record& record, bool fair);

/// The term of a record with which this token begins a lease.
Term lease_term(std::string_view token, const Record& record, const LockOptions& options,
                std::chrono::milliseconds lease);

/// How often a record is read again that others change at the same time.
constexpr int max_tries = 64;
/// The limit for code that only waits for this: others may be faster for a while.
constexpr int max_patient_tries = 1'000;

/// What is believed to be in an item. Where it is likely outdated, that is read first.
enum class CasHint { fresh, stale };

struct Removal {
  Release outcome = Release::lost;
  bool others_wrote = false;  ///< what was believed to be there was not, but the token was
};

/// Takes a token out of the lock's item. The last holder deletes it, or grants it to the first in
/// the queue. `record` and `cas` are what is believed to be there; what others have written
/// meanwhile is read again, as an extension that went unanswered may be ours all the same.
Removal remove_token(Server& server, const Key& key, const std::string& token, Record& record,
                     Cas cas, CasHint hint = CasHint::fresh);

/// remove_token() from what was read: nothing when the token is not in it.
std::optional<Release> remove_token(Server& server, const Key& key, const std::string& token,
                                    const Snapshot& snapshot);

/// Whether the token has been in the item. A stored token that is not found is gone; an
/// acquire that was not answered may still land, and would keep others out for a whole lease.
enum class WasStored { yes, maybe };

/// remove_token() in the background. Tries until the item's lifetime is
/// certainly over. Removals from a server share their reads, and there are at most 10 000 of
/// them: the oldest are then left to expire by themselves, as all are where no thread can be made.
void remove_token_later(const SharedSpec& spec, const std::string& token,
                        WasStored arrival = WasStored::maybe) noexcept;

}  // namespace memcachedlock::detail
