#ifndef KVEC_TESTS_WORKER_ENGINE_ENGINE_HARNESS_H_
#define KVEC_TESTS_WORKER_ENGINE_ENGINE_HARNESS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/model_files.h"
#include "kernels/cpu/cpu_device.h"
#include "kvec/v1/cluster.pb.h"
#include "worker/engine/engine.h"

namespace kvec::worker::engine {

// An engine over a tiny model, and Steps for it made by hand. Fails the test when a Step fails.
class EngineHarness {
 public:
  struct Options {
    kernels::KvType kv_type = kernels::KvType::kF32;
    int num_threads = 2;
    int64_t kv_bytes = 8 << 20;
    kernels::cpu::Isa isa = kernels::cpu::DetectIsa();
  };

  EngineHarness(const std::string& model_path, const Options& options);
  // On another device than the processor.
  EngineHarness(const std::string& model_path, std::unique_ptr<kernels::Device> device,
                const Options& options);

  Engine& engine() { return *engine_; }
  const ModelConfig& config() const { return files_->config(); }

  // Greedy, no penalties, the token's own log-probability and five alternatives.
  static v1::StepSampling GreedySampling();

  // With KVEC.md's parameters and an observation window of 16.
  static v1::CachePolicy CachePolicyOf(const std::string& name);

  // A Step under construction.
  v1::Step NewStep() {
    v1::Step step;
    step.set_step_id(next_step_id_++);
    return step;
  }
  static void AddStart(uint64_t id, int prompt_tokens, const v1::StepSampling& sampling,
                       v1::Step& step);
  // Work that feeds `tokens` (none: the token sampled last) from `position` on.
  static v1::SequenceWork& AddWork(uint64_t id, absl::Span<const int32_t> tokens, int position,
                                   bool is_prompt, bool sample, v1::Step& step);

  v1::StepResult Run(const v1::Step& step);

  // Starts a sequence, feeds its prompt in chunks of `chunk`, and returns the first sampled token's
  // result.
  v1::SequenceResult Prefill(uint64_t id, absl::Span<const int32_t> prompt, int chunk,
                             const v1::StepSampling& sampling);
  // One decode Step of one sequence at `position`.
  v1::SequenceResult Decode(uint64_t id, int position);
  void Free(uint64_t id);

 private:
  std::unique_ptr<ModelFiles> files_;
  std::unique_ptr<kernels::Device> device_;
  Progress progress_;
  std::unique_ptr<Engine> engine_;
  uint64_t next_step_id_ = 1;
};

}  // namespace kvec::worker::engine

#endif  // KVEC_TESTS_WORKER_ENGINE_ENGINE_HARNESS_H_
