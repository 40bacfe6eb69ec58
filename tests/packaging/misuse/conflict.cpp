#include <memcachedlock/zlock.hpp>
memcachedlock::ZLock<>* lock(memcachedlock::MemcachedClient c) {
  return new memcachedlock::ZLock<>(c, "k");
}
