#include "lock/owners.hpp"

#include <fmt/format.h>

#include "base/process.hpp"
#include "memcachedlock/error.hpp"

namespace memcachedlock::detail {

Owners& Owners::instance() {
  static auto& owners = *new PerProcess<Owners>;  // locks may outlive static storage
  return owners.get();
}

std::string Owners::name_of(const LockSpec& spec, const OwnerId& owner) {
  return fmt::format("{} {} {} {}", spec.server.name(), spec.key.item(), owner.number(),
                     owner.word());
}

std::shared_ptr<Tenure> Owners::enter(const LockSpec& spec, const OwnerId& owner) {
  const std::string name = name_of(spec, owner);
  Shard& part = shard(name);
  const MutexLock lock(part.mutex);
  const auto found = part.inside.find(name);
  if (found == part.inside.end()) return nullptr;
  const std::shared_ptr<Tenure>& tenure = found->second;
  if (tenure->holds == 0) return tenure->is_reserved() ? tenure : nullptr;
  if (!tenure->owns()) {
    throw LeaseLost(fmt::format("the lease of \"{}\" was lost further out; leave all its levels "
                                "before taking it again",
                                spec.key.text()),
                    spec.key.text(), spec.server.name());
  }
  ++tenure->holds;
  return tenure;
}

std::shared_ptr<Tenure> Owners::put(const OwnerId& owner, const std::shared_ptr<Tenure>& tenure) {
  const std::string name = name_of(tenure->spec(), owner);
  Shard& part = shard(name);
  const MutexLock lock(part.mutex);
  std::shared_ptr<Tenure>& place = part.inside[name];
  if (place == nullptr || place->holds == 0 || !place->owns()) place = tenure;
  ++place->holds;
  return place;
}

bool Owners::leave(const OwnerId& owner, const std::shared_ptr<Tenure>& tenure, bool keep) {
  const std::string name = name_of(tenure->spec(), owner);
  Shard& part = shard(name);
  const MutexLock lock(part.mutex);
  if (--tenure->holds > 0) return false;
  const auto found = part.inside.find(name);
  if (!keep && found != part.inside.end() && found->second == tenure) part.inside.erase(found);
  return true;
}

void Owners::forget(const OwnerId& owner, const std::shared_ptr<Tenure>& tenure) {
  const std::string name = name_of(tenure->spec(), owner);
  Shard& part = shard(name);
  const MutexLock lock(part.mutex);
  const auto found = part.inside.find(name);
  if (found != part.inside.end() && found->second == tenure && tenure->holds == 0) {
    part.inside.erase(found);
  }
}

}  // namespace memcachedlock::detail
