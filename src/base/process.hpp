// State that must not be shared with a forked child.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace memcachedlock::detail {

/// Changes in a child after fork, and in any other process that has a copy of this one's memory.
unsigned process_generation() noexcept;

/// A T that each process makes itself. A child leaves its parent's T untouched: its mutexes may
/// be locked by threads the child does not have, and its sockets are the parent's. If T can be
/// made with a pointer to the parent's (or null) first, it is.
///
/// This one is for static storage: it is made by the compiler (`constinit`), so no thread can be at
/// that while another forks, and is never destroyed, as locks may outlive static storage.
template <class T>
class PerProcessForever {
 public:
  PerProcessForever() = default;
  PerProcessForever(const PerProcessForever&) = delete;
  PerProcessForever& operator=(const PerProcessForever&) = delete;

  template <class... Args>
  T& get(const Args&... args) {
    const unsigned generation = process_generation();
    Node* node = node_.load(std::memory_order_acquire);
    while (node == nullptr || node->generation != generation) {
      auto* fresh = new Node(generation, node, args...);
      if (node_.compare_exchange_strong(node, fresh, std::memory_order_acq_rel))
        return fresh->value;
      delete fresh;
    }
    return node->value;
  }

  /// Null when this process has not used it.
  T* find() noexcept {
    Node* node = node_.load(std::memory_order_acquire);
    return node != nullptr && node->generation == process_generation() ? &node->value : nullptr;
  }

 protected:
  struct Node {
    template <class... Args>
    Node(unsigned made_in, Node* before, const Args&... args)
        : generation(made_in), parent(before), value(make(before, args...)) {}
    template <class... Args>
    static T make([[maybe_unused]] Node* before, const Args&... args) {
      if constexpr (std::is_constructible_v<T, const T*, const Args&...>) {
        return T(before != nullptr ? &before->value : nullptr, args...);
      } else {
        return T(args...);
      }
    }
    unsigned generation;
    Node* parent;  // keeps it reachable for leak checkers
    T value;
  };
  std::atomic<Node*> node_{nullptr};
};

/// One that is destroyed.
template <class T>
class PerProcess : public PerProcessForever<T> {
 public:
  PerProcess() = default;
  PerProcess(const PerProcess&) = delete;
  PerProcess& operator=(const PerProcess&) = delete;
  ~PerProcess() {
    auto* const node = this->node_.load(std::memory_order_acquire);
    if (node != nullptr && node->generation == process_generation()) delete node;
  }
};

/// 128 random bits of this process in hex, then a number: no two acquisitions share it.
std::string next_token();

/// This process's random bits, in hex.
std::string_view process_token();

/// Whether `token` begins with them.
bool is_of_this_process(std::string_view token);

/// Never 0.
std::uint64_t random_bits();

/// "host:pid:thread" of the calling thread, one word, for people that read a record.
std::string thread_label();

}  // namespace memcachedlock::detail
