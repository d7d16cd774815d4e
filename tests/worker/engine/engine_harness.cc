#include "tests/worker/engine/engine_harness.h"

#include <algorithm>
#include <utility>

#include "gtest/gtest.h"

namespace kvec::worker::engine {

namespace {

std::unique_ptr<kernels::Device> MakeCpuDevice(const EngineHarness::Options& options) {
  auto device =
      kernels::cpu::CpuDevice::Create({.num_threads = options.num_threads, .isa = options.isa});
  EXPECT_TRUE(device.ok()) << device.status();
  return *std::move(device);
}

}  // namespace

EngineHarness::EngineHarness(const std::string& model_path, const Options& options)
    : EngineHarness(model_path, MakeCpuDevice(options), options) {}

EngineHarness::EngineHarness(const std::string& model_path, std::unique_ptr<kernels::Device> device,
                             const Options& options)
    : device_(std::move(device)) {
  auto files = ModelFiles::Open(model_path);
  EXPECT_TRUE(files.ok()) << files.status();
  files_ = *std::move(files);
  auto engine = Engine::Create(*files_, *device_,
                               {.layers = {0, files_->config().num_layers},
                                .kv_bytes = options.kv_bytes,
                                .kv_type = options.kv_type},
                               progress_);
  EXPECT_TRUE(engine.ok()) << engine.status();
  engine_ = *std::move(engine);
}

v1::StepSampling EngineHarness::GreedySampling() {
  v1::StepSampling sampling;
  sampling.set_top_p(1);
  sampling.set_repetition_penalty(1);
  sampling.set_logprobs(5);
  sampling.set_prompt_logprobs(-1);
  return sampling;
}

v1::CachePolicy EngineHarness::CachePolicyOf(const std::string& name) {
  v1::CachePolicy policy;
  policy.set_policy(name);
  policy.set_observation_window(16);
  policy.set_wide_window(32);
  policy.set_lambda(1);
  policy.set_beta(0.25);
  policy.set_head_allocation("adaptive");
  return policy;
}

void EngineHarness::AddStart(uint64_t id, int prompt_tokens, const v1::StepSampling& sampling,
                             v1::Step& step) {
  v1::SequenceStart& start = *step.add_starts();
  start.set_sequence_id(id);
  start.set_prompt_tokens(prompt_tokens);
  *start.mutable_sampling() = sampling;
  start.mutable_cache()->set_policy("full");
}

v1::SequenceWork& EngineHarness::AddWork(uint64_t id, absl::Span<const int32_t> tokens,
                                         int position, bool is_prompt, bool sample,
                                         v1::Step& step) {
  v1::SequenceWork& work = *step.add_work();
  work.set_sequence_id(id);
  for (int32_t token : tokens) work.add_token_ids(token);
  work.set_first_position(position);
  work.set_is_prompt(is_prompt);
  work.set_sample(sample);
  return work;
}

v1::StepResult EngineHarness::Run(const v1::Step& step) {
  auto result = engine_->Execute(step);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : v1::StepResult();
}

v1::SequenceResult EngineHarness::Prefill(uint64_t id, absl::Span<const int32_t> prompt, int chunk,
                                          const v1::StepSampling& sampling) {
  v1::SequenceResult last;
  const int size = static_cast<int>(prompt.size());
  for (int begin = 0; begin < size; begin += chunk) {
    v1::Step step = NewStep();
    if (begin == 0) AddStart(id, size, sampling, step);
    const bool is_last = begin + chunk >= size;
    AddWork(id, prompt.subspan(begin, chunk), begin, true, is_last, step);
    last = Run(step).results(0);
  }
  return last;
}

v1::SequenceResult EngineHarness::Decode(uint64_t id, int position) {
  v1::Step step = NewStep();
  AddWork(id, {}, position, false, true, step);
  return Run(step).results(0);
}

void EngineHarness::Free(uint64_t id) {
  v1::Step step = NewStep();
  step.add_freed_sequence_ids(id);
  Run(step);
}

}  // namespace kvec::worker::engine
