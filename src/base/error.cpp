#include "memcachedlock/error.hpp"

#include <utility>

namespace memcachedlock {

Error::Error(const std::string& what, std::string key, std::string server)
    : std::runtime_error("memcachedlock: " + what),
      key_(std::move(key)),
      server_(std::move(server)) {}

ServersDiffer::ServersDiffer(const std::string& what, std::string ours, std::string theirs,
                             std::string key, std::string server)
    : ServerError(what, std::move(key), std::move(server)),
      ours_(std::move(ours)),
      theirs_(std::move(theirs)) {}

// Out of line, so that each type has one home for its vtable and is caught across libraries.
Error::~Error() = default;
Unavailable::~Unavailable() = default;
ServerError::~ServerError() = default;
ServersDiffer::~ServersDiffer() = default;
LeaseLost::~LeaseLost() = default;
InvalidKey::~InvalidKey() = default;
InvalidServers::~InvalidServers() = default;
InvalidOption::~InvalidOption() = default;
TimedOut::~TimedOut() = default;
Cancelled::~Cancelled() = default;

}  // namespace memcachedlock
