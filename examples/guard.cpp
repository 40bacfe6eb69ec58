// A lock as a guard around a critical section, with the standard's own guards.
#include <chrono>
#include <cstdio>
#include <mutex>

#include "memcachedlock/memcachedlock.hpp"

using namespace std::chrono_literals;

int main() {
  const auto client = memcachedlock::MemcachedClient::from_environment();
  memcachedlock::Lock report(client, "reports/daily", {.timeout = 10s, .renew = true});
  memcachedlock::Lock archive(client, "archive");

  {
    const std::lock_guard guard(report);
    std::printf("held: %d\n", report.owns_lock() ? 1 : 0);
  }
  {
    const std::scoped_lock both(report, archive);  // no deadlock, whatever the order
    std::printf("both held: %d\n", report.owns_lock() && archive.owns_lock() ? 1 : 0);
  }
  if (std::unique_lock maybe(report, 100ms); maybe) {
    // Long work looks at lost() now and then, and gives up when another may have begun.
    const std::stop_token lost = report.lost();
    for (int step = 0; step < 3 && !lost.stop_requested(); ++step) std::printf("step %d\n", step);
  }
  std::printf("free again: %d\n", report.owns_lock() ? 0 : 1);
}
