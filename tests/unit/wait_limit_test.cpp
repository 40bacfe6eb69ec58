// Limits and deadlines of any kind, as what a wait may take.
#include "memcachedlock/detail/wait_limit.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "memcachedlock/detail/plain_text.hpp"

namespace memcachedlock::detail {
namespace {

using namespace std::chrono;
using namespace std::chrono_literals;

constexpr nanoseconds none{0};

TEST(WaitLimit, IsRoundedUp) {
  EXPECT_EQ(wait_limit(1500us), 1'500'000ns);
  EXPECT_EQ(wait_limit(duration<double>(0.25)), 250ms);
  EXPECT_EQ(wait_limit(duration<double, std::pico>(1)), 1ns);
  EXPECT_EQ(wait_limit(duration<unsigned char>(200)), 200s);
  EXPECT_EQ(wait_limit(hours(24 * 365)), hours(24 * 365));
}

TEST(WaitLimit, OfThePastIsNone) {
  EXPECT_EQ(wait_limit(0s), none);
  EXPECT_EQ(wait_limit(-1ns), none);
  EXPECT_EQ(wait_limit(nanoseconds::min()), none);
  EXPECT_EQ(wait_limit(hours::min()), none);
  EXPECT_EQ(wait_limit(duration<double>(-INFINITY)), none);
  EXPECT_EQ(wait_limit(duration<float>(NAN)), none);
  EXPECT_EQ(wait_limit(duration<double>(std::numeric_limits<double>::lowest())), none);
  EXPECT_EQ(wait_limit(steady_clock::time_point::min()), none);
  EXPECT_EQ(wait_limit(system_clock::time_point::min()), none);
  EXPECT_EQ(wait_limit(system_clock::time_point{}), none);
  EXPECT_EQ(wait_limit(time_point<system_clock, hours>::min()), none);
  EXPECT_EQ(wait_limit(steady_clock::now()), none);
}

TEST(WaitLimit, OfTheFarFutureIsNoLimit) {
  EXPECT_EQ(wait_limit(hours(24 * 366)), std::nullopt);
  EXPECT_EQ(wait_limit(nanoseconds::max()), std::nullopt);
  EXPECT_EQ(wait_limit(hours::max()), std::nullopt);
  EXPECT_EQ(wait_limit(duration<double>(INFINITY)), std::nullopt);
  EXPECT_EQ(wait_limit(duration<long double, std::atto>::max()), std::nullopt);
  EXPECT_EQ(wait_limit(steady_clock::time_point::max()), std::nullopt);
  EXPECT_EQ(wait_limit(system_clock::time_point::max()), std::nullopt);
  EXPECT_EQ(wait_limit(time_point<steady_clock, hours>::max()), std::nullopt);
}

TEST(WaitLimit, OfADeadlineIsWhatIsLeft) {
  const auto left = wait_limit(system_clock::now() + 1h);
  ASSERT_TRUE(left);
  EXPECT_GT(*left, 50min);
  EXPECT_LE(*left, 1h);
}

TEST(PlainText, KeepsWhatIsPlainAndTellsAllElseApart) {
  EXPECT_EQ(plain_text("catalog/7 x^y"), "catalog/7 x^y");
  EXPECT_EQ(plain_text(std::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(plain_text("a\\x00b"), "a\\x5cx00b");
  EXPECT_EQ(plain_text("caf\xc3\xa9\xff"), "caf\\xc3\\xa9\\xff");
  EXPECT_EQ(plain_text("\x7f\n"), "\\x7f\\x0a");
}

TEST(PlainText, KnowsUtf8) {
  for (const char* const text : {"", "plain", "caf\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x94\x92",
                                 "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf", "\xc2\x80"}) {
    EXPECT_TRUE(is_utf8(text)) << text;
    EXPECT_EQ(utf8_or_plain(text), text);
  }
  for (const char* const text : {"\xff", "caf\xe9", "\xc3", "\xc3(", "\xc1\xbf", "\xe0\x9f\xbf",
                                 "\xf0\x8f\xbf\xbf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                 "\xf5\x80\x80\x80", "\x80", "\xe2\x82", "\xf0\x9f\x94"}) {
    EXPECT_FALSE(is_utf8(text)) << plain_text(text);
    EXPECT_EQ(utf8_or_plain(text), plain_text(text));
  }
}

}  // namespace
}  // namespace memcachedlock::detail
