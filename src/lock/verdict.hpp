// What an acquire does about the record that it has found.
#pragma once

#include <string_view>

#include "memcachedlock/options.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

enum class Verdict {
  settle,         ///< it is ours
  confirm,        ///< granted to us out of the queue: we write a record of our own
  publish_fence,  ///< ours, as a named owner's: those that join must know the token
  join,           ///< our owner holds it, or has reserved it, in another process
  read_epoch,     ///< join, but first read the epoch for the token
  contended       ///< another's
};

/// `token` and `stamp` are those of the acquire, which last wrote with that stamp. `epoch_known`:
/// the record was read together with the server's epoch.
[[nodiscard]] Verdict judge(const Record& found, std::string_view token, std::string_view stamp,
                            const OwnerId& owner, bool epoch_known);

}  // namespace memcachedlock::detail
