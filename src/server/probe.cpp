#include "server/probe.hpp"

#include <string_view>

#include "base/clock.hpp"
#include "base/failure.hpp"
#include "server/raw_socket.hpp"

namespace memcachedlock::detail {

namespace {

using namespace std::string_view_literals;

/// The first bytes of the answer; empty where the connection was closed without one.
std::string ask(const ServerAddress& server, Clock::time_point deadline,
                std::string_view question) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  if (left.count() <= 0) throw Failure(Failure::Kind::timeout, "no time is left");
  const RawSocket socket(server, left);
  std::string answer;
  try {
    socket.send(question, deadline);
    socket.receive(answer, deadline);
  } catch (const Failure& failure) {
    // Reset: what did not understand the question closed the connection.
    if (failure.kind == Failure::Kind::timeout) throw;
  }
  return answer;
}

constexpr std::string_view binary_version =
    "\x80\x0b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"sv;

// A greeting of TLS 1.2 that any server of it answers, if only by an alert.
constexpr std::string_view tls_hello =
    "\x16\x03\x01\0\x2f\x01\0\0\x2b\x03\x03"
    "0123456789abcdef0123456789abcdef"
    "\0\0\x04\xc0\x2f\0\x9c\x01\0"sv;

Answerer silent_one(const ServerAddress& server, Clock::time_point deadline) {
  const std::string binary = ask(server, deadline, binary_version);
  if (binary.starts_with('\x81')) {
    constexpr std::size_t status = 7;
    constexpr char asks_for_login = 0x20;
    if (binary.size() > status && binary[status] == asks_for_login) {
      return {"asks for a login (SASL): give ClientOptions::sasl_user, with Protocol::binary"};
    }
    return {"speaks only the binary protocol: choose Protocol::binary"};
  }
  const std::string tls = ask(server, deadline, tls_hello);
  if (tls.starts_with('\x15') || tls.starts_with('\x16')) {
    return {
        "speaks TLS, which libmemcached does not: connect through a Unix socket or a local "
        "tunnel, or let memcached listen without TLS too"};
  }
  return {
      "closes the connection without an answer, as a proxy does for what it does not know: give "
      "the address of memcached itself"};
}

}  // namespace

std::optional<Answerer> who_answers(const ServerAddress& server, const ClientOptions& options) {
  const auto deadline = Clock::now() + options.operation_timeout;
  try {
    const std::string answer = ask(server, deadline, "version\r\n");
    if (answer.starts_with("ERROR Too many open connections")) {
      return Answerer{
          "has no connection left: raise memcached's limit (-c), or lower "
          "ClientOptions::connections",
          true};
    }
    if (answer.starts_with("CLIENT_ERROR unauthenticated")) {
      return Answerer{
          "asks for a login of the text protocol (-Y), which libmemcached does not "
          "know: use SASL (-S), or give locks a memcached without it"};
    }
    if (answer.starts_with("-")) {
      return Answerer{"is a Redis, or something that speaks its protocol; give a memcached"};
    }
    if (answer.starts_with("HTTP/")) return Answerer{"is a web server; give a memcached"};
    if (answer.empty()) {
      if (options.protocol == Protocol::binary) return std::nullopt;
      return silent_one(server, deadline);
    }
    if (answer.starts_with("VERSION") && ask(server, deadline, "stats\r\n").empty()) {
      return Answerer{
          "is a proxy, which does not pass on all that a lock needs (`stats`, `gets`, "
          "`cas`): give the addresses of the memcached servers behind it"};
    }
  } catch (const Failure&) {  // then the error that there is will do
  }
  return std::nullopt;
}

}  // namespace memcachedlock::detail
