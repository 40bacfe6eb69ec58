// Which owner is inside which lock of this process: how RLock, ZLock re-enter without a request.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
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
  struct Name;
  struct NameView {
    std::string_view lock;
    std::uint64_t number;  // the owner's
    std::string word;      // "-" unless it has a name

    NameView(const LockSpec& spec, const OwnerId& owner)
        : lock(spec.name), number(owner.number()), word(owner.word()) {}
    NameView(const Name& name) : lock(name.lock), number(name.number), word(name.word) {}
    [[nodiscard]] std::size_t hash() const {
      const std::hash<std::string_view> of_text;
      return of_text(lock) ^ of_text(word) ^ std::hash<std::uint64_t>{}(number);
    }
    friend bool operator==(const NameView&, const NameView&) = default;
  };
  struct Name {
    explicit Name(const NameView& view) : lock(view.lock), number(view.number), word(view.word) {}
    std::string lock;
    std::uint64_t number;
    std::string word;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(const NameView& name) const { return name.hash(); }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const NameView& one, const NameView& other) const { return one == other; }
  };
  using Inside = std::unordered_map<Name, std::shared_ptr<Holding>, Hash, Equal>;
  struct Shard {
    Mutex mutex;
    Inside inside MCL_GUARDED_BY(mutex);
  };
  Shard& shard(const NameView& name) { return shards_[name.hash() % shards_.size()]; }

  std::array<Shard, 32> shards_;
};

}  // namespace memcachedlock::detail
