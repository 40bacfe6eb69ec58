#include <memcachedlock/with_lock.hpp>
int main() {
  memcachedlock::with_lock([](int) { return 42; }, [](int x) { return x; })(1);
}
