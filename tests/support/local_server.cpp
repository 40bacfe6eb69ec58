#include "support/local_server.hpp"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <stdexcept>
#include <thread>
#include <utility>

#include "support/loopback.hpp"
#include "support/reserved_port.hpp"

bool eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

pid_t in_child(const std::function<bool()>& body) {
  const pid_t child = fork();
  if (child != 0) return child;
  int status = 1;
  try {
    status = body() ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "in a child: " << error.what() << '\n';
  }
  _exit(status);
}

bool ended_well(pid_t child) {
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

LocalServer::LocalServer(std::vector<std::string> arguments, Listen listen)
    : arguments_(std::move(arguments)), listen_(listen) {
  if (listen_ == Listen::unix_socket) directory_.emplace();
  if (listen_ == Listen::tcp) port_ = reserve_port();
  start();
}

LocalServer::LocalServer(std::string host, int port)
    : listen_(Listen::tcp), host_(std::move(host)), port_(port) {
  start();
}

LocalServer::~LocalServer() { stop(); }

std::string LocalServer::address() const {
  return listen_ == Listen::tcp ? host_ + ":" + std::to_string(port_)
                                : directory_->path() + "/m.sock";
}

void LocalServer::start() {
  std::vector<std::string> words{"memcached", "-u", "root"};
  if (listen_ == Listen::tcp) {
    words.insert(words.end(), {"-l", host_, "-p", std::to_string(port_), "-U", "0"});
  } else {
    words.insert(words.end(), {"-s", address()});
  }
  words.insert(words.end(), arguments_.begin(), arguments_.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) {
    // A test that is killed leaves no server behind.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) _exit(127);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  const bool up = eventually([&] {
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      return true;
    }
    const int fd = connect_once();
    if (fd >= 0) close(fd);
    return fd >= 0;
  });
  if (!up || pid_ == -1) throw std::runtime_error("memcached did not start on " + address());
}

void LocalServer::stop() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

bool LocalServer::restart_with_memory() {
  kill(pid_, SIGUSR1);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
  try {
    start();
    return true;
  } catch (const std::runtime_error&) {
    return false;
  }
}

void LocalServer::pause() {
  kill(pid_, SIGSTOP);
  waitpid(pid_, nullptr, WUNTRACED);
}

void LocalServer::resume() { kill(pid_, SIGCONT); }

int LocalServer::connect_once() const {
  const int family = listen_ == Listen::tcp ? AF_INET : AF_UNIX;
  const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int result = -1;
  if (family == AF_INET) {
    sockaddr_in address = loopback(port_);
    inet_pton(AF_INET, host_.substr(0, host_.find(',')).c_str(), &address.sin_addr);
    result = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } else {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, this->address().c_str(), sizeof address.sun_path - 1);
    result = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
  if (result == 0) return fd;
  close(fd);
  return -1;
}

std::string LocalServer::ask(const std::string& command, const std::string& end) const {
  const int fd = connect_once();
  if (fd < 0) throw std::runtime_error("cannot connect to " + address());
  const std::string line = command + "\r\n";
  std::string answer;
  if (send(fd, line.data(), line.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(line.size())) {
    char buffer[4096];
    while (answer.find(end) == std::string::npos) {
      const ssize_t count = recv(fd, buffer, sizeof buffer, 0);
      if (count <= 0) break;
      answer.append(buffer, static_cast<std::size_t>(count));
    }
  }
  close(fd);
  return answer;
}

long LocalServer::counted(std::initializer_list<std::string_view> figures) const {
  const std::string stats = ask("stats", "END\r\n");
  long sum = 0;
  for (const std::string_view figure : figures) {
    const std::string start = "STAT " + std::string(figure) + ' ';
    sum += std::stol(stats.substr(stats.find(start) + start.size()));
  }
  return sum;
}

std::string LocalServer::get(const std::string& item) const {
  const std::string answer = ask("get " + item, "END\r\n");
  const auto start = answer.find("\r\n");
  if (answer.rfind("VALUE ", 0) != 0) return {};
  return answer.substr(start + 2, answer.rfind("\r\nEND") - start - 2);
}
