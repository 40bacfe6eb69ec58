#include "memcachedlock/lease.hpp"

#include <fmt/format.h>

#include <utility>

#include "lock/tenure.hpp"

namespace memcachedlock {

std::string FencingToken::to_string() const {
  return fmt::format("{:016x}-{:016x}", epoch, sequence);
}

Lease::Lease() noexcept = default;
Lease::~Lease() = default;
Lease::Lease(const Lease&) noexcept = default;
Lease& Lease::operator=(const Lease&) noexcept = default;
Lease::Lease(std::shared_ptr<detail::Tenure> tenure) noexcept : tenure_(std::move(tenure)) {}

bool Lease::owns_lock() const { return tenure_ != nullptr && tenure_->owns(); }

std::chrono::milliseconds Lease::remaining() const {
  return tenure_ != nullptr ? tenure_->remaining() : std::chrono::milliseconds(0);
}

FencingToken Lease::fencing_token() const {
  return tenure_ != nullptr ? tenure_->fencing_token() : FencingToken{};
}

std::stop_token Lease::lost() const {
  return tenure_ != nullptr ? tenure_->lost() : std::stop_token{};
}

}  // namespace memcachedlock
