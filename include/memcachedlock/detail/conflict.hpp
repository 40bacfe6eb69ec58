// Which exceptions of a store mean a conflict.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <string>
#include <type_traits>

#include "memcachedlock/any_of.hpp"

namespace memcachedlock::detail {

template <class Wanted>
struct Handling {
  static bool is() {
    try {
      throw;
    } catch (const Wanted&) {
      return true;
    } catch (...) {
      return false;
    }
  }
  using First = Wanted;
};
template <class Wanted, class... Others>
struct Handling<AnyOf<Wanted, Others...>> {
  static bool is() { return Handling<Wanted>::is() || (Handling<Others>::is() || ...); }
  using First = typename Handling<Wanted>::First;
};

/// Whether the exception being handled is one of these.
template <class... Wanted>
bool handling_any_of() {
  return (Handling<Wanted>::is() || ...);
}

template <class Conflict>
[[noreturn]] void throw_conflict(const std::string& what) {
  if constexpr (std::is_constructible_v<Conflict, const std::string&>) {
    throw Conflict(what);
  } else if constexpr (std::is_constructible_v<Conflict, const char*>) {
    throw Conflict(what.c_str());
  } else if constexpr (std::is_constructible_v<Conflict, const std::string&, const std::string&>) {
    throw Conflict(what, std::string());  // an error of libpqxx 7: and the statement
  } else {
    static_assert(std::is_default_constructible_v<Conflict>,
                  "memcachedlock: Transaction::outside throws the first ConflictError itself; make "
                  "it constructible from a std::string, or from nothing");
    throw Conflict();
  }
}

}  // namespace memcachedlock::detail
