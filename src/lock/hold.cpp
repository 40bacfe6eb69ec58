#include "memcachedlock/detail/hold.hpp"

#include <fmt/format.h>

#include <system_error>
#include <utility>

#include "base/process.hpp"
#include "lock/holding.hpp"
#include "lock/reentry_table.hpp"
#include "waiting/lock_spec.hpp"

namespace memcachedlock::detail {

bool Hold::is_inherited() const noexcept {
  return depth != 0 && generation != process_generation();
}

bool Hold::enter_unprotected(const LockSpec& spec) {
  if (is_inherited()) clear();
  if (depth != 0 && !spec.reenters()) {
    throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                            "memcachedlock: this Lock is already held; use RLock to enter again");
  }
  if (unprotected == 0) return false;
  ++unprotected;
  ++depth;
  return true;
}

OwnerId Hold::owner_for(const LockSpec& spec, bool for_loop) {
  if (depth != 0) return owner;
  const OwnerId& given = spec.options.owner;
  if (!for_loop || given != OwnerId::this_thread()) return given.resolved();
  if (loop_owner == OwnerId::this_thread()) loop_owner = OwnerId::unique();
  return loop_owner;
}

void Hold::take(std::shared_ptr<Holding> entered, OwnerId by, bool for_loop) {
  holding = std::move(entered);
  owner = std::move(by);
  generation = process_generation();
  on_loop = for_loop;
  ++depth;
}

void Hold::take_unprotected(const OwnerId& by) {
  owner = by;
  generation = process_generation();
  ++depth;
  ++unprotected;
}

void Hold::require(const LockSpec& spec) const {
  if (depth != 0 && !is_inherited()) return;
  throw std::system_error(std::make_error_code(std::errc::operation_not_permitted),
                          fmt::format("memcachedlock: \"{}\" is not held", spec.key.text()));
}

std::shared_ptr<Holding> Hold::leave(const LockSpec& spec, bool keep, Release& outcome) {
  require(spec);
  if (unprotected > 0) {
    outcome = Release::unavailable;
    --unprotected;
    if (--depth == 0) clear();
    return nullptr;
  }
  auto left = holding;
  const OwnerId by = owner;
  if (--depth == 0) clear();
  if (!spec.reenters() || ReentryTable::instance().leave(by, left, keep)) return left;
  outcome = left->owns() ? Release::released : Release::lost;
  return nullptr;
}

void Hold::clear() noexcept {
  OwnerId kept = std::move(loop_owner);
  *this = {};
  loop_owner = std::move(kept);
}

}  // namespace memcachedlock::detail
