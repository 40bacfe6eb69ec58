#include <memcachedlock/with_lock.hpp>
int main() {
  memcachedlock::with_lock([] { return "key"; }, [](int x) { return x; })(1);
}
