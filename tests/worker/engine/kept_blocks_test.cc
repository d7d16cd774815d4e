// Prompts that begin with kept blocks, through whole Steps of the engine, on a tiny model: nothing
// that is answered or reported may differ by a bit from a prefill of the whole prompt.

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/model/golden_file.h"

namespace kvec::worker::engine {
namespace {

using ::testing::HasSubstr;

constexpr int kPromptTokens = 100;
constexpr int kCachedTokens = 64;  // at most 100 - 32, the wide window
constexpr int kDecodeSteps = 8;

std::vector<int32_t> Prompt(uint32_t question) {
  std::mt19937 random(1);
  std::vector<int32_t> tokens(kPromptTokens);
  for (int i = 0; i < kPromptTokens; ++i) {
    if (i == kCachedTokens) random.seed(question);
    tokens[i] = static_cast<int32_t>(random() % 250);
  }
  return tokens;
}

// Sampled, with penalties over prompt and output.
v1::StepSampling Sampling() {
  v1::StepSampling sampling = EngineHarness::GreedySampling();
  sampling.set_temperature(1);
  sampling.set_seed(3);
  sampling.set_repetition_penalty(1.2f);
  return sampling;
}

class KeptBlocksEngineTest : public testing::TestWithParam<std::string> {
 protected:
  // Even tokens close sentences, which the policy kvec looks at.
  void SetUp() override { harness_.engine().set_sentence_end_bits(std::string(64, '\x55')); }

  // Runs a sequence whose first tokens are in `block_ids`; it keeps its own blocks from first_kept
  // on as block 1 …
  std::vector<std::string> RunSequence(uint64_t id, uint32_t question,
                                       const std::vector<uint64_t>& block_ids, int first_kept) {
    const std::vector<int32_t> prompt = Prompt(question);
    const int num_cached = static_cast<int>(block_ids.size()) * kernels::kPageTokens;
    std::vector<std::string> outcome;
    v1::Step step = harness_.NewStep();
    EngineHarness::AddStart(id, kPromptTokens, Sampling(), step);
    v1::SequenceStart& start = *step.mutable_starts(0);
    *start.mutable_cache() = EngineHarness::CachePolicyOf(GetParam());
    start.mutable_block_ids()->Assign(block_ids.begin(), block_ids.end());
    start.mutable_cached_token_ids()->Assign(prompt.begin(), prompt.begin() + num_cached);
    EngineHarness::AddWork(id, absl::MakeConstSpan(prompt).subspan(num_cached), num_cached, true,
                           true, step);
    if (first_kept < kCachedTokens / kernels::kPageTokens) {
      v1::BlockKeep& keep = *step.add_keeps();
      keep.set_sequence_id(id);
      keep.set_first_block(first_kept);
      for (int i = first_kept; i < kCachedTokens / kernels::kPageTokens; ++i) {
        keep.add_block_ids(i + 1);
      }
    }
    if (GetParam() != "full") {
      v1::EvictionOrder& order = *step.add_evictions();
      order.set_sequence_id(id);
      order.set_position(kPromptTokens);
      for (int layer = 0; layer < harness_.config().num_layers; ++layer) {
        order.add_layer_budgets(harness_.config().num_kv_heads * 20);
      }
    }
    Collect(harness_.Run(step), outcome);
    for (int i = 0; i < kDecodeSteps; ++i) {
      v1::Step decode = harness_.NewStep();
      EngineHarness::AddWork(id, {}, kPromptTokens + i, false, true, decode);
      Collect(harness_.Run(decode), outcome);
    }
    return outcome;
  }

  static void Collect(v1::StepResult result, std::vector<std::string>& outcome) {
    result.mutable_results(0)->clear_sequence_id();
    outcome.push_back(result.results(0).SerializeAsString());
    outcome.push_back(std::to_string(result.changed_pages(0).pages()));
    for (v1::EvictionReport& report : *result.mutable_evictions()) {
      report.clear_sequence_id();
      report.clear_eviction_ms();
      outcome.push_back(report.SerializeAsString());
    }
  }

  EngineHarness harness_{TinyModelFolder("llama"), {.kv_type = kernels::KvType::kF16}};
};

TEST_P(KeptBlocksEngineTest, AHitChangesNoBit) {
  constexpr int kKeepsNone = kCachedTokens;
  const std::vector<std::string> cold = RunSequence(1, 5, {}, kKeepsNone);
  RunSequence(2, 6, {}, 0);
  EXPECT_EQ(RunSequence(3, 5, {1, 2, 3, 4}, kKeepsNone), cold);
  EXPECT_EQ(RunSequence(4, 5, {1, 2}, kKeepsNone), cold) << "a part of what is kept";
  harness_.Free(2);
  harness_.Free(3);
  EXPECT_EQ(RunSequence(5, 5, {1, 2, 3, 4}, kKeepsNone), cold) << "after two evictions beside it";
}

TEST_P(KeptBlocksEngineTest, KeepingChangesNoBit) {
  const std::vector<std::string> cold = RunSequence(1, 5, {}, kCachedTokens);
  EXPECT_EQ(RunSequence(2, 5, {}, 0), cold);
  EXPECT_EQ(RunSequence(3, 5, {1, 2, 3, 4}, kCachedTokens), cold);
}

TEST_P(KeptBlocksEngineTest, AllPagesComeBack) {
  const int num_free = harness_.engine().num_free_pages();
  RunSequence(1, 5, {}, 0);
  RunSequence(2, 6, {1, 2, 3, 4}, kCachedTokens);
  harness_.Free(1);
  harness_.Free(2);
  const int num_heads = harness_.config().num_layers * harness_.config().num_kv_heads;
  EXPECT_EQ(harness_.engine().num_free_pages(), num_free - 4 * num_heads);
  v1::Step step = harness_.NewStep();
  for (uint64_t id : {1, 2, 3, 4}) step.add_freed_block_ids(id);
  harness_.Run(step);
  EXPECT_EQ(harness_.engine().num_free_pages(), num_free);
}

INSTANTIATE_TEST_SUITE_P(Policies, KeptBlocksEngineTest,
                         testing::Values("full", "streaming", "snapkv", "pyramidkv", "adasnapkv",
                                         "kvec-paper", "kvec"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(KeptBlocksEngine, ResetForgetsThem) {
  EngineHarness harness(TinyModelFolder("llama"), {});
  const int num_free = harness.engine().num_free_pages();
  v1::Step step = harness.NewStep();
  EngineHarness::AddStart(1, 20, EngineHarness::GreedySampling(), step);
  EngineHarness::AddWork(1, absl::MakeConstSpan(Prompt(5)).first(20), 0, true, true, step);
  step.add_keeps()->set_sequence_id(1);
  step.mutable_keeps(0)->add_block_ids(1);
  harness.Run(step);
  harness.engine().Reset();
  EXPECT_EQ(harness.engine().num_free_pages(), num_free);
}

TEST(KeptBlocksEngine, RefusesAStartWhoseTokensDoNotFit) {
  EngineHarness harness(TinyModelFolder("llama"), {});
  v1::Step step = harness.NewStep();
  EngineHarness::AddStart(1, 20, EngineHarness::GreedySampling(), step);
  step.mutable_starts(0)->add_cached_token_ids(3);
  const auto result = harness.engine().Execute(step);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(result.status().message()),
              HasSubstr("1 cached_token_ids, the cache holds 0"));
}

}  // namespace
}  // namespace kvec::worker::engine
