#include <future>
#include <memcachedlock/with_lock.hpp>
int main() {
  auto wrapped =
      memcachedlock::with_lock([] { return "key"; }, [] { return std::async([] { return 1; }); });
  return wrapped().get();
}
