#include "tests/worker/engine/group_scripts.h"

#include <algorithm>
#include <random>

#include "absl/types/span.h"
#include "tests/worker/engine/engine_harness.h"

namespace kvec::worker::engine {
namespace {

constexpr int kPromptTokens = 96;
constexpr int kDecodeSteps = 6;

std::vector<int32_t> Prompt(int count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 250);
  return tokens;
}

v1::StepSampling Sampling(uint32_t choice = 0) {
  v1::StepSampling sampling = EngineHarness::GreedySampling();
  sampling.set_temperature(1);
  sampling.set_seed(3);
  sampling.set_choice(choice);
  return sampling;
}

// Runs Steps and keeps what they give.
class Recorder {
 public:
  Recorder(const ModelConfig& config, const StepRunner& run) : config_(config), run_(run) {}

  v1::Step NewStep() {
    v1::Step step;
    step.set_step_id(++num_steps_);
    return step;
  }

  void Order(uint64_t id, int position, int selected, v1::Step& step) const {
    v1::EvictionOrder& order = *step.add_evictions();
    order.set_sequence_id(id);
    order.set_position(position);
    order.set_report_kept_tokens(true);
    for (int layer = 0; layer < config_.num_layers; ++layer) {
      order.add_layer_budgets(config_.num_kv_heads * selected);
    }
  }

  void Run(const v1::Step& step) {
    const v1::StepResult result = run_(step);
    for (const v1::SequenceResult& sampled : result.results()) {
      if (sampled.has_token_id()) outcome_.sampled.push_back(sampled);
    }
    for (v1::EvictionReport report : result.evictions()) {
      report.clear_eviction_ms();
      outcome_.evictions.push_back(report);
    }
    for (const v1::CurveReport& curves : result.curves()) outcome_.curves.push_back(curves);
  }

  void Decode(absl::Span<const uint64_t> ids, int position) {
    v1::Step step = NewStep();
    for (uint64_t id : ids) EngineHarness::AddWork(id, {}, position, false, true, step);
    Run(step);
  }

  int32_t last_token() const { return static_cast<int32_t>(outcome_.sampled.back().token_id()); }
  const ScriptOutcome& outcome() const { return outcome_; }

 private:
  const ModelConfig& config_;
  const StepRunner& run_;
  uint64_t num_steps_ = 0;
  ScriptOutcome outcome_;
};

}  // namespace

ScriptOutcome RunNeighbours(const ModelConfig& config, const StepRunner& run) {
  Recorder recorder(config, run);
  const std::vector<int32_t> prompts[] = {Prompt(60, 1), Prompt(60, 2)};
  v1::StepSampling sampling = Sampling();
  sampling.set_repetition_penalty(1.2f);
  sampling.set_frequency_penalty(0.5f);
  for (int begin = 0; begin < 60; begin += 20) {
    v1::Step step = recorder.NewStep();
    for (uint64_t id : {1, 2}) {
      if (begin == 0) EngineHarness::AddStart(id, 60, sampling, step);
      EngineHarness::AddWork(id, absl::MakeConstSpan(prompts[id - 1]).subspan(begin, 20), begin,
                             true, begin == 40, step);
    }
    recorder.Run(step);
  }
  for (int i = 0; i < kDecodeSteps; ++i) recorder.Decode({1, 2}, 60 + i);
  v1::Step free = recorder.NewStep();
  free.add_freed_sequence_ids(1);
  EngineHarness::AddWork(2, {}, 60 + kDecodeSteps, false, true, free);
  recorder.Run(free);
  return recorder.outcome();
}

ScriptOutcome RunForks(const ModelConfig& config, const StepRunner& run) {
  Recorder recorder(config, run);
  v1::Step step = recorder.NewStep();
  EngineHarness::AddStart(1, kPromptTokens, Sampling(), step);
  EngineHarness::AddWork(1, Prompt(kPromptTokens, 3), 0, true, true, step).set_num_choices(3);
  recorder.Run(step);
  v1::Step forks = recorder.NewStep();
  for (uint32_t choice : {1, 2}) {
    v1::SequenceFork& fork = *forks.add_forks();
    fork.set_parent_sequence_id(1);
    fork.mutable_child()->set_sequence_id(1 + choice);
    fork.mutable_child()->set_prompt_tokens(kPromptTokens);
    *fork.mutable_child()->mutable_sampling() = Sampling(choice);
    *fork.mutable_child()->mutable_cache() = EngineHarness::CachePolicyOf("full");
  }
  for (uint64_t id : {1, 2, 3}) {
    EngineHarness::AddWork(id, {}, kPromptTokens, false, true, forks);
  }
  recorder.Run(forks);
  for (int i = 1; i < kDecodeSteps; ++i) recorder.Decode({1, 2, 3}, kPromptTokens + i);
  return recorder.outcome();
}

ScriptOutcome RunKeptBlocks(const ModelConfig& config, const StepRunner& run) {
  Recorder recorder(config, run);
  constexpr int kCached = 48;
  std::vector<int32_t> prompt = Prompt(kPromptTokens, 4);
  v1::Step step = recorder.NewStep();
  EngineHarness::AddStart(1, kPromptTokens, Sampling(), step);
  EngineHarness::AddWork(1, prompt, 0, true, true, step);
  v1::BlockKeep& keep = *step.add_keeps();
  keep.set_sequence_id(1);
  for (uint64_t id : {7, 8, 9}) keep.add_block_ids(id);
  recorder.Run(step);
  const std::vector<int32_t> question = Prompt(kPromptTokens - kCached, 5);
  std::copy(question.begin(), question.end(), prompt.begin() + kCached);
  v1::Step hit = recorder.NewStep();
  hit.add_freed_sequence_ids(1);
  EngineHarness::AddStart(2, kPromptTokens, Sampling(), hit);
  v1::SequenceStart& start = *hit.mutable_starts(0);
  *start.mutable_cache() = EngineHarness::CachePolicyOf("kvec");
  for (uint64_t id : {7, 8, 9}) start.add_block_ids(id);
  start.mutable_cached_token_ids()->Add(prompt.begin(), prompt.begin() + kCached);
  EngineHarness::AddWork(2, absl::MakeConstSpan(prompt).subspan(kCached), kCached, true, true, hit);
  recorder.Order(2, kPromptTokens, 20, hit);
  recorder.Run(hit);
  for (int i = 0; i < kDecodeSteps; ++i) recorder.Decode({2}, kPromptTokens + i);
  return recorder.outcome();
}

ScriptOutcome RunSession(const ModelConfig& config, const StepRunner& run) {
  Recorder recorder(config, run);
  const std::vector<int32_t> first = Prompt(kPromptTokens, 6);
  v1::Step step = recorder.NewStep();
  EngineHarness::AddStart(1, kPromptTokens, Sampling(), step);
  *step.mutable_starts(0)->mutable_cache() = EngineHarness::CachePolicyOf("kvec");
  EngineHarness::AddWork(1, first, 0, true, true, step);
  recorder.Order(1, kPromptTokens, 20, step);
  recorder.Run(step);
  std::vector<int32_t> answer = {recorder.last_token()};
  for (int i = 0; i < kDecodeSteps; ++i) {
    recorder.Decode({1}, kPromptTokens + i);
    answer.push_back(recorder.last_token());
  }
  const int cached = kPromptTokens + kDecodeSteps;
  std::vector<int32_t> second = {answer.back()};
  for (int32_t token : Prompt(20, 7)) second.push_back(token);
  const int all = cached + static_cast<int>(second.size());
  v1::Step next = recorder.NewStep();
  EngineHarness::AddStart(1, all, Sampling(), next);
  v1::SequenceStart& start = *next.mutable_starts(0);
  start.set_continues(true);
  start.mutable_cached_token_ids()->Add(first.begin(), first.end());
  start.mutable_cached_token_ids()->Add(answer.begin(), answer.end() - 1);
  EngineHarness::AddWork(1, second, cached, true, true, next);
  recorder.Run(next);
  for (int i = 0; i < kDecodeSteps; ++i) recorder.Decode({1}, all + i);
  return recorder.outcome();
}

ScriptOutcome RunEviction(const std::string& policy, const ModelConfig& config,
                          const StepRunner& run) {
  Recorder recorder(config, run);
  const std::vector<int32_t> prompt = Prompt(kPromptTokens, 8);
  for (int begin = 0; begin < kPromptTokens; begin += 32) {
    v1::Step step = recorder.NewStep();
    if (begin == 0) {
      EngineHarness::AddStart(1, kPromptTokens, Sampling(), step);
      *step.mutable_starts(0)->mutable_cache() = EngineHarness::CachePolicyOf(policy);
    }
    EngineHarness::AddWork(1, absl::MakeConstSpan(prompt).subspan(begin, 32), begin, true,
                           begin == 64, step);
    recorder.Run(step);
  }
  v1::Step decode = recorder.NewStep();  // the order comes first
  recorder.Order(1, kPromptTokens, 20, decode);
  EngineHarness::AddWork(1, {}, kPromptTokens, false, true, decode);
  recorder.Run(decode);
  for (int i = 1; i < kDecodeSteps; ++i) recorder.Decode({1}, kPromptTokens + i);
  return recorder.outcome();
}

ScriptOutcome RunSchedule(const std::string& policy, const ModelConfig& config,
                          const StepRunner& run) {
  Recorder recorder(config, run);
  const std::vector<int32_t> prompt = Prompt(kPromptTokens, 9);
  for (int begin = 0; begin < kPromptTokens; begin += 48) {
    v1::Step step = recorder.NewStep();
    if (begin == 0) {
      EngineHarness::AddStart(1, kPromptTokens, Sampling(), step);
      v1::CachePolicy& cache = *step.mutable_starts(0)->mutable_cache();
      cache = EngineHarness::CachePolicyOf(policy);
      cache.set_prefill_bound_tokens(64);
      cache.set_decode_interval_tokens(8);
    }
    EngineHarness::AddWork(1, absl::MakeConstSpan(prompt).subspan(begin, 48), begin, true,
                           begin == 48, step);
    recorder.Order(1, begin + 48, begin == 0 ? 16 : 20, step);
    recorder.Run(step);
  }
  for (int i = 0; i < 18; ++i) {
    v1::Step step = recorder.NewStep();
    EngineHarness::AddWork(1, {}, kPromptTokens + i, false, true, step);
    if ((i + 1) % 8 == 0) recorder.Order(1, kPromptTokens + i + 1, 20, step);
    recorder.Run(step);
  }
  return recorder.outcome();
}

ScriptOutcome RunSecondReading(const ModelConfig& config, const StepRunner& run) {
  Recorder recorder(config, run);
  v1::Step step = recorder.NewStep();
  EngineHarness::AddStart(1, kPromptTokens, Sampling(), step);
  v1::CachePolicy& cache = *step.mutable_starts(0)->mutable_cache();
  cache = EngineHarness::CachePolicyOf("kvec");
  cache.set_second_reading(true);
  v1::SequenceWork& work =
      EngineHarness::AddWork(1, Prompt(kPromptTokens, 10), 0, true, true, step);
  for (uint32_t budget : {8, 32, 128}) work.add_curve_budgets(budget);
  recorder.Run(step);
  v1::Step read = recorder.NewStep();
  for (uint32_t begin = 0; begin < kPromptTokens; begin += 48) {
    v1::SequenceReading& reading = *read.add_readings();
    reading.set_sequence_id(1);
    reading.set_first_token(begin);
    reading.set_num_tokens(48);
  }
  recorder.Order(1, kPromptTokens, 20, read);
  recorder.Run(read);
  for (int i = 0; i < kDecodeSteps; ++i) recorder.Decode({1}, kPromptTokens + i);
  return recorder.outcome();
}

std::vector<Script> Scripts() {
  std::vector<Script> scripts = {{"neighbours", RunNeighbours},
                                 {"forks", RunForks},
                                 {"kept_blocks", RunKeptBlocks},
                                 {"session", RunSession},
                                 {"second_reading", RunSecondReading}};
  for (const std::string policy :
       {"streaming", "snapkv", "pyramidkv", "adasnapkv", "kvec-paper", "kvec"}) {
    std::string name = policy;
    std::replace(name.begin(), name.end(), '-', '_');
    scripts.push_back(
        {"evicted_" + name, [policy](const ModelConfig& config, const StepRunner& run) {
           return RunEviction(policy, config, run);
         }});
    scripts.push_back(
        {"scheduled_" + name, [policy](const ModelConfig& config, const StepRunner& run) {
           return RunSchedule(policy, config, run);
         }});
  }
  return scripts;
}

}  // namespace kvec::worker::engine
