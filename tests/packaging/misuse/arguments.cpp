#include <memcachedlock/with_lock.hpp>
int main() {
  memcachedlock::with_lock([](int) { return "key"; }, [](int x) { return x; })("text");
}
