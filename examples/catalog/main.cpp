// Locking for a class that exists and stays as it is: its catalog_object() is wrapped from outside,
// and CATALOG_LOCKING=on switches the lock on. Makes catalog.db in the current directory.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>

#include "catalog.hpp"
#include "memcachedlock/memcachedlock.hpp"

namespace {

using CatalogObject = std::function<void(Catalog&, const std::string&)>;

/// The one place that knows of locks: what the rest of the program calls.
CatalogObject catalog_object_as_configured() {
  const char* locking = std::getenv("CATALOG_LOCKING");
  if (locking == nullptr || std::string_view(locking) != "on") return &Catalog::catalog_object;
  const auto path = [](const Catalog& catalog, const std::string&) { return catalog.path(); };
  return memcachedlock::with_zlock<memcachedlock::SqliteConflict>(path, &Catalog::catalog_object);
}

/// A writer as there are several; how often it had to compute again comes back as its status.
int write_objects(const std::string& file, int count) {
  const CatalogObject catalog_object = catalog_object_as_configured();
  Catalog catalog(file);
  for (int i = 0; i < count; ++i) {
    for (bool done = false; !done;) {
      try {
        catalog_object(catalog, "object " + std::to_string(i));
        done = true;
      } catch (const memcachedlock::SqliteConflict&) {  // the program's own outer retry, as it
                                                        // always had
      }
    }
  }
  return std::min(catalog.computed() - count, 255);
}

}  // namespace

int main() {
  const std::string file = "catalog.db";
  constexpr int processes = 4;
  constexpr int each = 25;
  Catalog(file).create();
  for (int i = 0; i < processes; ++i) {
    if (fork() == 0) _exit(write_objects(file, each));
  }
  int wasted = 0;
  for (int i = 0; i < processes; ++i) {
    int status = 0;
    wait(&status);
    wasted += WEXITSTATUS(status);
  }
  const int objects = Catalog(file).objects();
  std::printf("%d objects, %d computations wasted\n", objects, wasted);
  return objects == processes * each ? 0 : 1;
}
