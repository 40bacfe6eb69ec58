// A program as a test runs it: with pipes, in a session without a terminal, or on a terminal of its
// own.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

/// How a program ended, and what it wrote.
struct Ended {
  int status = 0;  ///< the exit status, or 128 + the signal
  std::string output;
  std::string errors;
};

/// Runs until it is waited for; killed in the destructor.
class Program {
 public:
  enum class On { pipes, terminal };

  /// `variables` are added to the environment. On a terminal errors are part of the output.
  explicit Program(std::vector<std::string> command,
                   const std::map<std::string, std::string>& variables = {}, On on = On::pipes);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const;
  /// To its standard input, or as if typed.
  void type(const std::string& text) const;
  /// Reads its output until it has this text; false if it never does.
  bool says(const std::string& text) { return says_after(0, text); }
  /// The same, in what comes after so many bytes.
  bool says_after(std::size_t start, const std::string& text);
  /// What it has written so far.
  [[nodiscard]] const std::string& output() const { return ended_.output; }
  Ended wait();

 private:
  bool read_some(int limit_ms);

  pid_t pid_ = -1;
  int input_ = -1;
  int output_ = -1;
  int errors_ = -1;
  Ended ended_;
};
