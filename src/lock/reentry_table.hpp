// Which owner is inside which lock of this process: how an RLock enters again without a request.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/mutex.hpp"
#include "lock/holding.hpp"
#include "memcachedlock/options.hpp"

namespace memcachedlock::detail {

/// Thread safe; owners of different keys rarely meet in one shard.
class ReentryTable {
 public:
  static ReentryTable& instance();

  /// The holding in which this owner is, counted once more; or a reservation of this owner, not
  /// counted yet; or null. Throws LeaseLost when the owner is inside, but its lease is lost.
  std::shared_ptr<Holding> enter(const LockSpec& spec, const OwnerId& owner);
  /// A new or resumed holding, counted once. What the owner got meanwhile in another thread comes
  /// back instead.
  std::shared_ptr<Holding> put(const OwnerId& owner, const std::shared_ptr<Holding>& holding);
  /// One less inside. True for the last; a holding that is kept then stays as a reservation.
  bool leave(const OwnerId& owner, const std::shared_ptr<Holding>& holding, bool keep);
  void forget(const OwnerId& owner, const std::shared_ptr<Holding>& holding);

 private:
  struct Shard {
    Mutex mutex;
    std::unordered_map<std::string, std::shared_ptr<Holding>> inside MCL_GUARDED_BY(mutex);
  };
  Shard& shard(const std::string& name) {
    return shards_[std::hash<std::string>{}(name) % shards_.size()];
  }
  static std::string name_of(const LockSpec& spec, const OwnerId& owner);

  std::array<Shard, 32> shards_;
};

}  // namespace memcachedlock::detail
