// An observer that remembers its events.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <string_view>
#include <vector>

#include "memcachedlock/observer.hpp"

class Recorder : public memcachedlock::Observer {
 public:
  void on_event(const memcachedlock::Event& event) override {
    const std::lock_guard lock(mutex_);
    kinds_.push_back(event.kind);
  }
  void on_round_trip(std::string_view /*server*/, std::chrono::nanoseconds /*duration*/) override {
    round_trips_.fetch_add(1);
  }
  void on_grant(std::string_view /*server*/, memcachedlock::GrantKind kind) override {
    const std::lock_guard lock(mutex_);
    grants_.push_back(kind);
  }
  [[nodiscard]] int round_trips() const { return round_trips_.load(); }
  [[nodiscard]] int count(memcachedlock::GrantKind kind) const {
    const std::lock_guard lock(mutex_);
    return static_cast<int>(std::count(grants_.begin(), grants_.end(), kind));
  }
  [[nodiscard]] int count(memcachedlock::EventKind kind) const {
    const std::lock_guard lock(mutex_);
    return static_cast<int>(std::count(kinds_.begin(), kinds_.end(), kind));
  }

 private:
  mutable std::mutex mutex_;
  std::vector<memcachedlock::EventKind> kinds_;
  std::vector<memcachedlock::GrantKind> grants_;
  std::atomic<int> round_trips_{0};
};
