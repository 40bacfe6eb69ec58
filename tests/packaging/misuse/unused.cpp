// flags: -std=c++20 -Werror=unused-result -Werror=unused-value
#include <memcachedlock/rlock.hpp>
void f(const memcachedlock::MemcachedClient& client) { memcachedlock::RLock(client, "key"); }
