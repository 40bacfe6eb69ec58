// A private PostgreSQL for one test program: a cluster of its own, on a Unix socket in a directory
// of its own, which go with it.
#pragma once

#include <sys/types.h>

#include <string>

#include "support/temporary_directory.hpp"

class LocalPostgres {
 public:
  /// `arguments` are for the server; by default it need not survive a crash of the machine.
  explicit LocalPostgres(std::string arguments = "-c fsync=off");
  ~LocalPostgres();
  LocalPostgres(const LocalPostgres&) = delete;
  LocalPostgres& operator=(const LocalPostgres&) = delete;

  /// For libpq.
  [[nodiscard]] std::string address() const;
  /// Of the server itself, whose children serve the connections.
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// As a crash of the machine would end it.
  void kill();
  /// Again, with the data that it had committed.
  void start();

 private:
  /// Forks; in the child, becomes the user that PostgreSQL is to run as.
  [[nodiscard]] pid_t run(const std::string& program, const std::string& arguments) const;

  /// What its programs have said.
  [[nodiscard]] std::string log() const;

  const std::string arguments_;
  const TemporaryDirectory directory_;
  std::string programs_;
  pid_t pid_ = -1;
};
