#include <future>
#include <memcachedlock/zlock.hpp>
void run(memcachedlock::ZLock<int>& lock) {
  lock.run([](const memcachedlock::Lease&, bool) { return std::future<int>(); });
}
