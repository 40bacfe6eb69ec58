#include "server/connection_pool.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace memcachedlock::detail {

/// libmemcached limits each wait for more bytes, not the whole: a server that sends byte by byte
/// would keep a request for as long as it likes. This cuts off what has outlasted its limit.
class ConnectionPool::Watch final : public TimerThread::Task,
                                    public std::enable_shared_from_this<Watch> {
 public:
  void begin(Connection& connection, Clock::time_point now, std::chrono::milliseconds limit) {
    const auto deadline = now + limit;
    {
      const MutexLock lock(mutex_);
      requests_.push_back({&connection, deadline, false});
      limit_ = limit;
      used_ = true;
      if (next_look_ <= deadline) return;
    }
    TimerThread::prompt().schedule(shared_from_this(), {deadline, deadline});
    const MutexLock lock(mutex_);
    next_look_ = std::min(next_look_, deadline);
  }

  /// False when the request was cut off, perhaps too late to do it harm.
  bool end(const Connection* connection) {
    const MutexLock lock(mutex_);
    const auto found =
        std::find_if(requests_.begin(), requests_.end(),
                     [&](const Request& request) { return request.connection == connection; });
    if (found == requests_.end()) return true;  // memory ran out before it had begun
    const bool cut = found->cut;
    requests_.erase(found);
    return !cut;
  }

  std::optional<TimerThread::Times> on_time(std::chrono::milliseconds) override {
    const MutexLock lock(mutex_);
    const auto now = Clock::now();
    next_look_ = Clock::time_point::max();
    for (Request& request : requests_) {
      if (request.cut) continue;
      if (request.deadline <= now) {
        request.cut = true;
        request.connection->cut();
      } else {
        next_look_ = std::min(next_look_, request.deadline);
      }
    }
    // While requests follow each other, none of them has to wake the thread.
    if (std::exchange(used_, false)) next_look_ = std::min(next_look_, now + limit_);
    if (next_look_ == Clock::time_point::max()) return std::nullopt;
    return TimerThread::Times{next_look_, next_look_};
  }

  /// A request from now on must schedule it again.
  void on_stop() override {
    const MutexLock lock(mutex_);
    next_look_ = Clock::time_point::max();
  }

 private:
  struct Request {
    Connection* connection;
    Clock::time_point deadline;
    bool cut;
  };
  Mutex mutex_;
  std::vector<Request> requests_ MCL_GUARDED_BY(mutex_);
  Clock::time_point next_look_ MCL_GUARDED_BY(mutex_) = Clock::time_point::max();
  std::chrono::milliseconds limit_ MCL_GUARDED_BY(mutex_){0};  // the latest request's
  bool used_ MCL_GUARDED_BY(mutex_) = false;                   // since the last look
};

ConnectionPool::ConnectionPool(const ServerAddress& address, const ClientOptions& options,
                               std::size_t most)
    : address_(address),
      options_(options),
      max_connections_(most),
      watch_(std::make_shared<Watch>()) {}

ConnectionPool::~ConnectionPool() = default;

std::optional<std::unique_ptr<Connection>> ConnectionPool::take(std::chrono::milliseconds limit) {
  const MutexLock lock(mutex_);
  if (waiters_.empty()) {
    if (!idle_.empty()) {
      auto connection = std::move(idle_.back());
      idle_.pop_back();
      return connection;
    }
    if (made_ < max_connections_) {
      ++made_;
      return nullptr;
    }
  }
  const auto deadline = Clock::now() + limit;
  Waiter self;
  const auto own = waiters_.insert(waiters_.end(), &self);
  while (!self.is_served && Clock::now() < deadline) self.served.wait_until(mutex_, deadline);
  if (self.is_served) return std::move(self.connection);
  waiters_.erase(own);
  return std::nullopt;
}

void ConnectionPool::give_back(std::unique_ptr<Connection> connection) noexcept {
  const MutexLock lock(mutex_);
  if (!waiters_.empty()) {
    Waiter& next = *waiters_.front();
    waiters_.pop_front();
    next.connection = std::move(connection);
    next.is_served = true;
    next.served.notify_one();  // under the mutex: it is gone soon after
    return;
  }
  try {
    if (connection != nullptr) {
      idle_.push_back(std::move(connection));
      return;
    }
  } catch (const std::bad_alloc&) {  // then it is closed
  }
  --made_;
}

std::optional<ConnectionPool::PooledConnection> ConnectionPool::borrow(
    std::chrono::milliseconds limit) {
  auto taken = take(limit);
  if (!taken) return std::nullopt;
  const bool used_before = *taken != nullptr;
  try {
    if (!used_before) *taken = std::make_unique<Connection>(address_, options_);
    const auto connecting = used_before ? std::chrono::milliseconds(0) : options_.connect_timeout;
    watch_->begin(**taken, Clock::now(), limit + connecting);
  } catch (...) {
    watch_->end(taken->get());
    taken->reset();
    give_back(nullptr);
    throw;
  }
  return PooledConnection(*this, *std::move(taken), used_before);
}

ConnectionPool::PooledConnection::PooledConnection(ConnectionPool& pool,
                                                   std::unique_ptr<Connection> connection,
                                                   bool used_before) noexcept
    : pool_(&pool), connection_(std::move(connection)), used_before_(used_before) {}

ConnectionPool::PooledConnection::~PooledConnection() {
  if (connection_ == nullptr) return;  // moved from
  const bool in_time = pool_->watch_->end(connection_.get());
  if (!keep_ || !in_time) connection_.reset();
  pool_->give_back(std::move(connection_));
}

void ConnectionPool::PooledConnection::discard_idle() {
  std::vector<std::unique_ptr<Connection>> broken;
  const MutexLock lock(pool_->mutex_);
  pool_->made_ -= pool_->idle_.size();
  broken.swap(pool_->idle_);
}

}  // namespace memcachedlock::detail
