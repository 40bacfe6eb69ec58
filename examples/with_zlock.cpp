// with_zlock: in front of a store whose commit may throw a conflict.
#include <cstdio>
#include <stdexcept>
#include <string>

#include "memcachedlock/memcachedlock.hpp"

namespace {

struct ConflictError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A store of one number. Code without a lock writes it once in between.
class Store {
 public:
  [[nodiscard]] int read() { return value_; }
  void commit(int seen, int value) {
    if (stranger_-- > 0) ++value_;
    if (value_ != seen) throw ConflictError("written meanwhile");
    value_ = value;
  }

 private:
  int value_ = 0;
  int stranger_ = 1;
};

}  // namespace

int main() {
  Store store;
  int computations = 0;
  memcachedlock::ZLockOptions options;
  options.max_attempts = 5;
  // Runs again on ConflictError, the lock still held, until it is committed.
  const auto increment = memcachedlock::with_zlock<ConflictError>(
      memcachedlock::MemcachedClient::from_environment(), [](Store&) { return "store"; },
      [&](Store& s) {
        const int seen = s.read();
        ++computations;
        s.commit(seen, seen + 1);
      },
      options);
  increment(store);
  std::printf("value %d after %d computations\n", store.read(), computations);
  return store.read() == 2 && computations == 2 ? 0 : 1;
}
