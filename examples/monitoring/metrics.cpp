// Metrics of locks, as a service would expose them: curl http://127.0.0.1:PORT/metrics
#include <prometheus/exposer.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <iostream>
#include <memory>

#include "memcachedlock/memcachedlock.hpp"
#include "memcachedlock/prometheus.hpp"

int main() {
  const auto registry = std::make_shared<prometheus::Registry>();
  prometheus::Exposer exposer("127.0.0.1:0");  // a free port
  exposer.RegisterCollectable(registry);

  memcachedlock::ClientOptions options;
  options.observer = std::make_shared<memcachedlock::PrometheusObserver>(registry);
  const memcachedlock::MemcachedClient client(memcachedlock::servers_from_environment(), options);
  for (int i = 0; i < 3; ++i) {
    memcachedlock::Lock lock(client, "report", {.scope = "example"});
    lock.lock();
  }
  // What a scrape would get.
  std::cout << prometheus::TextSerializer().Serialize(registry->Collect());
}
