// SaslServer: a memcached that asks for a login.
#pragma once

#include <cstdlib>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/local_server.hpp"
#include "support/temporary_directory.hpp"

class SaslServer {
 public:
  static constexpr const char* user = "locker@local";
  static constexpr const char* password = "secret";

  SaslServer() {
    const std::string database = directory_.path() + "/sasldb";
    std::ofstream(directory_.path() + "/memcached.conf")
        << "mech_list: plain\npwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: "
        << database << "\n";
    const std::string command = std::string("echo ") + password +
                                " | saslpasswd2 -p -c -a memcached -u local -f " + database +
                                " locker";
    if (std::system(command.c_str()) != 0) throw std::runtime_error("saslpasswd2 failed");
    setenv("SASL_CONF_PATH", directory_.path().c_str(), 1);
    server_.emplace(std::vector<std::string>{"-S"});
    unsetenv("SASL_CONF_PATH");
  }
  [[nodiscard]] std::string address() const { return server_->address(); }

 private:
  const TemporaryDirectory directory_;
  std::optional<LocalServer> server_;
};
