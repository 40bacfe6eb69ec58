#include <memcachedlock/with_lock.hpp>
auto wrapped = memcachedlock::with_lock([](int) { return "key"; }, 42);
