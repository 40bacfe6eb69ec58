// One who wants a lock, until it has it or gives up: the requests of an acquire.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "lock/lock_spec.hpp"
#include "lock/tenure.hpp"
#include "memcachedlock/options.hpp"
#include "waiting/pace.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

/// A lock as its holder in this process hands it to the next: written in the other's name already.
struct Handed {
  std::string token;
  std::string stamp;
  View view;
  Clock::time_point started{};  ///< before it was written
  Cohort cohort;
};

/// Used by one thread; but a releasing one calls offer() while this one is claimed (LocalQueue).
class Candidate {
 public:
  struct Contended {
    Sight sight;
  };
  struct Guarded {
    Clock::time_point until;
  };
  using Attempt = std::variant<std::shared_ptr<Tenure>, Contended, Guarded>;

  Candidate(SharedSpec spec, OwnerId owner);
  /// Leaves the queue.
  ~Candidate();
  /// The same, but in the background.
  void leave_later() noexcept;
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
  [[nodiscard]] const SharedSpec& spec() const noexcept { return spec_; }
  [[nodiscard]] const OwnerId& owner() const noexcept { return owner_; }

  [[nodiscard]] bool succeeded() const noexcept { return succeeded_; }

  /// Its place in the record's queue, by its token, to be given to another, who takes it over.
  [[nodiscard]] std::optional<std::string> give_place();
  /// What nobody takes over.
  void leave_place(const std::string& token) noexcept;
  void take_place(std::string token);

 private:
  void become_another();
  Attempt judge(View view, Clock::time_point started);
  Attempt settle(const View& view, Record found, Clock::time_point started);
  View add();
  View enter_queue();
  /// The record with this one as its only holder.
  View write_own(const Record& before, const Cas& cas);
  View write(Record record, const Cas& cas);
  View join(const Record& before, const View& view);
  /// The number of the epoch in which this came back.
  std::uint64_t epoch_of(const View& view);
  /// Takes out those whose leases are over, which are all of its holders or some.
  View evict(Record rest, const Cas& cas);
  [[nodiscard]] bool is_starving() const;
  /// The record without those whose leases are over; nothing where all of them run.
  [[nodiscard]] std::optional<Record> without_dead(const Record& found);
  [[nodiscard]] Record own_record(const Record& before, const std::string& token) const;

  const SharedSpec spec_;
  const OwnerId owner_;
  unsigned generation_;      // of the process; what stands in the queue is not a child's
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

  std::optional<Record> sent_;  // by the last request that wrote a record
  std::string seen_stamp_;      // of the record as it was first seen
  Clock::time_point seen_at_{};
};

}  // namespace memcachedlock::detail
