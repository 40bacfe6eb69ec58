// Where a waiter of this process is told that it holds a lock.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/mutex.hpp"
#include "wire/grant_message.hpp"

namespace memcachedlock::detail {

/// Of one token, for as long as it waits under that. Thread safe.
class Inbox {
 public:
  /// `wake` is called in any thread once there is a grant, and must not wait.
  Inbox(std::string token, std::function<void()> wake);
  ~Inbox();
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;

  [[nodiscard]] bool is_told() const;
  std::optional<Grant> take();

  /// False where nobody waits under this token.
  static bool deliver(std::string_view token, Grant grant);

 private:
  struct All;

  const std::string token_;
  const std::function<void()> wake_;
  mutable Mutex mutex_;
  std::optional<Grant> grant_ MCL_GUARDED_BY(mutex_);
};

}  // namespace memcachedlock::detail
