// Names of events.
#include "memcachedlock/observer.hpp"

#include <gtest/gtest.h>

namespace mcl = memcachedlock;

namespace {

TEST(Observer, EveryKindHasAName) {
  for (int kind = 0; kind <= static_cast<int>(mcl::EventKind::servers_moved); ++kind) {
    EXPECT_NE(mcl::to_string(static_cast<mcl::EventKind>(kind)), "unknown");
  }
}

TEST(Observer, EveryReasonHasAName) {
  for (int reason = 0; reason <= static_cast<int>(mcl::GiveUp::entered); ++reason) {
    EXPECT_NE(mcl::to_string(static_cast<mcl::GiveUp>(reason)), "unknown");
  }
}

}  // namespace
