// How a process is told that it holds a lock: by a datagram from whoever let it in. memcached
// decides and a datagram only hurries: each may be lost, late, doubled or made up by a stranger.
#pragma once

#include <atomic>
#include <chrono>
#include <list>
#include <memory>
#include <string>

#include "base/clock.hpp"
#include "base/mutex.hpp"
#include "wire/grant_message.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

/// Of one process, for the locks of one server. Its socket is opened at first need, at the very
/// address of this host from which that server is reached. Thread safe.
class Mailbox {
 public:
  Mailbox() = default;
  /// All clients of the process share that of a server, by its name. It stays as long as the
  /// process.
  static Mailbox& of(const std::string& server);
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  /// Where this process is told, as a record says it; `-` where it can't be. `peer` is the server's
  /// numeric address, or the path of its socket.
  [[nodiscard]] std::string address(const std::string& peer);
  /// Tells a waiter that it holds the lock. Only where it is of this process, unless `others`.
  /// Never waits.
  void tell(const Entry& waiter, const Grant& grant, bool others);
  /// The datagram of that, to whatever process it is.
  void send(const Entry& waiter, const Grant& grant);

  /// Whether whoever runs the program has switched it off.
  [[nodiscard]] bool is_off() const { return is_off_; }
  /// Whether other processes can tell this one; known once address() was asked for. Where the
  /// socket fails, or the host's address changes, address() opens another, 5 s later.
  [[nodiscard]] bool is_open() const { return opened_.load(); }
  /// Whether grants have come in time lately, so that waiters need look but seldom.
  [[nodiscard]] bool is_trusted() const { return is_open() && missed_.load() < too_many_missed; }
  /// A waiter was told in time.
  void note_told();
  /// A waiter has found by itself that it holds the lock.
  void note_found();
  /// How many have come, since the last call, for those that did not wait any more.
  [[nodiscard]] unsigned take_late() { return late_.exchange(0); }

  /// While there is any, the thread of the event loops reads where no other does.
  void add_loop_wait(int count) { loop_waits_.fetch_add(count); }
  [[nodiscard]] bool has_loop_waits() const { return loop_waits_.load() > 0; }

  /// A thread that waits. One of them reads for all.
  class Reader {
   public:
    virtual ~Reader() = default;
    /// It is to read from now on. Must not call the mailbox.
    virtual void take_over() noexcept = 0;

   protected:
    Reader() = default;
    Reader(const Reader&) = default;
    Reader& operator=(const Reader&) = default;
  };
  /// True if it is to read now.
  bool join(Reader& reader);
  /// Another reads from now on, if it did.
  void leave(Reader& reader);
  /// For the one that reads, if is_open(). Delivers what comes, and returns when something did, at
  /// `until`, or after interrupt(); sometimes earlier.
  void receive(Clock::time_point until);
  void interrupt() noexcept;
  /// For any thread. Delivers what has come.
  void receive_now();

 private:
  // What is missed counts twice: where half of the others tell, one does not count on it.
  static constexpr int too_many_missed = 5;
  static constexpr int most_missed = 8;
  static constexpr std::chrono::seconds retry_pause{5};

  /// By who runs the program, in its environment.
  static bool is_switched_off();
  struct All;
  struct Channel;
  [[nodiscard]] std::shared_ptr<Channel> channel() const;
  void renew(const std::string& peer) MCL_REQUIRES(channel_mutex_);
  void give_up(const std::shared_ptr<Channel>& broken, bool is_others);
  [[nodiscard]] int sender(int family);
  void deliver_all(int socket);

  const bool is_off_ = is_switched_off();
  std::atomic<bool> opened_{false};  // whether there is a channel
  std::atomic<int> missed_{0};
  std::atomic<unsigned> late_{0};
  std::atomic<int> loop_waits_{0};
  mutable Mutex channel_mutex_;  // the last to be locked
  std::shared_ptr<Channel> channel_ MCL_GUARDED_BY(channel_mutex_);
  Clock::time_point next_try_ MCL_GUARDED_BY(channel_mutex_){};  // to open one
  Mutex mutex_;
  std::list<Reader*> readers_ MCL_GUARDED_BY(mutex_);  // the first one reads
  int ipv4_sender_ MCL_GUARDED_BY(mutex_) = -1;
  int ipv6_sender_ MCL_GUARDED_BY(mutex_) = -1;
};

}  // namespace memcachedlock::detail
