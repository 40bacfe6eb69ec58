// Prefix, SASL user and password as anybody may have configured them: refused with InvalidOption,
// or used as far as a connection, which nobody answers. The password is in no error.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "memcachedlock/memcachedlock.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace memcachedlock;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto next = [&] {
    const auto end = std::min(rest.find('\n'), rest.size());
    const std::string field(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return field;
  };
  ClientOptions options;
  options.protocol = Protocol::binary;
  options.prefix = next();
  options.sasl_user = next();
  constexpr const char* mark = "\x01\x02";  // no message has this by chance
  options.sasl_password = mark + next();
  try {
    Lock lock(MemcachedClient("127.0.0.1:1", options), "key");
    (void)lock.try_lock();
    std::abort();  // nobody listens there
  } catch (const Error& error) {
    if (std::string(error.what()).find(mark) != std::string::npos) std::abort();
  }
  return 0;
}
