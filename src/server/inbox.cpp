#include "server/inbox.hpp"

#include <functional>
#include <map>
#include <utility>

#include "base/process.hpp"

namespace memcachedlock::detail {

/// All inboxes of this process.
struct Inbox::All {
  Mutex mutex;
  std::map<std::string, Inbox*, std::less<>> by_token MCL_GUARDED_BY(mutex);

  static All& instance() {
    static constinit PerProcessForever<All> all;
    return all.get();
  }
};

Inbox::Inbox(std::string token, std::function<void()> wake)
    : token_(std::move(token)), wake_(std::move(wake)) {
  All& all = All::instance();
  const MutexLock lock(all.mutex);
  all.by_token[token_] = this;
}

Inbox::~Inbox() {
  All& all = All::instance();
  const MutexLock lock(all.mutex);
  const auto found = all.by_token.find(token_);
  if (found != all.by_token.end() && found->second == this) all.by_token.erase(found);
}

bool Inbox::is_told() const {
  const MutexLock lock(mutex_);
  return grant_.has_value();
}

std::optional<Grant> Inbox::take() {
  const MutexLock lock(mutex_);
  return std::exchange(grant_, std::nullopt);
}

bool Inbox::deliver(std::string_view token, Grant grant) {
  All& all = All::instance();
  const MutexLock lock(all.mutex);
  const auto found = all.by_token.find(token);
  if (found == all.by_token.end()) return false;
  Inbox& inbox = *found->second;
  {
    const MutexLock inbox_lock(inbox.mutex_);
    inbox.grant_ = std::move(grant);
  }
  inbox.wake_();
  return true;
}

}  // namespace memcachedlock::detail
