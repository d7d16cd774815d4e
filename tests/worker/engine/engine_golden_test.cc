// The engine against PyPI transformers on tiny random models of every family.

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/model/golden_file.h"

namespace kvec::worker::engine {
namespace {

// Where the reference's two best are closer than this, either is right.
constexpr double kTie = 0.1;

class EngineGolden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto golden = ReadTinyModelGolden(GetParam());
    ASSERT_TRUE(golden.ok()) << golden.status();
    golden_ = *std::move(golden);
  }

  Golden golden_;
};

void ExpectLogProbs(const std::vector<Golden::TokenLogProb>& expected,
                    const v1::TokenLogProbs& actual, double tolerance) {
  ASSERT_EQ(actual.top_size(), static_cast<int>(expected.size()));
  for (size_t i = 0; i < expected.size(); ++i) {
    // By rank: two that are closer than the tolerance may change places.
    EXPECT_NEAR(actual.top(i).log_prob(), expected[i].log_prob, tolerance);
  }
  EXPECT_NEAR(actual.top(0).log_prob(), expected[0].log_prob, tolerance);
}

TEST_P(EngineGolden, ScoresForcedTokensAsTransformersDoes) {
  EngineHarness harness(TinyModelFolder(GetParam()), {});
  uint64_t id = 0;
  for (const Golden::Generation& generation : golden_.generate) {
    ++id;
    const auto& prompt = generation.prompt_ids;
    const int prompt_size = static_cast<int>(prompt.size());
    v1::StepSampling sampling = EngineHarness::GreedySampling();
    sampling.set_prompt_logprobs(0);
    v1::Step step = harness.NewStep();
    EngineHarness::AddStart(id, prompt_size, sampling, step);
    v1::SequenceWork& prefill = EngineHarness::AddWork(id, prompt, 0, true, false, step);
    prefill.set_score_tokens(true);
    prefill.set_next_token_id(generation.generated_ids[0]);
    const v1::SequenceResult prefilled = harness.Run(step).results(0);

    ASSERT_EQ(prefilled.scored_size(), prompt_size);
    for (int i = 0; i + 1 < prompt_size; ++i) {
      EXPECT_NEAR(prefilled.scored(i).chosen().log_prob(), generation.prompt_logprobs[i], 2e-3);
    }
    ExpectLogProbs(generation.top_logprobs[0], prefilled.scored(prompt_size - 1), 2e-3);

    v1::Step forced = harness.NewStep();
    EngineHarness::AddWork(id, generation.generated_ids, prompt_size, false, false, forced)
        .set_score_tokens(true);
    const v1::SequenceResult scored = harness.Run(forced).results(0);
    ASSERT_EQ(scored.scored_size(), static_cast<int>(generation.generated_ids.size()) - 1);
    for (int i = 0; i < scored.scored_size(); ++i) {
      ExpectLogProbs(generation.top_logprobs[i + 1], scored.scored(i), 2e-3);
    }
    harness.Free(id);
  }
}

TEST_P(EngineGolden, ContinuesGreedilyAsTransformersDoes) {
  EngineHarness harness(TinyModelFolder(GetParam()), {});
  for (const Golden::Generation& generation : golden_.generate) {
    v1::SequenceResult result = harness.Prefill(1, generation.prompt_ids, 16,
                                                EngineHarness::GreedySampling());
    int position = static_cast<int>(generation.prompt_ids.size());
    for (size_t i = 0; i < generation.generated_ids.size(); ++i) {
      const auto& top = generation.top_logprobs[i];
      if (static_cast<int32_t>(result.token_id()) != generation.generated_ids[i]) {
        EXPECT_LT(top[0].log_prob - top[1].log_prob, kTie) << "token " << i;
        break;  // another branch of a tie; ScoresForcedTokens compares the rest
      }
      if (i + 1 < generation.generated_ids.size()) result = harness.Decode(1, position++);
    }
    harness.Free(1);
  }
}

TEST_P(EngineGolden, StaysCloseWithASmallerCache) {
  for (kernels::KvType kv_type : {kernels::KvType::kBF16, kernels::KvType::kInt8}) {
    EngineHarness harness(TinyModelFolder(GetParam()), {.kv_type = kv_type});
    for (const Golden::Generation& generation : golden_.generate) {
      const v1::SequenceResult result = harness.Prefill(1, generation.prompt_ids, 512,
                                                        EngineHarness::GreedySampling());
      ExpectLogProbs(generation.top_logprobs[0], result.logprobs(), 0.05);
      harness.Free(1);
    }
  }
}

TEST_P(EngineGolden, AgreesOnEveryInstructionSet) {
  for (kernels::cpu::Isa isa : {kernels::cpu::Isa::kScalar, kernels::cpu::Isa::kAvx2}) {
    if (isa > kernels::cpu::DetectIsa()) continue;
    EngineHarness harness(TinyModelFolder(GetParam()), {.isa = isa});
    for (const Golden::Generation& generation : golden_.generate) {
      const v1::SequenceResult result = harness.Prefill(1, generation.prompt_ids, 512,
                                                        EngineHarness::GreedySampling());
      ExpectLogProbs(generation.top_logprobs[0], result.logprobs(), 2e-3);
      harness.Free(1);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, EngineGolden, testing::ValuesIn(TinyModelNames()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace kvec::worker::engine
