#include <memcachedlock/with_lock.hpp>
struct Task {
  struct promise_type {};
};
int main() {
  auto wrapped = memcachedlock::with_zlock<int>([] { return "key"; }, [] { return Task(); });
  wrapped();
}
