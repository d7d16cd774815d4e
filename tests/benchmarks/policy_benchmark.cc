// What an eviction's choice costs on the processor, of which the kernels measure nothing:
// Policy::Select for one layer, by KV heads and candidates. items/s are (KV head, candidate) pairs.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "worker/eviction/policies.h"
#include "worker/eviction/policy.h"

namespace kvec::worker::eviction {
namespace {

constexpr int kWindow = 16;

void Select(benchmark::State& state, const std::string& name) {
  const int num_kv_heads = static_cast<int>(state.range(0));
  const int num_candidates = static_cast<int>(state.range(1)) - kWindow;
  const int budget = static_cast<int>(state.range(2));
  std::mt19937 random(1);
  PolicyParameters parameters;
  parameters.num_tokens = num_candidates + kWindow;
  parameters.observation_window = kWindow;
  parameters.wide_window = 32;
  parameters.adaptive_heads = true;
  for (int t = 0; t < parameters.num_tokens; ++t) {
    parameters.sentence_ends.push_back(random() % 20 == 0 ? 1 : 0);
  }
  const auto policy = MakePolicy(name, parameters);
  CHECK(policy.ok()) << policy.status();
  // Few tokens get most of the attention.
  std::vector<float> scores(static_cast<size_t>(num_kv_heads) * num_candidates);
  std::lognormal_distribution<float> attention(0, 2);
  for (float& score : scores) score = attention(random);
  std::vector<int32_t> positions(num_candidates);
  for (int t = 0; t < num_candidates; ++t) positions[t] = t;
  LayerScores layer;
  layer.num_candidates = num_candidates;
  layer.num_kv_heads = num_kv_heads;
  layer.heads.push_back(scores);
  layer.positions = positions;
  Coverage coverage;
  coverage.layers_selecting.assign(parameters.num_tokens, 0);
  for (auto _ : state) {
    benchmark::DoNotOptimize((*policy)->Select(layer, budget * num_kv_heads, coverage));
  }
  state.SetItemsProcessed(state.iterations() * num_kv_heads * num_candidates);
}

// SmolLM2's layer, and one of an 8B or 70B model.
BENCHMARK_CAPTURE(Select, kvec, std::string("kvec"))
    ->Args({3, 4096, 512})
    ->Args({8, 4096, 512})
    ->Args({8, 32768, 1024})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Select, snapkv, std::string("snapkv"))
    ->Args({8, 4096, 512})
    ->Args({8, 32768, 1024})
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace kvec::worker::eviction
