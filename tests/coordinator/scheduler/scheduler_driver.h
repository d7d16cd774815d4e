#ifndef KVEC_TESTS_COORDINATOR_SCHEDULER_SCHEDULER_DRIVER_H_
#define KVEC_TESTS_COORDINATOR_SCHEDULER_SCHEDULER_DRIVER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/scheduler/scheduler.h"
#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/fake_group.h"
#include "tests/coordinator/scheduler/recording_sink.h"

namespace kvec::coordinator::scheduler {

// One layer with one KV head, full attention: a page is 16 tokens of a sequence.
inline std::vector<WorkerCapacity> OneWorker(uint64_t total_pages) {
  WorkerCapacity capacity;
  capacity.total_pages = total_pages;
  capacity.page_bytes = 1600;
  capacity.num_kv_heads = 1;
  capacity.sliding_windows = {0};
  return {capacity};
}

inline Request MakeRequest(std::string id, uint32_t prompt_tokens, uint32_t max_tokens) {
  Request request;
  request.id = std::move(id);
  for (uint32_t i = 0; i < prompt_tokens; ++i) {
    request.prompt.push_back(static_cast<int32_t>(i % FakeModel::kVocabSize));
  }
  request.max_tokens = max_tokens;
  request.sampling.set_logprobs(-1);
  request.sampling.set_prompt_logprobs(-1);
  return request;
}

// Steps of 32 rows, 8 of them of prompts while something decodes.
inline SchedulerOptions SmallSteps() {
  SchedulerOptions options;
  options.step_tokens = 32;
  options.mixed_prompt_tokens = 8;
  options.max_running_sequences = 16;
  options.prefix_caching = false;  // tests of it set it
  return options;
}

// Runs a scheduler and one group step by step, for tests that look at single Steps. Time passes by
// a millisecond per Step.
class SchedulerDriver {
 public:
  explicit SchedulerDriver(const SchedulerOptions& options,
                           std::shared_ptr<const BudgetAllocator> budgets = nullptr)
      : scheduler_(CreateScheduler(options, std::move(budgets))) {}

  void FormGroup(const std::vector<WorkerCapacity>& capacities) {
    group_ = std::make_unique<FakeGroup>(++epoch_, capacities);
    scheduler_->OnGroupReady(epoch_, capacities, now_);
  }
  void LoseGroup() {
    group_ = nullptr;
    scheduler_->OnGroupLost(now_);
  }

  std::shared_ptr<RecordingSink> Submit(Request request, uint32_t stop_after = 0) {
    auto sink = std::make_shared<RecordingSink>(stop_after);
    request.sink = sink;
    last_status_ = scheduler_->Submit(std::move(request), now_);
    return sink;
  }
  const absl::Status& last_status() const { return last_status_; }

  // The next Step, sent to the workers, unless there is none.
  std::optional<v1::Step> Send() {
    now_ += absl::Milliseconds(1);
    std::optional<v1::Step> step = scheduler_->NextStep(now_);
    if (step.has_value()) group_->Send(*step);
    return step;
  }
  // The workers execute their oldest Step and answer it.
  void Answer() {
    for (uint32_t w = 0; w < group_->size(); ++w) {
      const absl::Status executed = group_->Execute(w);
      ASSERT_TRUE(executed.ok()) << executed;
      const absl::Status read = scheduler_->OnStepResult(w, group_->TakeResult(w), now_);
      ASSERT_TRUE(read.ok()) << read;
    }
  }
  v1::Step SendAndAnswer() {
    std::optional<v1::Step> step = Send();
    if (!step.has_value()) {
      ADD_FAILURE() << "no step";
      return {};
    }
    Answer();
    return *std::move(step);
  }
  // Until there is nothing to do.
  void RunToEnd() {
    for (int i = 0; i < 100'000; ++i) {
      if (group_->CanExecute(0)) {
        Answer();
      } else if (!Send().has_value()) {
        return;
      }
    }
    ADD_FAILURE() << "does not end";
  }

  Scheduler& scheduler() { return *scheduler_; }
  FakeGroup& group() { return *group_; }
  absl::Time now() const { return now_; }

 private:
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<FakeGroup> group_;
  absl::Status last_status_;
  absl::Time now_ = absl::UnixEpoch();
  uint64_t epoch_ = 0;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_TESTS_COORDINATOR_SCHEDULER_SCHEDULER_DRIVER_H_
