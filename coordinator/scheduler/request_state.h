#ifndef KVEC_COORDINATOR_SCHEDULER_REQUEST_STATE_H_
#define KVEC_COORDINATOR_SCHEDULER_REQUEST_STATE_H_

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/scheduler/eviction_schedule.h"
#include "coordinator/scheduler/eviction_summary.h"
#include "coordinator/scheduler/loss_record.h"
#include "coordinator/scheduler/page_ledger.h"
#include "coordinator/scheduler/request.h"
#include "coordinator/scheduler/request_metrics.h"
#include "coordinator/scheduler/sequence.h"
#include "coordinator/scheduler/session_table.h"

namespace kvec::coordinator::scheduler {

// A request in the scheduler, from Submit until its sink's OnDone. Steps in flight and pages that
// are still to be freed keep it alive a little longer.
struct RequestState : std::enable_shared_from_this<RequestState> {
  RequestState(Request submitted, uint64_t arrival_number, absl::Time now)
      : request(std::move(submitted)), arrival(arrival_number), metrics(now) {
    for (uint32_t choice = 0; choice < request.num_choices; ++choice) {
      choices.emplace_back(*this, choice);
    }
    num_unfinished = request.num_choices;
    prompts = {{0, prompt_tokens()}};
  }

  bool is_forced() const { return !request.forced_tokens.empty(); }
  // With those of the session that the request continues.
  uint32_t prompt_tokens() const { return static_cast<uint32_t>(request.prompt.size()); }

  // Whether a choice is still to be forked from choice 0.
  bool NeedsFork() const {
    return std::any_of(choices.begin(), choices.end(),
                       [](const Sequence& choice) { return choice.NeedsFork(); });
  }

  // How much of the prompt the workers hold at a time; nothing: all of it.
  std::optional<PageLedger::PrefillBound> prefill_bound() const {
    if (!schedule.has_prefill()) return std::nullopt;
    const std::vector<uint32_t>& budgets = schedule.prefill_budgets();
    return PageLedger::PrefillBound{
        .max_rows = schedule.prefill_bound(),
        .max_selected = std::accumulate(budgets.begin(), budgets.end(), uint64_t{0}),
        .more_rows = request.cache.observation_window() + schedule.prefill_interval()};
  }

  // Choices that choice 0 prefills for.
  uint32_t num_joined() const {
    return static_cast<uint32_t>(std::count_if(
        choices.begin(), choices.end(),
        [](const Sequence& choice) { return choice.state() == Sequence::State::kJoined; }));
  }

  // Tokens of all choices.
  uint64_t num_delivered() const {
    return std::accumulate(
        choices.begin(), choices.end(), uint64_t{0},
        [](uint64_t sum, const Sequence& choice) { return sum + choice.num_delivered(); });
  }
  bool is_suspect() const { return losses.IsSuspect(num_delivered()); }

  // Rows before the eviction: only these can be shared with other requests.
  uint32_t first_prompt_tokens() const { return prompts.front().end; }

  const Request request;   // `prompt` begins with the session's tokens
  const uint64_t arrival;  // counts requests
  EvictionSchedule schedule;
  EvictionSummary eviction;
  std::shared_ptr<Session> session;   // in use by this request; null: none
  uint32_t session_tokens = 0;        // before this request
  std::vector<PositionSpan> prompts;  // fed as such; the last one ends at prompt_tokens()
  RequestMetrics metrics;
  std::deque<Sequence> choices;  // [num_choices]; at fixed addresses
  uint32_t num_unfinished = 0;   // choices
  uint32_t num_resident = 0;     // choices on the workers
  bool was_started = false;
  LossRecord losses;
};

// Who goes first: by priority, then in order of arrival. Preempted sequences have arrived before
// any that was never started, so they come first in their class.
struct RankLess {
  bool operator()(const Sequence* a, const Sequence* b) const {
    const RequestState& left = a->request();
    const RequestState& right = b->request();
    if (left.request.priority != right.request.priority) {
      return left.request.priority > right.request.priority;
    }
    if (left.arrival != right.arrival) return left.arrival < right.arrival;
    return a->choice() < b->choice();
  }
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_REQUEST_STATE_H_
