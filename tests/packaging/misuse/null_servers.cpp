#include <memcachedlock/client.hpp>
memcachedlock::MemcachedClient client(nullptr);
