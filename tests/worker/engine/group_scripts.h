#ifndef KVEC_TESTS_WORKER_ENGINE_GROUP_SCRIPTS_H_
#define KVEC_TESTS_WORKER_ENGINE_GROUP_SCRIPTS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/model/model_config.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::worker::engine {

// Whoever carries Steps out: one engine that has the whole model, or a group.
using StepRunner = std::function<v1::StepResult(const v1::Step&)>;

// What a script gave.
struct ScriptOutcome {
  std::vector<v1::SequenceResult> sampled;
  std::vector<v1::EvictionReport> evictions;  // without times; with what each head kept
  std::vector<v1::CurveReport> curves;
};

// Series of Steps, the same for everybody; sampled with a temperature, so that a wrong token
// anywhere shows in all that follow.
struct Script {
  std::string name;
  std::function<ScriptOutcome(const ModelConfig& config, const StepRunner& run)> run;
};

// Two prompts in chunks beside each other, then both decode; penalties over prompt and output.
ScriptOutcome RunNeighbours(const ModelConfig& config, const StepRunner& run);
// Three choices of one prompt.
ScriptOutcome RunForks(const ModelConfig& config, const StepRunner& run);
// A prompt that begins with blocks that another has left.
ScriptOutcome RunKeptBlocks(const ModelConfig& config, const StepRunner& run);
// Two requests of a session, the first of them evicted by `kvec`.
ScriptOutcome RunSession(const ModelConfig& config, const StepRunner& run);
// A prompt that is evicted by the policy, and what follows.
ScriptOutcome RunEviction(const std::string& policy, const ModelConfig& config,
                          const StepRunner& run);
// Evictions in the middle of the prompt, at its end, and while it decodes.
ScriptOutcome RunSchedule(const std::string& policy, const ModelConfig& config,
                          const StepRunner& run);

// A prompt whose curves are asked for, and which is read a second time before its eviction.
ScriptOutcome RunSecondReading(const ModelConfig& config, const StepRunner& run);

std::vector<Script> Scripts();

}  // namespace kvec::worker::engine

#endif  // KVEC_TESTS_WORKER_ENGINE_GROUP_SCRIPTS_H_
