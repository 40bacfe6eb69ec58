// What the benchmarks that write their own tables measure with.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <vector>

/// Processor time, of the program and of the system for it.
inline double cpu_seconds(const rusage& used) {
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

/// `who`: RUSAGE_SELF or RUSAGE_CHILDREN.
inline double cpu_seconds(int who) {
  rusage used{};
  getrusage(who, &used);
  return cpu_seconds(used);
}

/// Of one figure, over the rounds.
template <class Figures>
double median(std::vector<Figures> rounds, double Figures::*member) {
  std::sort(rounds.begin(), rounds.end(),
            [&](const Figures& a, const Figures& b) { return a.*member < b.*member; });
  return rounds[rounds.size() / 2].*member;
}
