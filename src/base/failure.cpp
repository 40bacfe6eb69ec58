#include "base/failure.hpp"

namespace memcachedlock::detail {

SharedFailure SharedFailure::of(const Error& error) {
  SharedFailure failure;
  failure.what = error.what();
  failure.what.erase(0, failure.what.find(": ") + 2);  // the library's name
  failure.server = error.server();
  if (const auto* differ = dynamic_cast<const ServersDiffer*>(&error)) {
    failure.kind = Kind::servers_differ;
    failure.ours = differ->ours();
    failure.theirs = differ->theirs();
  } else if (dynamic_cast<const ServerError*>(&error) != nullptr) {
    failure.kind = Kind::setting;
  }
  return failure;
}

void SharedFailure::raise(const std::string& key) const {
  switch (kind) {
    case Kind::servers_differ:
      throw ServersDiffer(what, ours, theirs, key, server);
    case Kind::setting:
      throw ServerError(what, key, server);
    case Kind::unavailable:
      break;
  }
  throw Unavailable(what, key, server);
}

}  // namespace memcachedlock::detail
