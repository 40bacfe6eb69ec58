// An observer that remembers what it was told.
#pragma once

#include <algorithm>
#include <mutex>
#include <vector>

#include "memcachedlock/observer.hpp"

class Recorder : public memcachedlock::Observer {
 public:
  void on_event(const memcachedlock::Event& event) override {
    const std::lock_guard lock(mutex_);
    kinds_.push_back(event.kind);
  }
  [[nodiscard]] int count(memcachedlock::EventKind kind) const {
    const std::lock_guard lock(mutex_);
    return static_cast<int>(std::count(kinds_.begin(), kinds_.end(), kind));
  }

 private:
  mutable std::mutex mutex_;
  std::vector<memcachedlock::EventKind> kinds_;
};
