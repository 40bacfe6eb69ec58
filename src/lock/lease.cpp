#include "memcachedlock/lease.hpp"

#include <utility>

#include "lock/holding.hpp"

namespace memcachedlock {

Lease::Lease() noexcept = default;
Lease::~Lease() = default;
Lease::Lease(const Lease&) noexcept = default;
Lease& Lease::operator=(const Lease&) noexcept = default;
Lease::Lease(std::shared_ptr<detail::Holding> holding) noexcept : holding_(std::move(holding)) {}

bool Lease::owns_lock() const { return holding_ != nullptr && holding_->owns(); }

std::chrono::milliseconds Lease::remaining() const {
  return holding_ != nullptr ? holding_->remaining() : std::chrono::milliseconds(0);
}

FencingToken Lease::fencing_token() const {
  return holding_ != nullptr ? holding_->fencing_token() : FencingToken{};
}

std::stop_token Lease::lost() const {
  return holding_ != nullptr ? holding_->lost() : std::stop_token{};
}

}  // namespace memcachedlock
