// A lock's record, some of whose words are written by hand, as a client that has died since, or
// whose word comes late, left them.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <regex>
#include <string>

#include "memcachedlock/memcachedlock.hpp"
#include "support/local_server.hpp"

class HandWritten : public testing::Test {
 protected:
  void put(const std::string& value) const {
    (void)server.ask("set memcachedlock:key 0 0 " + std::to_string(value.size()) + "\r\n" + value +
                     "\r\n");
  }
  void append(const std::string& words) const {
    (void)server.ask("append memcachedlock:key 0 0 " + std::to_string(words.size()) + "\r\n" +
                     words + "\r\n");
  }
  [[nodiscard]] std::string record() const { return server.get("memcachedlock:key"); }
  /// The server's time, in so many seconds.
  [[nodiscard]] std::string time_in(long seconds) const {
    return std::to_string(server.counted({"time"}) + seconds);
  }
  static std::string entry(const std::string& token, const std::string& end,
                           const std::string& lease = "1000") {
    return token + ":x:" + lease + ":" + end + ":0:1:-:-@elsewhere:1:1";
  }
  /// What is in brackets in the form; "" if the record does not match.
  [[nodiscard]] std::string part(const std::string& form) const {
    std::smatch match;
    const std::string text = record();
    return std::regex_search(text, match, std::regex(form)) ? match[1].str() : "";
  }
  [[nodiscard]] long number(const std::string& form) const {
    const std::string text = part(form);
    return text.empty() ? 0 : std::stol(text);
  }
  /// One that does not line up with the threads of this process, but enters the queue.
  static memcachedlock::RLock stranger(const memcachedlock::MemcachedClient& client,
                                       std::chrono::milliseconds timeout) {
    return {client, "key", {.timeout = timeout, .owner = memcachedlock::OwnerId::unique()}};
  }

  LocalServer server;
};
