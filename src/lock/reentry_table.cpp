#include "lock/reentry_table.hpp"

#include <fmt/format.h>

#include "base/process.hpp"
#include "memcachedlock/error.hpp"

namespace memcachedlock::detail {

ReentryTable& ReentryTable::instance() {
  static constinit PerProcessForever<ReentryTable> owners;
  return owners.get();
}

std::shared_ptr<Holding> ReentryTable::enter(const LockSpec& spec, const OwnerId& owner) {
  const NameView name(spec, owner);
  Shard& part = shard(name);
  const MutexLock lock(part.mutex);
  const auto found = part.inside.find(name);
  if (found == part.inside.end()) return nullptr;
  const std::shared_ptr<Holding>& holding = found->second;
  if (holding->holds == 0) return holding->is_reserved() ? holding : nullptr;
  if (!holding->owns()) {
    throw LeaseLost(fmt::format("the lease of \"{}\" was lost further out; leave all its levels "
                                "before taking it again",
                                spec.key.text()),
                    spec.key.text(), spec.server.name());
  }
  ++holding->holds;
  return holding;
}

std::shared_ptr<Holding> ReentryTable::put(const OwnerId& owner,
                                           const std::shared_ptr<Holding>& holding) {
  const NameView name(holding->spec(), owner);
  Shard& part = shard(name);
  const MutexLock lock(part.mutex);
  auto found = part.inside.find(name);
  if (found == part.inside.end()) found = part.inside.emplace(Name(name), nullptr).first;
  std::shared_ptr<Holding>& entry = found->second;
  if (entry == nullptr || entry->holds == 0 || !entry->owns()) entry = holding;
  ++entry->holds;
  return entry;
}

bool ReentryTable::leave(const OwnerId& owner, const std::shared_ptr<Holding>& holding, bool keep) {
  const NameView name(holding->spec(), owner);
  Shard& part = shard(name);
  const MutexLock lock(part.mutex);
  if (--holding->holds > 0) return false;
  const auto found = part.inside.find(name);
  if (!keep && found != part.inside.end() && found->second == holding) part.inside.erase(found);
  return true;
}

void ReentryTable::forget(const OwnerId& owner, const std::shared_ptr<Holding>& holding) {
  const NameView name(holding->spec(), owner);
  Shard& part = shard(name);
  const MutexLock lock(part.mutex);
  const auto found = part.inside.find(name);
  if (found != part.inside.end() && found->second == holding && holding->holds == 0) {
    part.inside.erase(found);
  }
}

}  // namespace memcachedlock::detail
