#include "support/local_postgres.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

#include "support/local_server.hpp"

namespace {

namespace fs = std::filesystem;

std::string newest_programs() {
  std::string newest;
  for (const auto& entry : fs::directory_iterator("/usr/lib/postgresql")) {
    newest = std::max(newest, (entry.path() / "bin/").string());
  }
  if (newest.empty()) throw std::runtime_error("PostgreSQL is not installed");
  return newest;
}

/// PostgreSQL refuses to run as root.
const passwd* other_user() {
  if (geteuid() != 0) return nullptr;
  const passwd* user = getpwnam("postgres");
  if (user == nullptr) throw std::runtime_error("there is no user postgres");
  return user;
}

}  // namespace

LocalPostgres::LocalPostgres(std::string arguments)
    : arguments_(std::move(arguments)), programs_(newest_programs()) {
  if (const passwd* user = other_user();
      user != nullptr && chown(directory_.path().c_str(), user->pw_uid, user->pw_gid) != 0) {
    throw std::runtime_error("cannot give " + directory_.path() + " to the user postgres");
  }
  if (!ended_well(run("initdb", "-D " + directory_.path() + "/data -A trust -U test --no-sync"))) {
    throw std::runtime_error("initdb failed: " + log());
  }
  start();
}

LocalPostgres::~LocalPostgres() { kill(); }

std::string LocalPostgres::address() const {
  return "host=" + directory_.path() + " user=test dbname=postgres connect_timeout=10";
}

void LocalPostgres::start() {
  pid_ = run("postgres", "-D " + directory_.path() + "/data -k " + directory_.path() +
                             " -c listen_addresses= -c max_connections=200 " + arguments_);
  const bool up = eventually(
      [&] { return ended_well(run("pg_isready", "-q -h " + directory_.path() + " -U test")); });
  if (!up) throw std::runtime_error("PostgreSQL did not start: " + log());
}

void LocalPostgres::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGQUIT);  // at once, without tidying up
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

std::string LocalPostgres::log() const {
  std::ifstream file(directory_.path() + "/log");
  return {std::istreambuf_iterator<char>(file), {}};
}

pid_t LocalPostgres::run(const std::string& program, const std::string& arguments) const {
  std::istringstream stream(arguments);
  std::vector<std::string> words{programs_ + program};
  for (std::string word; stream >> word;) words.push_back(word);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const passwd* user = other_user();
  const std::string log = directory_.path() + "/log";

  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child != 0) return child;
  const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  dup2(fd, STDOUT_FILENO);
  dup2(fd, STDERR_FILENO);
  if (user != nullptr &&
      (chown(log.c_str(), user->pw_uid, user->pw_gid) != 0 || setgroups(0, nullptr) != 0 ||
       setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0)) {
    _exit(126);
  }
  // After setuid, which clears it. SIGQUIT, so that its children end too.
  if (prctl(PR_SET_PDEATHSIG, SIGQUIT) != 0 || getppid() != parent) _exit(127);
  if (chdir(directory_.path().c_str()) != 0) _exit(125);
  execv(argv[0], argv.data());
  _exit(127);
}
