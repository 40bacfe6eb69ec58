// What can go wrong. Every error says what happened, to which key on which server, and what to do.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <stdexcept>
#include <string>

namespace memcachedlock {

/// Base of all errors of this library. key() and server() are empty where they do not apply.
class MEMCACHEDLOCK_EXPORT Error : public std::runtime_error {
 public:
  /// `what` without the library's name, which is put in front of it.
  explicit Error(const std::string& what, std::string key = {}, std::string server = {});
  ~Error() override;

  /// As the user gave it, shortened where it is long.
  [[nodiscard]] const std::string& key() const noexcept { return key_; }
  /// Its address, as ServerAddress::to_string() writes it.
  [[nodiscard]] const std::string& server() const noexcept { return server_; }

 private:
  std::string key_;
  std::string server_;
};

/// The server did not answer in time, cannot be reached, or closed the connection; or no connection
/// of the client's pool became free in time, or no thread could be made. Trying again later may
/// help. OnUnavailable::proceed runs unlocked instead.
class MEMCACHEDLOCK_EXPORT Unavailable : public Error {
 public:
  using Error::Error;
  ~Unavailable() override;
};

/// Something answered, but not as a lock needs it: it is not memcached, refuses the login, has no
/// memory left, runs without compare-and-swap (-C), or holds something else at the key. A setting
/// has to be changed. OnUnavailable::proceed runs unlocked here too.
class MEMCACHEDLOCK_EXPORT ServerError : public Error {
 public:
  using Error::Error;
  ~ServerError() override;
};

/// This client and others of a server lock by different lists of servers, or the server's name
/// leads to more than one: a key would be locked at two places, and both would be let in. Thrown by
/// each use of any key until a look, once a second at most, shows that they agree. Also by a ZLock,
/// and with OnUnavailable::proceed: that is for outages, and this is a wrong configuration.
class MEMCACHEDLOCK_EXPORT ServersDiffer : public ServerError {
 public:
  /// `what` as for Error.
  ServersDiffer(const std::string& what, std::string ours, std::string theirs, std::string key = {},
                std::string server = {});
  ~ServersDiffer() override;

  /// The list by which this client locks, sorted, as servers are written in it.
  [[nodiscard]] const std::string& ours() const noexcept { return ours_; }
  /// That of the other clients; `OLD > NEW` during a move. Empty where the lists are no matter.
  [[nodiscard]] const std::string& theirs() const noexcept { return theirs_; }

 private:
  std::string ours_;
  std::string theirs_;
};

/// The lease ended, or was taken away, before the work under it had ended: another holder may have
/// worked at the same time. Let the store check the fencing token, or take a longer timeout.
class MEMCACHEDLOCK_EXPORT LeaseLost : public Error {
 public:
  using Error::Error;
  ~LeaseLost() override;
};

/// A key is empty, or break_lock() was given an item with another prefix than the client's.
class MEMCACHEDLOCK_EXPORT InvalidKey : public Error {
 public:
  using Error::Error;
  ~InvalidKey() override;
};

/// The list of servers has an entry that is not an address, and the message names the entry; or a
/// server that was asked for is not one of the client's.
class MEMCACHEDLOCK_EXPORT InvalidServers : public Error {
 public:
  using Error::Error;
  ~InvalidServers() override;
};

/// An option is out of its range; the message names the option, the value and the range.
class MEMCACHEDLOCK_EXPORT InvalidOption : public Error {
 public:
  using Error::Error;
  ~InvalidOption() override;
};

/// The lock was not acquired within the time that with_lockable() was given.
class MEMCACHEDLOCK_EXPORT TimedOut : public Error {
 public:
  using Error::Error;
  ~TimedOut() override;
};

/// The wait was cancelled before it acquired the lock.
class MEMCACHEDLOCK_EXPORT Cancelled : public Error {
 public:
  using Error::Error;
  ~Cancelled() override;
};

}  // namespace memcachedlock
