#include "coordinator/scheduler/scheduler.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/scheduler/page_ledger.h"
#include "coordinator/scheduler/request_status.h"
#include "coordinator/scheduler/request_table.h"
#include "coordinator/scheduler/result_reader.h"
#include "coordinator/scheduler/step_composer.h"
#include "coordinator/scheduler/steps_in_flight.h"

namespace kvec::coordinator::scheduler {
namespace {

absl::Status CheckRequest(const Request& request) {
  if (request.sink == nullptr) return absl::InvalidArgumentError("sink: missing");
  if (request.prompt.empty()) return absl::InvalidArgumentError("prompt: empty");
  if (request.num_choices == 0) return absl::InvalidArgumentError("n: 0, must be at least 1");
  if (request.max_tokens == 0) {
    return absl::InvalidArgumentError("max_tokens: 0, must be at least 1");
  }
  if (!request.session_id.empty() && request.num_choices > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("n: ", request.num_choices, ", must be 1 with a session_id"));
  }
  if (!request.forced_tokens.empty() && request.num_choices > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("n: ", request.num_choices, ", must be 1 with forced_token_ids"));
  }
  return absl::OkStatus();
}

// Puts a session's tokens before those of a request that continues it, whose cache policy goes on.
// INVALID_ARGUMENT when the context is too short for both.
absl::Status FollowUp(const Session& session, Request& request) {
  if (request.sampling.prompt_logprobs() >= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt_logprobs: ", request.sampling.prompt_logprobs(),
                     ", not offered for requests that continue a session"));
  }
  const size_t num_tokens = session.tokens.size() + request.prompt.size();
  const size_t max_tokens = request.fills_context ? 1 : request.max_tokens;
  if (num_tokens + max_tokens > request.context_length) {
    return absl::InvalidArgumentError(
        absl::StrCat("session_id: ", session.id, ": ", session.tokens.size(),
                     " tokens, a prompt of ", request.prompt.size(), " and ", max_tokens,
                     " new ones exceed the context of ", request.context_length));
  }
  if (request.fills_context) {
    request.max_tokens = request.context_length - static_cast<uint32_t>(num_tokens);
  }
  request.prompt.insert(request.prompt.begin(), session.tokens.begin(), session.tokens.end());
  request.cache = session.cache;
  return absl::OkStatus();
}

uint32_t NumStages(const std::vector<WorkerCapacity>& workers) {
  uint32_t num_stages = 1;
  for (const WorkerCapacity& worker : workers) {
    num_stages = std::max(num_stages, worker.stage + 1);
  }
  return num_stages;
}

uint32_t NumKvHeads(const SchedulerOptions& options, const std::vector<WorkerCapacity>& workers) {
  if (options.num_kv_heads > 0) return options.num_kv_heads;
  uint32_t num_kv_heads = 0;
  for (const WorkerCapacity& worker : workers) {
    if (worker.stage == 0) num_kv_heads += worker.num_kv_heads;
  }
  return num_kv_heads;
}

// What the request needs to start, and to generate one token if no eviction makes room for it.
PageLedger::Reservation LeastNeed(const RequestState& request) {
  const bool needs_one_more = !request.is_forced() && !request.schedule.evicts_at_prompt_end();
  PageLedger::Reservation need;
  for (const Sequence& choice : request.choices) {
    if (choice.state() == Sequence::State::kFinished) continue;
    need.num_rows = std::max(need.num_rows, choice.num_reserved_rows() + (needs_one_more ? 1 : 0));
  }
  need.num_forks = request.num_joined();
  need.prefill = request.prefill_bound();
  return need;
}

// A group of workers and everything that ends with it.
struct Group {
  Group(uint64_t group_epoch, std::vector<WorkerCapacity> workers, const SchedulerOptions& options,
        RequestTable& requests, SessionTable& sessions, const BudgetAllocator* budgets,
        StepComposer::Totals& totals, PrefixFeeds& feeds, uint64_t& num_generated)
      : epoch(group_epoch),
        num_stages(NumStages(workers)),
        num_kv_heads(NumKvHeads(options, workers)),
        ledger(std::move(workers), options.step_tokens, &feeds),
        steps(ledger.num_workers()),
        composer(options, num_stages, requests, sessions, ledger, totals),
        reader(num_kv_heads, requests, ledger, budgets, num_generated) {}

  const uint64_t epoch;
  const uint32_t num_stages;
  const uint32_t num_kv_heads;  // of a layer
  PageLedger ledger;
  StepsInFlight steps;
  StepComposer composer;
  ResultReader reader;
};

class ContinuousScheduler : public Scheduler {
 public:
  ContinuousScheduler(const SchedulerOptions& options,
                      std::shared_ptr<const BudgetAllocator> budgets)
      : options_(options),
        budgets_(std::move(budgets)),
        sessions_(options.session_ttl, options.max_sessions),
        requests_(options.max_waiting_requests, options.max_waiting_tokens, options.most_losses,
                  sessions_) {}

  absl::Status Submit(Request request, absl::Time now) override;
  bool HasSession(absl::string_view session_id) const override;
  Readiness readiness() const override;
  bool Knows(absl::string_view request_id, absl::string_view session_id) const override;
  uint32_t CountCachedTokens(absl::Span<const int32_t> prompt) const override;
  void Cancel(absl::string_view request_id, absl::Status reason, absl::Time now) override;
  void OnGroupReady(uint64_t epoch, std::vector<WorkerCapacity> workers, absl::Time now) override;
  void HoldStarts() override;
  void OnGroupLost(absl::Time now) override;
  std::optional<v1::Step> NextStep(absl::Time now) override;
  absl::Status OnStepResult(uint32_t worker, const v1::StepResult& result, absl::Time now) override;
  absl::Time NextDeadline() const override;
  void ExpireDeadlines(absl::Time now) override;
  absl::Status Subscribe(const std::shared_ptr<PrefixFeed>& feed) override;
  SchedulerCounts counts() const override;
  std::vector<v1::RequestStatus> RequestStatuses(uint32_t max_requests,
                                                 absl::Time now) const override;
  std::vector<uint64_t> free_pages() const override;
  std::vector<uint64_t> cached_pages() const override;

 private:
  absl::Status AllocateBudgets(RequestState& request) const;
  // Queues a request, of a session that it has entered unless that is null.
  absl::Status Add(Request request, std::shared_ptr<Session> session, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const SchedulerOptions options_;
  const std::shared_ptr<const BudgetAllocator> budgets_;

  // std::mutex: ThreadSanitizer can't see into the packaged absl::Mutex.
  mutable std::mutex mutex_;
  SessionTable sessions_ ABSL_GUARDED_BY(mutex_);
  RequestTable requests_ ABSL_GUARDED_BY(mutex_);
  PrefixFeeds prefix_feeds_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Group> group_ ABSL_GUARDED_BY(mutex_);  // null: none
  uint64_t last_arrival_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t last_step_id_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t num_steps_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t num_generated_ ABSL_GUARDED_BY(mutex_) = 0;
  StepComposer::Totals totals_ ABSL_GUARDED_BY(mutex_);
};

absl::Status ContinuousScheduler::AllocateBudgets(RequestState& request) const {
  const v1::CachePolicy& policy = request.request.cache;
  if (policy.policy().empty() || policy.policy() == "full") return absl::OkStatus();
  if (budgets_ == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("cache.policy: ", policy.policy(), ", this coordinator has only full"));
  }
  KVEC_ASSIGN_OR_RETURN(request.schedule,
                        EvictionSchedule::Make(policy, request.prompt_tokens(), *budgets_));
  return absl::OkStatus();
}

absl::Status ContinuousScheduler::Submit(Request request, absl::Time now) {
  KVEC_RETURN_IF_ERROR(CheckRequest(request));
  if (request.num_choices > options_.max_running_sequences) {
    return absl::ResourceExhaustedError(absl::StrCat("n: ", request.num_choices, ", at most ",
                                                     options_.max_running_sequences,
                                                     " sequences run at a time"));
  }
  if (options_.max_prompt_tokens > 0 && request.prompt.size() > options_.max_prompt_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("prompt: ", request.prompt.size(),
                                                   " tokens, this server takes at most ",
                                                   options_.max_prompt_tokens));
  }
  const std::lock_guard lock(mutex_);
  sessions_.Advance(now);
  if (request.session_id.empty()) return Add(std::move(request), nullptr, now);
  KVEC_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                        sessions_.Enter(request.session_id));
  const absl::Status status = Add(std::move(request), session, now);
  if (!status.ok()) sessions_.Leave(*session);
  return status;
}

absl::Status ContinuousScheduler::Add(Request request, std::shared_ptr<Session> session,
                                      absl::Time now) {
  const bool is_follow_up = session != nullptr && !session->tokens.empty();
  if (is_follow_up != request.is_follow_up) {
    return absl::AbortedError(absl::StrCat("session_id: ", request.session_id,
                                           is_follow_up ? " has begun" : " has ended",
                                           " while this request was being read"));
  }
  if (is_follow_up) KVEC_RETURN_IF_ERROR(FollowUp(*session, request));
  const auto state = std::make_shared<RequestState>(std::move(request), ++last_arrival_, now);
  state->session = std::move(session);
  if (is_follow_up) {
    const Session& earlier = *state->session;
    state->session_tokens = static_cast<uint32_t>(earlier.tokens.size());
    state->prompts = earlier.prompts;
    state->prompts.push_back({state->session_tokens - 1, state->prompt_tokens()});
    state->schedule = earlier.schedule;
    state->eviction = earlier.eviction;
  } else {
    KVEC_RETURN_IF_ERROR(AllocateBudgets(*state));
    // A follow-up's tokens would be in its way: what a follow-up adds is kept whole.
    if (state->session != nullptr &&
        state->schedule.Next(state->prompt_tokens()) != EvictionSchedule::kNever) {
      return absl::InvalidArgumentError(absl::StrCat("cache.decode_interval_tokens: session ",
                                                     state->session->id,
                                                     " can't be evicted from while it generates"));
    }
  }
  if (group_ != nullptr) KVEC_RETURN_IF_ERROR(group_->ledger.CheckFits(LeastNeed(*state)));
  return requests_.Add(state);
}

bool ContinuousScheduler::HasSession(absl::string_view session_id) const {
  const std::lock_guard lock(mutex_);
  return sessions_.Contains(session_id);
}

Scheduler::Readiness ContinuousScheduler::readiness() const {
  const std::lock_guard lock(mutex_);
  if (group_ == nullptr) return Readiness::kNoGroup;
  return group_->composer.holds_starts() ? Readiness::kHeld : Readiness::kServing;
}

bool ContinuousScheduler::Knows(absl::string_view request_id, absl::string_view session_id) const {
  const std::lock_guard lock(mutex_);
  return requests_.Find(request_id) != nullptr ||
         (!session_id.empty() && sessions_.Knows(session_id));
}

uint32_t ContinuousScheduler::CountCachedTokens(absl::Span<const int32_t> prompt) const {
  if (!options_.prefix_caching) return 0;
  const std::lock_guard lock(mutex_);
  if (group_ == nullptr) return 0;
  const std::vector<uint64_t> blocks = group_->ledger.prefixes().Find(prompt);
  return static_cast<uint32_t>(blocks.size()) * PrefixIndex::kBlockTokens;
}

void ContinuousScheduler::Cancel(absl::string_view request_id, absl::Status reason,
                                 absl::Time now) {
  const std::lock_guard lock(mutex_);
  sessions_.Advance(now);
  const std::shared_ptr<RequestState> request = requests_.Find(request_id);
  if (request != nullptr) requests_.Finish(*request, reason);
}

void ContinuousScheduler::OnGroupReady(uint64_t epoch, std::vector<WorkerCapacity> workers,
                                       absl::Time now) {
  const std::lock_guard lock(mutex_);
  if (group_ != nullptr) requests_.SuspendAll();
  sessions_.Advance(now);
  group_ = std::make_unique<Group>(epoch, std::move(workers), options_, requests_, sessions_,
                                   budgets_.get(), totals_, prefix_feeds_, num_generated_);
  for (const std::shared_ptr<RequestState>& request : requests_.All()) {
    const absl::Status fits = group_->ledger.CheckFits(LeastNeed(*request));
    if (!fits.ok()) requests_.Finish(*request, fits);
  }
}

void ContinuousScheduler::HoldStarts() {
  const std::lock_guard lock(mutex_);
  if (group_ != nullptr) group_->composer.HoldStarts();
}

void ContinuousScheduler::OnGroupLost(absl::Time now) {
  const std::lock_guard lock(mutex_);
  if (group_ == nullptr) return;
  group_.reset();
  requests_.SuspendAll();
}

std::optional<v1::Step> ContinuousScheduler::NextStep(absl::Time now) {
  const std::lock_guard lock(mutex_);
  if (group_ == nullptr) return std::nullopt;
  sessions_.Advance(now);
  const uint32_t max_in_flight = std::max(options_.max_steps_in_flight, group_->num_stages + 1);
  if (group_->steps.size() >= max_in_flight) return std::nullopt;
  StepComposer::Composed composed = group_->composer.Compose(group_->steps.size(), now);
  std::vector<uint64_t> used_at_most = group_->ledger.EndStep();
  if (composed.is_empty()) return std::nullopt;
  ++num_steps_;
  composed.step.set_step_id(++last_step_id_);
  composed.step.set_group_epoch(group_->epoch);
  group_->steps.Add(StepInFlight(last_step_id_, std::move(composed.work), std::move(used_at_most)));
  return std::move(composed.step);
}

absl::Status ContinuousScheduler::OnStepResult(uint32_t worker, const v1::StepResult& result,
                                               absl::Time now) {
  const std::lock_guard lock(mutex_);
  if (group_ == nullptr || result.group_epoch() != group_->epoch) return absl::OkStatus();
  sessions_.Advance(now);
  KVEC_ASSIGN_OR_RETURN(StepInFlight * step, group_->steps.BeginAnswer(worker, result.step_id()));
  KVEC_RETURN_IF_ERROR(group_->reader.Read(worker, *step, result));
  if (group_->steps.IsLastAnswer(worker)) {
    KVEC_RETURN_IF_ERROR(group_->reader.ReadResults(*step, now));
  }
  return group_->steps.EndAnswer(worker);
}

absl::Time ContinuousScheduler::NextDeadline() const {
  const std::lock_guard lock(mutex_);
  return std::min(requests_.NextDeadline(), sessions_.NextExpiry());
}

void ContinuousScheduler::ExpireDeadlines(absl::Time now) {
  const std::lock_guard lock(mutex_);
  sessions_.Advance(now);
  sessions_.Expire();
  for (const std::shared_ptr<RequestState>& request : requests_.Expired(now)) {
    requests_.Finish(*request, absl::DeadlineExceededError(absl::StrCat(
                                   "request ", request->request.id, ": deadline has passed")));
  }
}

absl::Status ContinuousScheduler::Subscribe(const std::shared_ptr<PrefixFeed>& feed) {
  const std::lock_guard lock(mutex_);
  KVEC_RETURN_IF_ERROR(prefix_feeds_.Add(feed));
  feed->Restart(group_ == nullptr ? std::vector<PrefixEvent>() : group_->ledger.prefixes().State());
  return absl::OkStatus();
}

SchedulerCounts ContinuousScheduler::counts() const {
  const std::lock_guard lock(mutex_);
  return {.num_running = requests_.num_running(),
          .num_waiting = requests_.num_waiting(),
          .waiting_prompt_tokens = requests_.queue().num_new_tokens(),
          .steps = num_steps_,
          .generated_tokens = num_generated_,
          .prompt_tokens = totals_.prompt_tokens,
          .preemptions = requests_.num_preemptions(),
          .prefix_cache_queries = totals_.prefix_cache_queries,
          .prefix_cache_hits = totals_.prefix_cache_hits,
          .num_sessions = sessions_.size(),
          .num_tokens = requests_.num_tokens()};
}

std::vector<v1::RequestStatus> ContinuousScheduler::RequestStatuses(uint32_t max_requests,
                                                                    absl::Time now) const {
  if (max_requests == 0) return {};
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<RequestState>> requests = requests_.All();
  const size_t count = std::min<size_t>(max_requests, requests.size());
  std::partial_sort(requests.begin(), requests.begin() + static_cast<ptrdiff_t>(count),
                    requests.end(),
                    [](const auto& a, const auto& b) { return a->arrival < b->arrival; });
  std::vector<v1::RequestStatus> statuses;
  statuses.reserve(count);
  for (size_t i = 0; i < count; ++i) statuses.push_back(StatusOf(*requests[i], now));
  return statuses;
}

std::vector<uint64_t> ContinuousScheduler::free_pages() const {
  const std::lock_guard lock(mutex_);
  if (group_ == nullptr) return {};
  return group_->ledger.reported_free_pages();
}

std::vector<uint64_t> ContinuousScheduler::cached_pages() const {
  const std::lock_guard lock(mutex_);
  if (group_ == nullptr) return {};
  return group_->ledger.reclaimable_pages();
}

}  // namespace

std::unique_ptr<Scheduler> CreateScheduler(const SchedulerOptions& options,
                                           std::shared_ptr<const BudgetAllocator> budgets) {
  SchedulerOptions checked = options;
  checked.step_tokens = std::max(checked.step_tokens, 1u);
  checked.mixed_prompt_tokens = std::max(checked.mixed_prompt_tokens, 1u);
  // Every decoding sequence has a row in each Step.
  checked.max_running_sequences =
      std::clamp(checked.max_running_sequences, 1u, checked.step_tokens);
  return std::make_unique<ContinuousScheduler>(checked, std::move(budgets));
}

}  // namespace kvec::coordinator::scheduler
