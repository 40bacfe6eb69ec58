#include "memcachedlock/fencing_token.hpp"

#include <fmt/format.h>

namespace memcachedlock {

std::string FencingToken::to_string() const {
  return fmt::format("{:016x}-{:016x}", epoch, sequence);
}

}  // namespace memcachedlock
