// The three lock types, for tests of what all of them promise.
#pragma once

#include <type_traits>

#include "memcachedlock/memcachedlock.hpp"

struct Conflict {};

template <class AnyLock>
struct OptionsOf {
  using Type = memcachedlock::LockOptions;
};
template <>
struct OptionsOf<memcachedlock::ZLock<Conflict>> {
  using Type = memcachedlock::ZLockOptions;
};

template <class AnyLock>
constexpr bool reenters_v = !std::is_same_v<AnyLock, memcachedlock::Lock>;
