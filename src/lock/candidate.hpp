// The requests of one acquire, until it holds the lock or gives up.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "base/process.hpp"
#include "lock/holding.hpp"
#include "lock/place.hpp"
#include "memcachedlock/options.hpp"
#include "server/inbox.hpp"
#include "server/mailbox.hpp"
#include "waiting/bid.hpp"
#include "waiting/contention.hpp"
#include "waiting/handoff.hpp"
#include "wire/record.hpp"

namespace memcachedlock::detail {

/// Used by one thread at a time.
class Candidate {
 public:
  struct Contended {
    Contention contention;
  };
  struct Guarded {
    Clock::time_point until;
  };
  /// It holds the lock at its server, and must hold it at another one too before that counts.
  struct Half {
    std::shared_ptr<Holding> holding;
    Server* other = nullptr;
    std::uint64_t floor = 0;    ///< of tokens, where a move asks for both
    bool is_left_over = false;  ///< only the other one counts
  };
  /// It is to be locked at another server first; null: where the client's lists say now.
  struct Elsewhere {
    Server* where = nullptr;
  };
  /// Of a second place: it is the first one, by another name.
  struct SamePlace {};
  using Attempt =
      std::variant<std::shared_ptr<Holding>, Contended, Guarded, Half, Elsewhere, SamePlace>;

  /// `label` is of the thread that acquires (thread_label()). `wake` is called in any thread once
  /// it is told that it holds the lock, and must not wait; by the thread of the event loops, if no
  /// other reads what comes, where it `is_for_loop`.
  Candidate(SharedSpec spec, OwnerId owner, std::string label, std::function<void()> wake,
            bool is_for_loop);
  /// The lock is held by its owner at this place too, with a token there if it is to stay.
  /// `floor` is that of tokens, if a move asks for both.
  void set_first_place(Place place, std::uint64_t floor, FencingToken fence);
  /// Leaves the record's queue.
  ~Candidate();
  /// Leaves it in the background.
  void leave_later() noexcept;
  Candidate(const Candidate&) = delete;
  Candidate& operator=(const Candidate&) = delete;

  /// One request; more at first contact with a server, to enter the queue, or to
  /// confirm what was granted; none where it was told in time. The lease counts from before the
  /// last one was sent. Enters the queue of the lock's record if `may_queue`, and if not a thread
  /// of this process holds the lock and will wake it, as one that has `lined_up`. Throws
  /// Unavailable, ServerError.
  Attempt ask(bool may_queue, bool lined_up);
  /// What a holder in this process has written for bid().
  Attempt receive(Handoff handoff);

  [[nodiscard]] const Bid& bid() const noexcept { return bid_; }
  /// Whether it has a seat in the record's queue.
  [[nodiscard]] bool is_queued() const noexcept { return queued_; }
  /// Whether it was told that it holds the lock, which ask() is to find.
  [[nodiscard]] bool is_told() const { return inbox_ && !is_copy() && inbox_->box.is_told(); }
  [[nodiscard]] bool succeeded() const noexcept { return succeeded_; }

  /// Its seat in the record's queue, to be given to another, which takes it over.
  [[nodiscard]] std::optional<Seat> give_seat();
  void take_seat(std::string token);
  /// Removes a seat that nobody takes over.
  static void leave_seat(const Seat& seat) noexcept;

 private:
  /// Whether this is in a copy of the process that began it.
  [[nodiscard]] bool is_copy() const { return generation_ != process_generation(); }
  void become_another();
  void renew_token();
  Attempt judge(Snapshot snapshot, Clock::time_point started);
  /// Whether it must be held elsewhere too, or only.
  [[nodiscard]] bool asks_for_more(const SeenItem& seen);
  [[nodiscard]] bool is_refused(const SeenItem& seen);
  Attempt settle(const Snapshot& snapshot, Record found);
  Attempt settle(const Snapshot& snapshot, Record found, Clock::time_point started,
                 std::chrono::milliseconds lease, bool confirmed);
  /// What to make of the news that it holds the lock.
  Attempt hear(const Grant& grant);
  void open_inbox();
  /// It waits still, as a look has shown that began then.
  void note_wait(const Record& found, const Snapshot& snapshot, Clock::time_point began);
  Snapshot add();
  /// Holds at once if nobody is before it.
  Snapshot enter_queue();
  Snapshot append(const Server::Words& words);
  /// `lease` is that of the words' END.
  Snapshot append(std::chrono::milliseconds lease, const Server::Words& words);
  /// Begins a lease, or goes on waiting. `own` is its entry as it was found.
  Snapshot append_lease(const Entry& own, std::chrono::milliseconds lease);
  /// Replaces the record, in which this one's lease begins if it holds it.
  Snapshot write(Record record, const Cas& cas);
  /// What this holder must write before it may count on its lease, if anything.
  std::optional<Snapshot> complete(const Record& found, const Snapshot& snapshot);
  /// What this waiter must write to go on waiting, if anything.
  std::optional<Snapshot> stay(const Record& found, const Snapshot& snapshot);
  /// The number of the epoch in which this came back.
  std::uint64_t epoch_of(const Snapshot& snapshot);
  static std::shared_ptr<Holding> take_place(SharedSpec spec, std::string label, Place first,
                                             FencingToken fence);
  [[nodiscard]] std::uint64_t token_epoch(const Admission& now) const;
  /// Those before it whose leases are over.
  struct Dead {
    std::vector<std::pair<std::string, std::uint64_t>> entries;  ///< token and COUNT
    /// The tokens of those that wait in a process that has let a turn pass: they would too.
    std::vector<std::string> waiting;
  };
  [[nodiscard]] Dead find_dead(const Record& found);
  Snapshot remove_dead(const Dead& dead, const Record& found, const Snapshot& snapshot);
  [[nodiscard]] bool never_confirmed(const Entry& holder, std::size_t at) const;

  const Bid bid_;
  const SharedSpec& spec_ = bid_.spec;
  unsigned generation_;  // of the process; what stands in the queue is not a child's
  std::string token_;
  bool may_queue_ = false;
  bool lined_up_ = false;
  bool queued_ = false;           // our token is in the record's queue, or was
  bool seen_ = false;             // our token was in a record
  bool may_have_landed_ = false;  // something of ours may be there
  bool contended_ = false;        // another had it when we last asked
  bool local_ = false;            // a thread of this process
  bool full_ = false;             // the queue had no room
  bool succeeded_ = false;
  std::optional<Place> first_place_;
  std::uint64_t first_floor_ = 0;
  FencingToken fence_{};  // to be written
  Cohort cohort_;

  std::optional<Record> sent_;  // by the last request that wrote a record
  /// The last request that wrote when this one's lease, or its wait, is over. The lease counts from
  /// `started` if the entry that comes back has this END and COUNT, or higher ones.
  struct Written {
    Clock::time_point started{};
    std::int64_t end = 0;
    std::uint64_t count = 0;
    bool with_expiry = false;  ///< and the item's expiry with it
  };
  Written written_;

  /// Where it is told, while it waits under its token.
  struct Told {
    Told(const std::string& token, const std::function<void()>& wake, Mailbox* read_by_loop);
    ~Told();
    Told(const Told&) = delete;
    Told& operator=(const Told&) = delete;
    Inbox box;
    Mailbox* const read_by_loop;
  };
  const std::function<void()> wake_;
  const bool is_for_loop_;
  std::optional<Told> inbox_;
  /// For the lease of one that is told.
  struct Wait {
    Clock::time_point entered{};   ///< before it entered the queue
    Clock::time_point looked{};    ///< before the last look that showed it waiting
    Clock::time_point until{};     ///< as far as others do not take it for dead
    std::optional<SeenItem> item;  ///< of the server, as it entered
    std::uint64_t start = 0;
    bool tellable = false;
    bool item_lasts = false;              ///< for a grace from that look
    std::chrono::milliseconds length{0};  ///< until the END that it last wrote
  };
  Wait wait_;
  // The CAS ids of the records that it last appended to, to enter and to take out.
  std::uint64_t entered_from_ = 0;
  std::uint64_t removed_from_ = 0;
  bool wrote_rest_ = false;  // the last time that it took somebody out
  std::string seen_holder_;  // with its count, as it was first seen
  Clock::time_point seen_at_{};
  std::optional<Clock::time_point> dead_since_;  // somebody before it could be taken out
};

}  // namespace memcachedlock::detail
