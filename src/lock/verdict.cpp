#include "lock/verdict.hpp"

namespace memcachedlock::detail {

Verdict judge(const Record& found, std::string_view token, std::string_view stamp,
              const OwnerId& owner, bool epoch_known) {
  const bool shared = owner.is_named() && found.owner == owner.word();
  if (found.holds(token)) {
    // A grant is confirmed by writing a record of our own, which must then be there; but in
    // one of a named owner others write too.
    if (found.stamp != stamp && !shared) return Verdict::confirm;
    return shared && !found.fence ? Verdict::publish_fence : Verdict::settle;
  }
  if (!shared) return Verdict::contended;
  return found.fence || epoch_known ? Verdict::join : Verdict::read_epoch;
}

}  // namespace memcachedlock::detail
