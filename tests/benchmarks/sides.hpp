// The locks that the contended benchmark compares, each behind the same two calls.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

/// Used by one thread or process.
class Side {
 public:
  Side() = default;
  virtual ~Side() = default;
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;
  virtual void lock() = 0;
  virtual void unlock() = 0;
};

struct NamedSide {
  std::string name;
  /// Once a thread or process. Threads of one process that share a client are made in one process.
  std::function<std::unique_ptr<Side>()> make;
};

/// What there is: memcachedlock and pollers of memcached at `memcached`, and the peers whose
/// addresses are in the environment: REDIS_SOCKET, a path; POSTGRES, a connection string; ETCD, a
/// URL.
std::vector<NamedSide> all_sides(const std::string& memcached);
