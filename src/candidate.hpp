// One who wants a lock, until it has it or gives up: the requests of an acquire.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "backend.hpp"
#include "memcachedlock/key.hpp"
#include "memcachedlock/options.hpp"
#include "pace.hpp"
#include "record.hpp"
#include "tenure.hpp"

namespace memcachedlock::detail {

/// A lock as its holder in this process hands it to the next: written in the other's name already.
struct Handed {
  std::string token;
  std::string stamp;
  View view;
  Clock::time_point started{};  ///< before it was written
  Cohort cohort;
};

/// Used by one thread. Refers to what it is made with.
class Candidate {
 public:
  struct Contended {
    Sight sight;
  };
  struct Guarded {
    Clock::time_point until;
  };
  using Attempt = std::variant<std::shared_ptr<Tenure>, Contended, Guarded>;

  Candidate(const std::shared_ptr<Backend>& backend, const Key& key, const LockOptions& options,
            OwnerId owner, LockType type);
  /// Leaves the queue.
  ~Candidate();
  Candidate(const Candidate&) = delete;
  Candidate& operator=(const Candidate&) = delete;

  /// One request for the lock; two at first contact with a server, to enter the queue, or to
  /// confirm what was granted. The lease counts from before the last one was sent. Enters the queue
  /// of the lock's record if `may_queue`, and if not a thread of this process holds the lock and
  /// will wake it, as one that has `lined_up`. Throws Unavailable, ServerError.
  Attempt ask(bool may_queue, bool lined_up);
  /// What a holder in this process has written for offer().
  Attempt receive(Handed handed);

  /// The record by which another thread makes this one the holder, in place of `before`. By a token
  /// of its own: where the request is not answered, that is cleared away, and not what this one may
  /// get by itself meanwhile.
  [[nodiscard]] Record offer(const Record& before, const Handed& handed) const;
  [[nodiscard]] const std::shared_ptr<Backend>& backend() const noexcept { return backend_; }
  [[nodiscard]] Server& server() const noexcept { return server_; }
  [[nodiscard]] const Key& key() const noexcept { return key_; }
  [[nodiscard]] std::chrono::milliseconds lease() const noexcept { return options_.timeout; }
  [[nodiscard]] bool fair() const noexcept { return options_.fair; }

  [[nodiscard]] bool succeeded() const noexcept { return succeeded_; }

  /// Its place in the record's queue, by its token, to be given to another, who takes it over.
  [[nodiscard]] std::optional<std::string> give_place();
  void take_place(std::string token);

 private:
  Attempt judge(View view, Clock::time_point started);
  Attempt settle(const View& view, Record found, Clock::time_point started);
  View add();
  View enter_queue();
  /// The record with this one as its only holder.
  View write_own(const Record& before, const Cas& cas);
  View join(const Record& before, const Cas& cas);
  View evict(const Record& before, const Cas& cas);
  [[nodiscard]] bool is_starving() const;
  [[nodiscard]] bool is_stuck(const Record& found);
  [[nodiscard]] Record own_record(const Record& before, const std::string& token) const;

  const std::shared_ptr<Backend>& backend_;
  const Key& key_;
  const LockOptions& options_;
  const OwnerId owner_;
  const LockType type_;
  Server& server_;
  Recent& recent_;
  const std::string place_;  // of the thread that asks
  std::string token_;
  std::string stamp_;
  bool may_queue_ = false;
  bool lined_up_ = false;
  bool queued_ = false;                  // our token is in the record's queue, or was
  bool may_have_landed_ = false;         // something of ours may be there
  bool contended_ = false;               // another had it when we last asked
  Clock::time_point contended_since_{};  // when it was first found so
  bool succeeded_ = false;
  Cohort cohort_;

  std::optional<Record> sent_;  // by add()
  std::string sent_text_;

  std::string seen_stamp_;  // of the record as it was first seen
  Clock::time_point seen_at_{};
};

}  // namespace memcachedlock::detail
