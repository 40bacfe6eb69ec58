// flags: -std=c++20 -fno-exceptions
#include <memcachedlock/memcachedlock.hpp>
