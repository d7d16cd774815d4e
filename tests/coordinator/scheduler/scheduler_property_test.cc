// Random arrivals, cancellations, deadlines, pools so small that requests are preempted, lost
// groups, and results in any interleaving: every request gets exactly the tokens of an undisturbed
// run.

#include <algorithm>
#include <map>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/scheduler/scheduler.h"
#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/fake_group.h"
#include "tests/coordinator/scheduler/fake_model.h"
#include "tests/coordinator/scheduler/recording_sink.h"

namespace kvec::coordinator::scheduler {
namespace {

constexpr uint32_t kMaxPrompt = 90;
constexpr uint32_t kMaxTokens = 40;
constexpr uint32_t kMaxChoices = 5;
constexpr uint32_t kMostLayers = 9;

std::vector<uint32_t> BudgetsFor(const v1::CachePolicy& policy, uint32_t prompt_tokens) {
  if (policy.policy() == "full" || policy.budget_tokens() >= prompt_tokens) return {};
  std::vector<uint32_t> budgets;
  for (uint32_t layer = 0; layer < kMostLayers; ++layer) {
    budgets.push_back(policy.budget_tokens() / (layer % 2 + 1));
  }
  return budgets;
}

class FakeAllocator : public BudgetAllocator {
 public:
  absl::StatusOr<std::vector<uint32_t>> LayerBudgets(const v1::CachePolicy& policy,
                                                     uint32_t num_tokens) const override {
    return BudgetsFor(policy, num_tokens);
  }

  std::vector<uint32_t> CurveBudgets(const v1::CachePolicy& policy,
                                     const std::vector<uint32_t>& layer_budgets,
                                     uint32_t num_tokens) const override {
    if (policy.layer_allocation() != "coverage" || layer_budgets.empty()) return {};
    return {2, kMostLayers};
  }

  // The order of the budgets is the curves' order.
  std::vector<uint32_t> BudgetsByCurves(
      const std::vector<uint32_t>& layer_budgets, const std::vector<uint32_t>& curve_budgets,
      const std::vector<std::vector<float>>& curves) const override {
    std::vector<std::pair<float, uint32_t>> by_curve;
    for (size_t layer = 0; layer < curves.size(); ++layer) {
      by_curve.emplace_back(curves[layer][0], layer_budgets[layer]);
    }
    std::sort(by_curve.begin(), by_curve.end());
    std::vector<uint32_t> budgets;
    for (const auto& [share, budget] : by_curve) budgets.push_back(budget);
    return budgets;
  }
};

// Of a run in which nothing goes wrong.
void AddCurves(const std::vector<int32_t>& prompt, EvictionSchedule& schedule) {
  if (!schedule.awaits_curves()) return;
  FakeModel::State state = FakeModel::kEmpty;
  for (int32_t token : prompt) state = FakeModel::Feed(state, token, true);
  v1::SequenceWork work;
  work.mutable_curve_budgets()->Assign(schedule.curve_budgets().begin(),
                                       schedule.curve_budgets().end());
  const v1::CurveReport report = FakeModel::Curves(state, work);
  for (const v1::LayerCurve& curve : report.layers()) {
    ASSERT_TRUE(schedule.AddCurve(curve, FakeAllocator()).ok());
  }
  ASSERT_FALSE(schedule.awaits_curves());
}

struct Scenario {
  std::string name;
  uint32_t num_requests = 40;
  uint32_t num_stages = 1;
  uint32_t num_ranks = 1;
  std::vector<uint32_t> sliding_windows = {0, 0};  // of each stage's layers
  uint32_t max_prompt = kMaxPrompt;
  double pool_scale = 1.0;  // 1: just room for the largest request with kMaxPrompt tokens
  bool has_evictions = false;
  bool has_curves = false;     // evictions wait for them
  bool has_readings = false;   // evictions wait for second ones
  bool has_schedules = false;  // every request: bounded prefill and decode-time evictions
  double cancel_share = 0;
  double group_loss_share = 0;  // of the events
  bool has_prefixes = false;    // prompts begin alike, and prefix caching is on
};

void PrintTo(const Scenario& scenario, std::ostream* out) { *out << scenario.name; }

class Simulation {
 public:
  Simulation(const Scenario& scenario, uint64_t seed) : scenario_(scenario), random_(seed) {
    options_.step_tokens = Uniform(8, 48);
    options_.mixed_prompt_tokens = Uniform(1, options_.step_tokens);
    options_.max_running_sequences =
        Uniform(kMaxChoices, std::max(kMaxChoices, options_.step_tokens));
    options_.max_steps_in_flight = Uniform(1, 4);
    options_.prefix_caching = scenario.has_prefixes;
    options_.most_losses = 1000;  // here groups are lost of nothing
    scheduler_ = CreateScheduler(options_, std::make_shared<FakeAllocator>());
    num_unsent_ = scenario.num_requests;
  }

  uint64_t num_hits() const { return scheduler_->counts().prefix_cache_hits; }

  void Run() {
    // Generous: a stuck request would need more.
    for (int event = 0; event < 400'000 && !IsDrained(); ++event) {
      Event();
      if (::testing::Test::HasFatalFailure()) return;
    }
    ASSERT_TRUE(IsDrained()) << "requests starve";
    CheckOutcomes();
  }

 private:
  struct Submitted {
    Request request;
    std::shared_ptr<RecordingSink> sink;
  };

  uint32_t Uniform(uint32_t least, uint32_t most) {
    return std::uniform_int_distribution<uint32_t>(least, most)(random_);
  }
  bool Chance(double share) { return std::bernoulli_distribution(share)(random_); }

  bool IsDrained() {
    if (num_unsent_ > 0 || group_ == nullptr) return false;
    for (const Submitted& submitted : submitted_) {
      if (!submitted.sink->done().has_value()) return false;
    }
    for (uint32_t w = 0; w < group_->size(); ++w) {
      if (group_->CanExecute(w) || group_->CanDeliver(w)) return false;
      if (group_->worker(w).num_sequences() > 0) return false;
    }
    return true;
  }

  void Event() {
    now_ += absl::Milliseconds(1);
    if (group_ == nullptr) {
      if (Chance(0.1)) FormGroup();
    } else if (Chance(scenario_.group_loss_share)) {
      LoseGroup();
      return;
    }
    if (num_unsent_ > 0 && Chance(0.05)) Submit();
    if (Chance(0.02 * scenario_.cancel_share)) CancelAny();
    if (scheduler_->NextDeadline() <= now_ && Chance(0.5)) scheduler_->ExpireDeadlines(now_);
    if (Chance(0.3)) Send();
    if (group_ == nullptr) return;
    const uint32_t w = Uniform(0, group_->size() - 1);
    if (Chance(0.7) && group_->CanExecute(w)) {
      const absl::Status status = group_->Execute(w);
      ASSERT_TRUE(status.ok()) << "worker " << w << ": " << status;
    }
    if (Chance(0.7) && group_->CanDeliver(w)) {
      const absl::Status status = scheduler_->OnStepResult(w, group_->TakeResult(w), now_);
      ASSERT_TRUE(status.ok()) << status;
    }
  }

  std::vector<WorkerCapacity> Capacities() {
    std::vector<WorkerCapacity> capacities;
    for (uint32_t stage = 0; stage < scenario_.num_stages; ++stage) {
      for (uint32_t rank = 0; rank < scenario_.num_ranks; ++rank) {
        WorkerCapacity capacity;
        capacity.stage = stage;
        capacity.num_kv_heads = rank == 0 ? 2 : 1;
        capacity.sliding_windows = scenario_.sliding_windows;
        if (stage > 0) capacity.sliding_windows.pop_back();
        capacity.page_bytes = 1024;
        const uint32_t pages_per_head = (kMaxPrompt + kMaxTokens + 15) / 16 + kMaxChoices - 1;
        const double pages = scenario_.pool_scale * pages_per_head * capacity.num_kv_heads *
                             static_cast<double>(capacity.sliding_windows.size());
        capacity.total_pages = static_cast<uint64_t>(pages) + Uniform(0, 3);
        capacities.push_back(capacity);
      }
    }
    return capacities;
  }

  void FormGroup() {
    const std::vector<WorkerCapacity> capacities = Capacities();
    group_ = std::make_unique<FakeGroup>(++epoch_, capacities);
    scheduler_->OnGroupReady(epoch_, capacities, now_);
  }

  void LoseGroup() {
    // Results of the lost group that are still under way.
    std::vector<v1::StepResult> late;
    for (uint32_t w = 0; w < group_->size(); ++w) {
      if (group_->CanDeliver(w)) late.push_back(group_->TakeResult(w));
    }
    group_ = nullptr;
    scheduler_->OnGroupLost(now_);
    if (Chance(0.5)) FormGroup();
    for (const v1::StepResult& result : late) {
      ASSERT_TRUE(scheduler_->OnStepResult(0, result, now_).ok());
    }
  }

  Request RandomRequest() {
    Request request;
    request.id = absl::StrCat("request-", submitted_.size());
    const uint32_t prompt_tokens = Chance(0.2) ? Uniform(1, 4) : Uniform(1, scenario_.max_prompt);
    for (uint32_t i = 0; i < prompt_tokens; ++i) {
      request.prompt.push_back(static_cast<int32_t>(Uniform(0, FakeModel::kVocabSize - 1)));
    }
    if (scenario_.has_prefixes) {
      // One of three beginnings, all or a part of it.
      const auto beginning = static_cast<int32_t>(Uniform(0, 2));
      const uint32_t num_alike = Chance(0.5) ? prompt_tokens : Uniform(0, prompt_tokens);
      for (uint32_t i = 0; i < num_alike; ++i) {
        request.prompt[i] = (beginning + static_cast<int32_t>(i) * 7) % FakeModel::kVocabSize;
      }
    }
    request.sampling.set_seed(random_());
    request.sampling.set_logprobs(Chance(0.3) ? static_cast<int32_t>(Uniform(0, 3)) : -1);
    request.sampling.set_prompt_logprobs(Chance(0.2) ? static_cast<int32_t>(Uniform(0, 2)) : -1);
    request.max_tokens = Chance(0.2) ? 1 : Uniform(1, kMaxTokens);
    if (Chance(0.5)) {
      for (int i = 0; i < 8; ++i) {
        request.stop_token_ids.push_back(
            static_cast<int32_t>(Uniform(0, FakeModel::kVocabSize - 1)));
      }
      request.sampling.set_min_tokens(Chance(0.5) ? Uniform(0, request.max_tokens) : 0);
    }
    if (Chance(0.15)) {
      const uint32_t num_forced = Uniform(1, kMaxTokens);
      for (uint32_t i = 0; i < num_forced; ++i) {
        request.forced_tokens.push_back(
            static_cast<int32_t>(Uniform(0, FakeModel::kVocabSize - 1)));
      }
    } else if (Chance(0.3)) {
      request.num_choices = Uniform(2, kMaxChoices);
    }
    request.cache.set_policy("full");
    if (scenario_.has_schedules) {
      request.cache.set_policy("kvec");
      request.cache.set_budget_tokens(Uniform(8, 40));
      if (prompt_tokens > kMaxPrompt || Chance(0.5)) {
        request.cache.set_prefill_bound_tokens(Uniform(104, 120));
      }
      if (request.num_choices == 1) request.cache.set_decode_interval_tokens(Uniform(1, 20));
    } else if (scenario_.has_evictions && Chance(0.7)) {
      request.cache.set_policy("kvec");
      request.cache.set_budget_tokens(Uniform(8, 40));
      request.cache.set_second_reading(scenario_.has_readings);
      if (scenario_.has_curves) request.cache.set_layer_allocation("coverage");
    }
    request.priority = static_cast<int32_t>(Uniform(0, 2));
    if (Chance(scenario_.cancel_share * 0.3)) {
      request.deadline = now_ + absl::Milliseconds(Uniform(1, 4000));
    }
    return request;
  }

  void Submit() {
    --num_unsent_;
    Submitted submitted;
    submitted.request = RandomRequest();
    submitted.sink = std::make_shared<RecordingSink>(Chance(0.2) ? Uniform(1, 20) : 0);
    submitted.request.sink = submitted.sink;
    const absl::Status status = scheduler_->Submit(submitted.request, now_);
    ASSERT_TRUE(status.ok()) << status;
    submitted_.push_back(std::move(submitted));
  }

  void CancelAny() {
    if (submitted_.empty()) return;
    const Submitted& any = submitted_[Uniform(0, static_cast<uint32_t>(submitted_.size()) - 1)];
    scheduler_->Cancel(any.request.id, absl::CancelledError("by the test"), now_);
  }

  void Send() {
    const std::optional<v1::Step> step = scheduler_->NextStep(now_);
    if (!step.has_value()) return;
    ASSERT_NE(group_, nullptr);
    uint32_t rows = 0;
    uint32_t chunk_rows = 0;
    bool is_decoding = false;
    for (const v1::SequenceWork& work : step->work()) {
      rows += std::max(1, work.token_ids_size());
      chunk_rows += work.token_ids_size();
      is_decoding |= work.token_ids().empty();
    }
    ASSERT_LE(rows, options_.step_tokens);
    if (is_decoding) {
      ASSERT_LE(chunk_rows, options_.mixed_prompt_tokens);
    }
    group_->Send(*step);
  }

  void CheckOutcomes() {
    for (uint32_t w = 0; w < group_->size(); ++w) {
      const FakeWorker& worker = group_->worker(w);
      EXPECT_EQ(worker.num_free_pages() + worker.num_kept_pages(), worker.capacity().total_pages);
      EXPECT_EQ(scheduler_->cached_pages()[w], worker.num_kept_pages());
    }
    EXPECT_EQ(scheduler_->counts().num_running, 0);
    EXPECT_EQ(scheduler_->counts().num_waiting, 0);
    EXPECT_EQ(scheduler_->NextDeadline(), absl::InfiniteFuture());
    for (const Submitted& submitted : submitted_) CheckOutcome(submitted);
  }

  void CheckOutcome(const Submitted& submitted) {
    SCOPED_TRACE(submitted.request.id);
    RecordingSink& sink = *submitted.sink;
    EXPECT_EQ(sink.num_breaches(), 0);
    const absl::Status& done = *sink.done();
    if (!done.ok()) {
      EXPECT_TRUE(absl::IsCancelled(done) || absl::IsDeadlineExceeded(done)) << done;
    }
    auto schedule = EvictionSchedule::Make(submitted.request.cache,
                                           static_cast<uint32_t>(submitted.request.prompt.size()),
                                           FakeAllocator());
    ASSERT_TRUE(schedule.ok()) << schedule.status();
    AddCurves(submitted.request.prompt, *schedule);
    uint32_t num_tokens = 0;
    for (uint32_t i = 0; i < submitted.request.num_choices; ++i) {
      SCOPED_TRACE(absl::StrCat("choice ", i));
      ExpectedChoice expected = RunAlone(submitted.request, i, *schedule, sink.stop_after());
      RecordingSink::Choice choice = sink.choice(i);
      num_tokens += choice.tokens.size();
      if (choice.reason.has_value()) {
        EXPECT_EQ(*choice.reason, expected.reason);
      } else {
        ASSERT_FALSE(done.ok());
        ASSERT_LE(choice.tokens.size(), expected.tokens.size());
        expected.tokens.resize(choice.tokens.size());
        if (!expected.logprobs.empty()) expected.logprobs.resize(choice.tokens.size());
      }
      EXPECT_EQ(choice.tokens, expected.tokens);
      ExpectEqual(choice.logprobs, expected.logprobs);
      if (i == 0 && done.ok()) ExpectEqual(sink.prompt_logprobs(), expected.prompt_logprobs);
    }
    EXPECT_EQ(sink.usage().prompt_tokens(), submitted.request.prompt.size());
    EXPECT_EQ(sink.usage().completion_tokens(), num_tokens);
  }

  static void ExpectEqual(const std::vector<v1::TokenLogProbs>& actual,
                          const std::vector<v1::TokenLogProbs>& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      ASSERT_EQ(actual[i].SerializeAsString(), expected[i].SerializeAsString()) << "entry " << i;
    }
  }

  const Scenario scenario_;
  std::mt19937_64 random_;
  SchedulerOptions options_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<FakeGroup> group_;
  std::vector<Submitted> submitted_;
  absl::Time now_ = absl::UnixEpoch();
  uint64_t epoch_ = 0;
  uint32_t num_unsent_ = 0;
};

class SchedulerPropertyTest : public ::testing::TestWithParam<Scenario> {};

TEST_P(SchedulerPropertyTest, GivesEveryRequestTheTokensOfAnUndisturbedRun) {
  uint64_t num_hits = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Simulation simulation(GetParam(), seed);
    simulation.Run();
    if (HasFailure()) return;
    num_hits += simulation.num_hits();
  }
  EXPECT_EQ(num_hits > 0, GetParam().has_prefixes);
}

INSTANTIATE_TEST_SUITE_P(
    Scenarios, SchedulerPropertyTest,
    ::testing::Values(
        Scenario{.name = "RoomForAll", .pool_scale = 20}, Scenario{.name = "TinyPool"},
        Scenario{.name = "TinyPoolSlidingWindows", .sliding_windows = {0, 20, 7}},
        Scenario{.name = "Cancellations", .pool_scale = 2, .cancel_share = 1},
        Scenario{.name = "Ranks", .num_ranks = 3, .cancel_share = 0.5},
        Scenario{.name = "Pipeline", .num_stages = 3, .num_ranks = 2, .pool_scale = 1.5},
        Scenario{.name = "LostGroups", .num_stages = 2, .group_loss_share = 0.003},
        Scenario{.name = "Evictions", .sliding_windows = {0, 0, 33}, .has_evictions = true},
        Scenario{.name = "Prefixes", .pool_scale = 20, .has_prefixes = true},
        Scenario{.name = "PrefixesInATinyPool", .has_prefixes = true},
        Scenario{.name = "PrefixesAndEvictions",
                 .num_ranks = 2,
                 .pool_scale = 1.3,
                 .has_evictions = true,
                 .has_prefixes = true},
        Scenario{.name = "PrefixesOfAPipelineThatIsLost",
                 .num_stages = 2,
                 .num_ranks = 2,
                 .has_evictions = true,
                 .cancel_share = 0.5,
                 .group_loss_share = 0.002,
                 .has_prefixes = true},
        Scenario{.name = "EvictionsAndLosses",
                 .num_stages = 2,
                 .num_ranks = 2,
                 .sliding_windows = {0, 0, 33},
                 .has_evictions = true,
                 .cancel_share = 0.5,
                 .group_loss_share = 0.002},
        Scenario{.name = "Curves",
                 .num_ranks = 2,
                 .pool_scale = 1.3,
                 .has_evictions = true,
                 .has_curves = true,
                 .has_prefixes = true},
        Scenario{.name = "CurvesAndLosses",
                 .num_stages = 2,
                 .num_ranks = 2,
                 .has_evictions = true,
                 .has_curves = true,
                 .cancel_share = 0.5,
                 .group_loss_share = 0.002},
        Scenario{.name = "Readings",
                 .pool_scale = 4,
                 .has_evictions = true,
                 .has_readings = true,
                 .has_prefixes = true},
        Scenario{.name = "ReadingsAndLosses",
                 .num_stages = 2,
                 .num_ranks = 2,
                 .pool_scale = 4,
                 .has_evictions = true,
                 .has_readings = true,
                 .cancel_share = 0.5,
                 .group_loss_share = 0.002},
        Scenario{.name = "Schedules",
                 .sliding_windows = {0, 0, 33},
                 .max_prompt = 400,
                 .pool_scale = 1.2,
                 .has_schedules = true},
        Scenario{.name = "SchedulesAndLosses",
                 .num_stages = 2,
                 .num_ranks = 2,
                 .sliding_windows = {0, 0, 33},
                 .max_prompt = 400,
                 .pool_scale = 2,
                 .has_schedules = true,
                 .cancel_share = 0.5,
                 .group_loss_share = 0.002}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace kvec::coordinator::scheduler
