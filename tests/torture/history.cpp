#include "history.hpp"

#include <algorithm>
#include <limits>
#include <sstream>

std::int64_t Attempt::held_until() const {
  std::int64_t end = lease_end;
  if (given_up != 0) end = std::min(end, given_up);
  if (lost != 0) end = std::min(end, lost);
  return end;
}

std::int64_t Attempt::kept_until() const {
  const bool is_known = !outcome.empty() && outcome != "lost" && outcome != "unavailable";
  return is_known ? released : std::max({lease_end, given_up, released});
}

// A line a step: a letter, the attempt's id, and what belongs to the step.
void History::read(std::istream& lines) {
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    char step = 0;
    std::string id;
    words >> step >> id;
    bool understood = true;
    if (step == 'X') {  // an observer's, not an attempt's
      std::string key;
      std::string token;
      std::int64_t time = 0;
      words >> key >> token >> time;
      told_lost.emplace(id + " " + key + " " + token, time);
    } else {
      Attempt& attempt = attempts[id];
      attempt.id = id;
      switch (step) {
        case 'I':
          words >> attempt.key >> attempt.asked >> attempt.limit;
          break;
        case 'F':
          words >> attempt.refused;
          break;
        case 'A':
          words >> attempt.acquired >> attempt.token >> attempt.lease_end;
          break;
        case 'E':
          words >> attempt.lease_end;
          break;
        case 'L':
          words >> attempt.lost;
          break;
        case 'R':
          words >> attempt.given_up;
          break;
        case 'O':
          words >> attempt.released >> attempt.outcome;
          break;
        default:
          understood = false;
      }
    }
    if (!understood || words.fail()) unreadable.push_back(line);
  }
}

namespace {

/// What one token stands for: all attempts that shared it.
struct Holding {
  std::string token;
  std::int64_t from = 0;
  std::int64_t until = 0;
  std::string id;
};

std::string name_of(const Holding& holding) {
  return holding.id + " (token " + holding.token + ", " + std::to_string(holding.from) + " to " +
         std::to_string(holding.until) + ")";
}

std::map<std::string, std::vector<Holding>> holdings_by_key(const History& history) {
  std::map<std::string, std::map<std::string, Holding>> by_token;
  for (const auto& [id, attempt] : history.attempts) {
    if (attempt.acquired == 0) continue;
    Holding& holding = by_token[attempt.key][attempt.token];
    if (holding.token.empty()) {
      holding = {attempt.token, attempt.acquired, attempt.held_until(), id};
    } else {
      holding.from = std::min(holding.from, attempt.acquired);
      holding.until = std::max(holding.until, attempt.held_until());
    }
  }
  std::map<std::string, std::vector<Holding>> result;
  for (auto& [key, holdings] : by_token) {
    std::vector<Holding>& sorted = result[key];
    for (auto& [token, holding] : holdings) sorted.push_back(std::move(holding));
    std::sort(sorted.begin(), sorted.end(),
              [](const Holding& a, const Holding& b) { return a.from < b.from; });
  }
  return result;
}

}  // namespace

Verdict check(const History& history, std::int64_t allowance,
              const std::vector<std::string>& killed) {
  Verdict verdict;
  const auto violation = [&](const std::string& text) { verdict.violations.push_back(text); };

  for (const auto& [key, holdings] : holdings_by_key(history)) {
    const Holding* longest = nullptr;  // of those before, the one that ends last
    const Holding* last = nullptr;
    for (const Holding& holding : holdings) {
      if (longest != nullptr && holding.from < longest->until) {
        violation("two holders of " + key + ": " + name_of(*longest) + " and " + name_of(holding));
      }
      if (last != nullptr && holding.token <= last->token) {
        violation("the token of " + key + " did not rise: " + name_of(*last) + " then " +
                  name_of(holding));
      }
      if (longest == nullptr || holding.until > longest->until) longest = &holding;
      last = &holding;
      ++verdict.holdings;
    }
  }

  // A named owner's threads share a token: one of them must not have been notified yet.
  std::map<std::string, std::int64_t> last_released;
  for (const auto& [id, attempt] : history.attempts) {
    if (attempt.acquired == 0) continue;
    const std::string shared = id.substr(0, id.find('.')) + " " + attempt.key + " " + attempt.token;
    const std::int64_t released =
        attempt.outcome == "released" ? attempt.released : std::numeric_limits<std::int64_t>::max();
    std::int64_t& last = last_released[shared];
    last = std::max(last, released);
  }
  for (const auto& [shared, time] : history.told_lost) {
    const auto released = last_released.find(shared);
    if (released != last_released.end() && time > released->second) {
      violation("released, and then lost: process, key, token " + shared);
    }
  }

  for (const auto& [id, attempt] : history.attempts) {
    if (attempt.acquired != 0) ++verdict.acquisitions;
    if (attempt.outcome == "lost") ++verdict.lost;
    const bool was_killed =
        std::any_of(killed.begin(), killed.end(),
                    [&, name = id](const auto& k) { return name.rfind(k, 0) == 0; });
    const std::int64_t ended = std::max(attempt.acquired, attempt.refused);
    if (attempt.asked == 0) {
      violation(id + " ended a wait that it never began");
    } else if (ended == 0) {
      if (!was_killed) violation(id + " waited for " + attempt.key + " for ever");
    } else if (ended - attempt.asked > attempt.limit + allowance) {
      violation(id + " waited for " + attempt.key + " longer than it may");
    } else if (attempt.acquired != 0 && attempt.given_up != 0 && attempt.outcome.empty() &&
               !was_killed) {
      violation(id + " released " + attempt.key + " for ever");
    }
  }
  return verdict;
}

Idle longest_idle(const History& history) {
  std::map<std::string, std::vector<const Attempt*>> held;
  for (const auto& [id, attempt] : history.attempts) {
    if (attempt.acquired != 0) held[attempt.key].push_back(&attempt);
  }
  for (auto& [key, attempts] : held) {
    std::sort(attempts.begin(), attempts.end(), [](const Attempt* one, const Attempt* other) {
      return one->acquired < other->acquired;
    });
  }
  Idle longest;
  for (const auto& [key, attempts] : held) {
    // Nobody holds it from `from` to `until`.
    std::vector<std::pair<std::int64_t, std::int64_t>> gaps;
    std::int64_t from = attempts.front()->acquired;
    for (const Attempt* attempt : attempts) {
      if (attempt->acquired > from) gaps.emplace_back(from, attempt->acquired);
      from = std::max(from, attempt->kept_until());
    }
    gaps.emplace_back(from, std::numeric_limits<std::int64_t>::max());
    for (const auto& [id, attempt] : history.attempts) {
      const std::int64_t ended = std::max(attempt.acquired, attempt.refused);
      if (attempt.key != key || ended == 0) continue;
      auto gap = std::partition_point(
          gaps.begin(), gaps.end(),
          [asked = attempt.asked](const auto& one) { return one.second <= asked; });
      for (; gap != gaps.end() && gap->first < ended; ++gap) {
        const std::int64_t time =
            std::min(gap->second, ended) - std::max(gap->first, attempt.asked);
        if (time > longest.time) longest = {time, id};
      }
    }
  }
  return longest;
}
