// with_lock: one writer of a file (counter.txt, here) at a time, over all processes.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "memcachedlock/memcachedlock.hpp"

namespace {

int add_one(const std::string& path) {
  int value = 0;
  std::ifstream(path) >> value;
  std::ofstream(path) << ++value;
  return value;
}

}  // namespace

int main() {
  const std::string path = "counter.txt";
  std::ofstream(path) << 0;

  // The key names what is written: here, the file.
  const auto locked_add_one =
      memcachedlock::with_lock([](const std::string& p) { return p; }, add_one);

  constexpr int processes = 4;
  for (int i = 0; i < processes; ++i) {
    if (fork() == 0) {
      for (int round = 0; round < 50; ++round) locked_add_one(path);
      _exit(0);
    }
  }
  for (int i = 0; i < processes; ++i) wait(nullptr);

  const int last = locked_add_one(path);
  std::printf("counted to %d\n", last);
  return last == 201 ? 0 : 1;
}
