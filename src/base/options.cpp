#include "memcachedlock/options.hpp"

#include <fmt/format.h>

#include <atomic>

#include "base/process.hpp"
#include "base/word.hpp"
#include "memcachedlock/error.hpp"

namespace memcachedlock {

namespace {

std::uint64_t next_number() {
  // Two copies of the library in a program must not give the same.
  static std::atomic<std::uint64_t> number{detail::random_bits() >> 1U};
  return ++number;
}

}  // namespace

OwnerId OwnerId::this_thread() { return {}; }

OwnerId OwnerId::unique() {
  OwnerId owner;
  owner.number_ = next_number();
  return owner;
}

OwnerId OwnerId::named(std::string_view text) {
  if (text.empty()) throw InvalidOption("OwnerId::named() was given an empty name");
  OwnerId owner;
  owner.name_ = text;
  return owner;
}

OwnerId OwnerId::resolved() const {
  if (number_ != 0 || is_named()) return *this;
  thread_local const OwnerId thread = unique();  // thread ids are used again, this is not
  return thread;
}

std::string OwnerId::word() const {
  constexpr std::size_t longest = 64;
  return is_named() ? "n:" + detail::to_word(name_, longest) : "-";
}

}  // namespace memcachedlock
