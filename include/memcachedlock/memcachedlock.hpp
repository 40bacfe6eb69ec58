// All of the library.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include "memcachedlock/any_of.hpp"            // IWYU pragma: export
#include "memcachedlock/client.hpp"            // IWYU pragma: export
#include "memcachedlock/client_options.hpp"    // IWYU pragma: export
#include "memcachedlock/deferred_release.hpp"  // IWYU pragma: export
#include "memcachedlock/diagnosis.hpp"         // IWYU pragma: export
#include "memcachedlock/dont_lock.hpp"         // IWYU pragma: export
#include "memcachedlock/error.hpp"             // IWYU pragma: export
#include "memcachedlock/fencing_token.hpp"     // IWYU pragma: export
#include "memcachedlock/inspect.hpp"           // IWYU pragma: export
#include "memcachedlock/key.hpp"               // IWYU pragma: export
#include "memcachedlock/lease.hpp"             // IWYU pragma: export
#include "memcachedlock/lock.hpp"              // IWYU pragma: export
#include "memcachedlock/move_servers.hpp"      // IWYU pragma: export
#include "memcachedlock/observer.hpp"          // IWYU pragma: export
#include "memcachedlock/options.hpp"           // IWYU pragma: export
#include "memcachedlock/release.hpp"           // IWYU pragma: export
#include "memcachedlock/rlock.hpp"             // IWYU pragma: export
#include "memcachedlock/servers.hpp"           // IWYU pragma: export
#include "memcachedlock/transaction.hpp"       // IWYU pragma: export
#include "memcachedlock/version.hpp"           // IWYU pragma: export
#include "memcachedlock/with_lock.hpp"         // IWYU pragma: export
#include "memcachedlock/with_lockable.hpp"     // IWYU pragma: export
#include "memcachedlock/zlock.hpp"             // IWYU pragma: export

/// Distributed locks on memcached: a MemcachedClient feeds Lock, RLock and ZLock, and with_lock(),
/// with_rlock() and with_zlock() wrap a function so that it runs under one.
namespace memcachedlock {}
