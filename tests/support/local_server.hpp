// LocalServer: a real memcached of a test's own, on a free port or a Unix socket.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/temporary_directory.hpp"

/// Starts memcached in the constructor and ends it, by its own pid, in the destructor.
class LocalServer {
 public:
  enum class Listen { tcp, unix_socket };

  explicit LocalServer(std::vector<std::string> arguments = {}, Listen listen = Listen::tcp);
  /// At this address of the host, or at several, separated by commas.
  LocalServer(std::string host, int port);
  ~LocalServer();
  LocalServer(const LocalServer&) = delete;
  LocalServer& operator=(const LocalServer&) = delete;

  /// For MemcachedClient.
  [[nodiscard]] std::string address() const;
  [[nodiscard]] int port() const { return port_; }

  void stop();   ///< SIGKILL: leases and connections are gone
  void start();  ///< at the same address
  /// By SIGUSR1, for one with `-e`; false where it did not start again.
  bool restart_with_memory();
  void pause();   ///< SIGSTOP: connections stay, nothing is answered
  void resume();  ///< SIGCONT

  /// One command in the text protocol on a connection of its own; the answer up to `end`.
  std::string ask(const std::string& command, const std::string& end = "\r\n") const;
  /// The sum of these figures of `stats`.
  [[nodiscard]] long counted(std::initializer_list<std::string_view> figures) const;
  /// What `get` finds, or "".
  [[nodiscard]] std::string get(const std::string& item) const;

 private:
  [[nodiscard]] int connect_once() const;

  std::vector<std::string> arguments_;
  Listen listen_;
  std::string host_ = "127.0.0.1";
  int port_ = 0;
  std::optional<TemporaryDirectory> directory_;
  pid_t pid_ = -1;
};

/// Waits until it is true, for a long time; false if it never was.
bool eventually(const std::function<bool()>& condition);

/// Runs it in a forked child, which ends with 0 if it returned true.
pid_t in_child(const std::function<bool()>& body);
/// Waits for the child; true if it ended with 0.
bool ended_well(pid_t child);
