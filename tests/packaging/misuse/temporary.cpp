#include <memcachedlock/lock.hpp>
void f(const memcachedlock::MemcachedClient& client) { memcachedlock::Lock(client, "key").lock(); }
