#include <memcachedlock/with_lock.hpp>
struct Awaitable {
  bool await_ready() { return false; }
};
int main() {
  auto wrapped = memcachedlock::with_rlock([] { return "key"; }, [] { return Awaitable(); });
  (void)wrapped();
}
