// What comes to a waiter's port: nothing of it is read without the token of its process; what is
// read is written the same, and whoever gets it reads a record or nothing.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "wire/grant_message.hpp"
#include "wire/record.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace memcachedlock::detail;
  constexpr std::string_view process = "0123456789abcdef0123456789abcdef";
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto message = GrantMessage::decode(text, process);
  if (!message) return 0;
  if (!message->token.starts_with(process) || size > GrantMessage::max_size) std::abort();
  (void)Record::parse(message->grant.record);
  const std::string again = GrantMessage::encode(message->token, message->grant);
  const auto same = GrantMessage::decode(again, process);
  if (again.size() <= GrantMessage::max_size &&
      (!same || same->token != message->token || same->grant.cas != message->grant.cas ||
       same->grant.record != message->grant.record)) {
    std::abort();
  }
  return 0;
}
