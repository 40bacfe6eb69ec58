// with_rlock: functions under one lock that call each other.
#include <cstdio>
#include <string>
#include <vector>

#include "memcachedlock/memcachedlock.hpp"

namespace {

struct Folder {
  std::string path;
  std::vector<Folder> children = {};
  int indexed = 0;
};

// All of a site shares one key, so the calls within enter the lock again.
constexpr auto site = [](const Folder&) { return "site/index"; };

void index_folder(Folder& folder);
const auto index_locked = memcachedlock::with_rlock(site, index_folder);

void index_folder(Folder& folder) {
  ++folder.indexed;
  for (Folder& child : folder.children) index_locked(child);
}

}  // namespace

int main() {
  Folder root{"/", {Folder{"/a", {Folder{"/a/b"}}}, Folder{"/c"}}};
  index_locked(root);
  const int deepest = root.children[0].children[0].indexed;
  std::printf("indexed to the bottom: %d\n", deepest);
  return deepest == 1 ? 0 : 1;
}
