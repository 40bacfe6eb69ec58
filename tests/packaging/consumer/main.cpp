#include <memcachedlock/memcachedlock.hpp>

// No header of libmemcached or fmt may come along.
#if defined(LIBMEMCACHED_VERSION_STRING) || defined(FMT_VERSION)
#error "a header of a dependency reaches its users"
#endif

int main() {
  const memcachedlock::MemcachedClient client("127.0.0.1:1");
  memcachedlock::Lock lock(client, "key");
  try {
    lock.lock();
  } catch (const memcachedlock::Unavailable&) {
    return 0;  // nobody listens there
  }
  return 1;
}
