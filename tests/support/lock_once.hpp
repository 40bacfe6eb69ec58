// A lock that is taken and released at once.
#pragma once

/// lock(arguments...), then the end of the lock.
template <class AnyLock, class... Arguments>
void lock_once(AnyLock lock, const Arguments&... arguments) {
  lock.lock(arguments...);
}
