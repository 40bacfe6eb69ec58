// Metrics of locks for Prometheus. Only programs that include this header need prometheus-cpp.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <utility>

#include "memcachedlock/detail/plain_text.hpp"
#include "memcachedlock/observer.hpp"

namespace memcachedlock {

/// Counts and times what a client's locks do, in a registry of prometheus-cpp, exposed the usual
/// way. Thread safe; for ClientOptions::observer of one client or of several. An event costs a
/// look into a map, and a few atomic additions.
///
///  metric                               | labels         | what
///  -------------------------------------|----------------|------------------------------------------
///  memcachedlock_acquisitions_total     | and `outcome`  | acquired, unlocked (memcached was away,
///                                       |                | OnUnavailable::proceed), timed_out,
///                                       |                | cancelled, unavailable, lost, entered
///  memcachedlock_contended_total        |                | found held by another
///  memcachedlock_wait_seconds           |                | until acquired
///  memcachedlock_hold_seconds           |                | from acquired to released
///  memcachedlock_held                   |                | now
///  memcachedlock_waiting                |                | now, while another holds it
///  memcachedlock_lost_total             |                | leases that ended while held
///  memcachedlock_extended_total         |                | leases renewed
///  memcachedlock_reserved_total         |                | kept for their owner by a ZLock
///  memcachedlock_conflicts_total        |                | writes that the store refused
///  memcachedlock_retries_total          |                | callables that a ZLock ran again
///  memcachedlock_misused_total          |                | unlock() of what was not held
///  memcachedlock_unavailable_total      | server         | requests that memcached did not answer,
///  or
///                                       |                | not as a lock needs it
///  memcachedlock_restarts_total         | server         | restarts and flushes seen
///  memcachedlock_servers_differ_total   | server         | uses of a key that were refused, as
///  clients
///                                       |                | do not agree about the servers
///  memcachedlock_servers_moved_total    | server         | changes of the list of servers
///  memcachedlock_round_trip_seconds     | server         | requests that it answered
///
/// The labels are `scope` (LockOptions::scope) and `lock` (lock, rlock, zlock) where nothing else
/// is said. Never the key: there may be any number of them. Scopes beyond the first `max_scopes`
/// are counted together, as "other". In a scope that is not UTF-8, bytes that are not printable
/// ASCII stand as `\xHH`.
class PrometheusObserver : public Observer {
 public:
  /// Throws what prometheus-cpp throws where one of the names is taken by another kind of metric.
  explicit PrometheusObserver(std::shared_ptr<prometheus::Registry> registry,
                              std::size_t max_scopes = 100)
      : registry_(std::move(registry)),
        max_scopes_(max_scopes),
        acquisitions_(counter(*registry_, "acquisitions_total", "Ends of acquires, by outcome.")),
        contended_(counter(*registry_, "contended_total", "Acquires that found another holder.")),
        lost_(counter(*registry_, "lost_total", "Leases that ended while they were held.")),
        extended_(counter(*registry_, "extended_total", "Leases that were renewed.")),
        reserved_(counter(*registry_, "reserved_total", "Locks that were kept for their owner.")),
        conflicts_(counter(*registry_, "conflicts_total", "Writes that the store refused.")),
        retries_(counter(*registry_, "retries_total", "Callables that were run again.")),
        unavailable_(
            counter(*registry_, "unavailable_total", "Requests that memcached did not answer.")),
        misused_(counter(*registry_, "misused_total", "Calls for locks that were not held.")),
        restarts_(counter(*registry_, "restarts_total", "Restarts and flushes of a server.")),
        differ_(counter(*registry_, "servers_differ_total",
                        "Uses refused, as clients do not agree about the servers.")),
        moved_(counter(*registry_, "servers_moved_total", "Changes of the list of servers.")),
        held_(gauge(*registry_, "held", "Locks that are held.")),
        waiting_(gauge(*registry_, "waiting", "Acquires that wait for another holder.")),
        wait_(histogram(*registry_, "wait_seconds", "From asking for a lock to having it.")),
        hold_(histogram(*registry_, "hold_seconds", "From having a lock to releasing it.")),
        grants_(counter(*registry_, "grants_total", "How waiters learned that they hold a lock.")),
        round_trips_(histogram(*registry_, "round_trip_seconds", "Requests to memcached.")) {}

  /// Counts it.
  void on_event(const Event& event) override {
    if (Counters* const counters = by_server(event.kind)) {
      counters->Add({{"server", detail::utf8_or_plain(std::string(event.server))}}).Increment();
      return;
    }
    Series& series = series_of(event);
    if (event.ends_contention) series.waiting.Decrement();
    switch (event.kind) {
      case EventKind::acquired:
        count_acquisition(series, "acquired");
        series.wait.Observe(seconds(event));
        series.held.Increment();
        break;
      case EventKind::contended:
        series.contended.Increment();
        series.waiting.Increment();
        break;
      case EventKind::given_up:
        count_acquisition(series, to_string(event.give_up));
        break;
      case EventKind::proceeded_unlocked:
        count_acquisition(series, "unlocked");
        break;
      case EventKind::released:
        series.hold.Observe(seconds(event));
        series.held.Decrement();
        break;
      case EventKind::lost:
        series.lost.Increment();
        series.held.Decrement();
        break;
      case EventKind::reserved:
        series.reserved.Increment();
        series.held.Decrement();
        break;
      case EventKind::extended:
        series.extended.Increment();
        break;
      case EventKind::conflict:
        series.conflicts.Increment();
        break;
      case EventKind::retried:
        series.retries.Increment();
        break;
      case EventKind::misused:
        series.misused.Increment();
        break;
      case EventKind::unavailable:
      case EventKind::restart_seen:
      case EventKind::servers_differ:
      case EventKind::servers_moved:
        break;
    }
  }

  /// Counts it.
  void on_grant(std::string_view server, GrantKind kind) override {
    grants_
        .Add({{"server", detail::utf8_or_plain(std::string(server))},
              {"how", std::string(to_string(kind))}})
        .Increment();
  }

  /// Adds it to the server's histogram.
  void on_round_trip(std::string_view server, std::chrono::nanoseconds duration) override {
    round_trips_.Add({{"server", detail::utf8_or_plain(std::string(server))}}, round_trip_buckets())
        .Observe(std::chrono::duration<double>(duration).count());
  }

 private:
  using Counters = prometheus::Family<prometheus::Counter>;
  using Gauges = prometheus::Family<prometheus::Gauge>;
  using Histograms = prometheus::Family<prometheus::Histogram>;
  using Buckets = prometheus::Histogram::BucketBoundaries;

  /// The metrics of one scope and type of lock.
  struct Series {
    prometheus::Labels labels;
    prometheus::Counter& contended;
    prometheus::Counter& lost;
    prometheus::Counter& extended;
    prometheus::Counter& reserved;
    prometheus::Counter& conflicts;
    prometheus::Counter& retries;
    prometheus::Counter& misused;
    prometheus::Gauge& held;
    prometheus::Gauge& waiting;
    prometheus::Histogram& wait;
    prometheus::Histogram& hold;
  };

  /// Of what is counted by the server, and not by the lock.
  Counters* by_server(EventKind kind) const {
    switch (kind) {
      case EventKind::unavailable:
        return &unavailable_;
      case EventKind::restart_seen:
        return &restarts_;
      case EventKind::servers_differ:
        return &differ_;
      case EventKind::servers_moved:
        return &moved_;
      default:
        return nullptr;
    }
  }

  static std::string name(const char* what) { return std::string("memcachedlock_") + what; }
  static Counters& counter(prometheus::Registry& registry, const char* what, const char* help) {
    return prometheus::BuildCounter().Name(name(what)).Help(help).Register(registry);
  }
  static Gauges& gauge(prometheus::Registry& registry, const char* what, const char* help) {
    return prometheus::BuildGauge().Name(name(what)).Help(help).Register(registry);
  }
  static Histograms& histogram(prometheus::Registry& registry, const char* what, const char* help) {
    return prometheus::BuildHistogram().Name(name(what)).Help(help).Register(registry);
  }

  static Buckets wait_buckets() {
    return {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
  }
  static Buckets round_trip_buckets() {
    return {0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1};
  }
  static double seconds(const Event& event) {
    return std::chrono::duration<double>(event.duration).count();
  }

  void count_acquisition(const Series& series, std::string_view outcome) {
    prometheus::Labels labels = series.labels;
    labels.emplace("outcome", outcome);
    acquisitions_.Add(labels).Increment();
  }

  Series& series_of(const Event& event) {
    const auto place = std::pair(std::string(event.scope), event.lock);
    {
      const std::shared_lock lock(mutex_);
      const auto known = series_.find(place);
      if (known != series_.end()) return *known->second;
    }
    const std::unique_lock lock(mutex_);
    std::string scope = detail::utf8_or_plain(place.first);  // others spoil all of a scrape
    if (!scopes_.contains(scope)) {
      if (scopes_.size() >= max_scopes_) {
        scope = "other";
      } else {
        scopes_.insert(scope);
      }
    }
    auto& series = series_[{scope, event.lock}];
    if (!series) {
      const prometheus::Labels labels{{"scope", scope},
                                      {"lock", std::string(to_string(event.lock))}};
      series = std::make_unique<Series>(
          Series{labels, contended_.Add(labels), lost_.Add(labels), extended_.Add(labels),
                 reserved_.Add(labels), conflicts_.Add(labels), retries_.Add(labels),
                 misused_.Add(labels), held_.Add(labels), waiting_.Add(labels),
                 wait_.Add(labels, wait_buckets()), hold_.Add(labels, wait_buckets())});
    }
    return *series;
  }

  const std::shared_ptr<prometheus::Registry> registry_;  // events may come after its other users
  const std::size_t max_scopes_;
  Counters& acquisitions_;
  Counters& contended_;
  Counters& lost_;
  Counters& extended_;
  Counters& reserved_;
  Counters& conflicts_;
  Counters& retries_;
  Counters& unavailable_;
  Counters& misused_;
  Counters& restarts_;
  Counters& differ_;
  Counters& moved_;
  Gauges& held_;
  Gauges& waiting_;
  Histograms& wait_;
  Histograms& hold_;
  Counters& grants_;
  Histograms& round_trips_;

  std::shared_mutex mutex_;
  std::set<std::string> scopes_;
  std::map<std::pair<std::string, LockType>, std::unique_ptr<Series>> series_;
};

}  // namespace memcachedlock
