// How a release ended.
#pragma once

#include "memcachedlock/detail/export.hpp"

namespace memcachedlock {

/// How a release ended.
enum class Release {
  released,    ///< the lock was ours until this call
  lost,        ///< the lease had ended or was taken away before; another holder was left alone
  unavailable  ///< the server did not answer; the lock is freed in the background when it does
               ///< again, and frees itself when its lease has run out. Or it ran without the lock
               ///< (OnUnavailable::proceed).
};

}  // namespace memcachedlock
