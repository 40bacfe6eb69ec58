// FaultProxy: between a client and a memcached; does to the bytes what a bad network does.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <list>
#include <mutex>
#include <string>
#include <thread>

#include "support/reserved_port.hpp"

/// Listens on a free port of the loopback. Without a fault it passes everything on. A fault is
/// armed once and strikes the connection whose bytes reach it first; healed() passes on again.
class FaultProxy {
 public:
  enum class Fault {
    none,
    cut_request,   ///< after `after` bytes of requests both sides are closed
    cut_reply,     ///< after `after` bytes of replies both sides are closed
    hold_request,  ///< after `after` bytes of requests nothing passes any more, nothing is closed
    hold_reply,    ///< after `after` bytes of replies nothing passes, though requests still do
    drip_reply,    ///< replies pass one byte at a time, a `pause` between
    delay_reply,   ///< replies pass whole, a `pause` later
    stop_reading,  ///< requests are not read, so that buffers fill
    refuse,        ///< connections are closed at once
    silent,        ///< connections are accepted and never answered
    garbage        ///< every reply is `text` instead
  };
  struct Plan {
    Fault fault = Fault::none;
    std::size_t after = 0;
    std::chrono::microseconds pause{0};
    std::string text = {};
  };

  /// Both ports are on the loopback, its own from reserve_port().
  explicit FaultProxy(int memcached_port, int port = reserve_port());
  ~FaultProxy();
  FaultProxy(const FaultProxy&) = delete;
  FaultProxy& operator=(const FaultProxy&) = delete;

  [[nodiscard]] std::string address() const;
  /// Holds for what is sent from now on, on old and new connections; counts bytes from here.
  void arm(Plan plan);
  void heal() { arm({}); }
  /// Bytes passed on since arm(): the largest `after` that still strikes.
  [[nodiscard]] std::size_t requested() const { return requested_.load(); }
  [[nodiscard]] std::size_t replied() const { return replied_.load(); }
  /// The requests that have passed since arm().
  [[nodiscard]] std::string requests() const;
  /// Whether the armed fault has struck.
  [[nodiscard]] bool struck() const { return struck_.load(); }

 private:
  struct Link;

  void accept_all();
  void pass(Link& link, bool reply);
  [[nodiscard]] Plan plan() const;
  bool wait(const Link& link, std::chrono::microseconds time) const;

  const int memcached_port_;
  const int port_;
  const int listener_;
  mutable std::mutex mutex_;
  Plan plan_;
  std::string requests_;
  std::list<Link> links_;
  std::atomic<std::size_t> requested_{0};
  std::atomic<std::size_t> replied_{0};
  std::atomic<bool> struck_{false};
  std::atomic<bool> ending_{false};
  std::thread acceptor_;
};
