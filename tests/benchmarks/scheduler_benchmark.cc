// What a Step costs the coordinator: composing it and reading its result, with every sequence
// decoding. The worker's time in between is not counted. To compare: a decode Step takes 5 ms and
// more.

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "benchmark/benchmark.h"
#include "coordinator/scheduler/scheduler.h"

namespace kvec::coordinator::scheduler {
namespace {

constexpr uint32_t kPromptTokens = 64;

class CountingSink : public RequestSink {
 public:
  void OnPromptLogProbs(absl::Span<const v1::TokenLogProbs> logprobs) override {}
  Verdict OnToken(uint32_t choice, int32_t token, const v1::TokenLogProbs* logprobs) override {
    ++num_tokens_;
    return Verdict::kContinue;
  }
  void OnChoiceFinished(uint32_t choice, v1::FinishReason reason) override {}
  void OnDone(const absl::Status& status, const v1::Usage& usage) override {}

 private:
  uint64_t num_tokens_ = 0;
};

enum class Role { kSampler, kOther };

// What a worker without a model answers.
v1::StepResult ResultOf(const v1::Step& step, uint64_t free_pages, Role role) {
  v1::StepResult result;
  result.set_step_id(step.step_id());
  result.set_group_epoch(step.group_epoch());
  result.set_free_pages(free_pages);
  for (const v1::SequenceWork& work : step.work()) {
    v1::SequenceResult& sampled = *result.add_results();
    sampled.set_sequence_id(work.sequence_id());
    if (work.sample() && role == Role::kSampler) sampled.set_token_id(7);
    v1::SequencePages& pages = *result.add_changed_pages();
    pages.set_sequence_id(work.sequence_id());
    pages.set_pages(100);
  }
  return result;
}

Request MakeRequest(int64_t number) {
  Request request;
  request.id = absl::StrCat(number);
  request.prompt.assign(kPromptTokens, 1);
  request.max_tokens = 1'000'000'000;
  request.sampling.set_logprobs(-1);
  request.sampling.set_prompt_logprobs(-1);
  request.sink = std::make_shared<CountingSink>();
  return request;
}

// Arguments: sequences, workers.
void BM_DecodeStep(benchmark::State& state) {
  const int64_t num_sequences = state.range(0);
  const auto num_workers = static_cast<uint32_t>(state.range(1));
  std::unique_ptr<Scheduler> scheduler =
      CreateScheduler({.max_running_sequences = static_cast<uint32_t>(num_sequences)});
  WorkerCapacity capacity;
  capacity.total_pages = uint64_t{1} << 40;
  capacity.page_bytes = 4096;
  capacity.num_kv_heads = 8;
  for (int layer = 0; layer < 32; ++layer) {
    capacity.sliding_windows.push_back(layer % 6 == 5 ? 0 : 1024);
  }
  scheduler->OnGroupReady(1, std::vector<WorkerCapacity>(num_workers, capacity), absl::Now());
  for (int64_t i = 0; i < num_sequences; ++i) {
    if (!scheduler->Submit(MakeRequest(i), absl::Now()).ok()) state.SkipWithError("Submit");
  }
  const auto answer = [&](const v1::StepResult& sampled, const v1::StepResult& other) {
    for (uint32_t w = 0; w < num_workers; ++w) {
      const v1::StepResult& result = w + 1 == num_workers ? sampled : other;
      if (!scheduler->OnStepResult(w, result, absl::Now()).ok()) state.SkipWithError("result");
    }
  };
  const uint64_t free_pages = capacity.total_pages / 2;
  std::optional<v1::Step> step;
  do {
    step = scheduler->NextStep(absl::Now());
    answer(ResultOf(*step, free_pages, Role::kSampler), ResultOf(*step, free_pages, Role::kOther));
  } while (step->work_size() < num_sequences || !step->work(0).token_ids().empty());

  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    step = scheduler->NextStep(absl::Now());
    const auto composed = std::chrono::steady_clock::now();
    const v1::StepResult sampled = ResultOf(*step, free_pages, Role::kSampler);
    const v1::StepResult other = ResultOf(*step, free_pages, Role::kOther);
    const auto answered = std::chrono::steady_clock::now();
    answer(sampled, other);
    const auto end = std::chrono::steady_clock::now();
    state.SetIterationTime(
        std::chrono::duration<double>(composed - begin + end - answered).count());
  }
  state.SetItemsProcessed(state.iterations() * num_sequences);
}
BENCHMARK(BM_DecodeStep)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->ArgNames({"sequences", "workers"})
    ->ArgsProduct({{1, 64, 256}, {1, 8}});

// A request's way into a full queue and out again.
void BM_SubmitAndCancel(benchmark::State& state) {
  std::unique_ptr<Scheduler> scheduler = CreateScheduler({});
  for (int64_t i = 0; i < 1000; ++i) {
    if (!scheduler->Submit(MakeRequest(i), absl::Now()).ok()) state.SkipWithError("Submit");
  }
  int64_t number = 1000;
  for (auto _ : state) {
    Request request = MakeRequest(number);
    const std::string id = request.id;
    benchmark::DoNotOptimize(scheduler->Submit(std::move(request), absl::Now()));
    scheduler->Cancel(id, absl::CancelledError("benchmark"), absl::Now());
    ++number;
  }
}
BENCHMARK(BM_SubmitAndCancel)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace kvec::coordinator::scheduler
