// flags: -std=c++17
#include <memcachedlock/memcachedlock.hpp>
