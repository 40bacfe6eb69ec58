#include "owners.hpp"

#include <fmt/format.h>

#include "memcachedlock/error.hpp"
#include "process.hpp"

namespace memcachedlock::detail {

Owners& Owners::instance() {
  static auto& owners = *new PerProcess<Owners>;  // locks may outlive static storage
  return owners.get();
}

std::string Owners::name_of(const Server& server, const Key& key, const OwnerId& owner) {
  return fmt::format("{} {} {} {}", server.name(), key.item(), owner.number(), owner.word());
}

std::shared_ptr<Tenure> Owners::enter(const Server& server, const Key& key, const OwnerId& owner) {
  const std::string name = name_of(server, key, owner);
  Shard& part = shard(name);
  const MutexLock lock(part.mutex);
  const auto found = part.inside.find(name);
  if (found == part.inside.end()) return nullptr;
  const std::shared_ptr<Tenure>& tenure = found->second;
  if (tenure->holds == 0) return tenure->is_reserved() ? tenure : nullptr;
  if (!tenure->owns()) {
    throw LeaseLost(fmt::format("the lease of \"{}\" was lost further out; leave all its levels "
                                "before taking it again",
                                key.text()),
                    key.text(), server.name());
  }
  ++tenure->holds;
  return tenure;
}

std::shared_ptr<Tenure> Owners::put(const Key& key, const OwnerId& owner,
                                    const std::shared_ptr<Tenure>& tenure) {
  const std::string name = name_of(tenure->server(), key, owner);
  Shard& part = shard(name);
  const MutexLock lock(part.mutex);
  std::shared_ptr<Tenure>& place = part.inside[name];
  if (place == nullptr || place->holds == 0 || !place->owns()) place = tenure;
  ++place->holds;
  return place;
}

bool Owners::leave(const Key& key, const OwnerId& owner, const std::shared_ptr<Tenure>& tenure,
                   bool keep) {
  const std::string name = name_of(tenure->server(), key, owner);
  Shard& part = shard(name);
  const MutexLock lock(part.mutex);
  if (--tenure->holds > 0) return false;
  const auto found = part.inside.find(name);
  if (!keep && found != part.inside.end() && found->second == tenure) part.inside.erase(found);
  return true;
}

void Owners::forget(const Key& key, const OwnerId& owner, const std::shared_ptr<Tenure>& tenure) {
  const std::string name = name_of(tenure->server(), key, owner);
  Shard& part = shard(name);
  const MutexLock lock(part.mutex);
  const auto found = part.inside.find(name);
  if (found != part.inside.end() && found->second == tenure && tenure->holds == 0) {
    part.inside.erase(found);
  }
}

}  // namespace memcachedlock::detail
