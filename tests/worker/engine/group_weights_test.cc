// Models whose heads and quantised blocks do not divide, split over ranks and stages, against the
// same model on one worker.

#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/engine/group_harness.h"
#include "tests/worker/model/memory_model.h"

namespace kvec::worker::engine {
namespace {

constexpr int kPromptTokens = 50;
constexpr double kTolerance = 0.05;  // of log-probabilities

struct Case {
  std::string name;
  int num_heads;
  int num_kv_heads;
  int head_dim;
  int intermediate_size;
  TensorType by_columns;  // of attention_output and down
  TensorType by_rows;     // of the others
  bool has_post_norms = false;

  friend void PrintTo(const Case& value, std::ostream* out) { *out << value.name; }
};

const Case kCases[] = {
    {"nine_heads", 9, 3, 16, 96, TensorType::kF32, TensorType::kF32},
    {"nine_heads_q4_1", 9, 3, 64, 160, TensorType::kQ4_1, TensorType::kQ4_1},
    {"one_kv_head_post_norms", 4, 1, 32, 96, TensorType::kBF16, TensorType::kQ8_0, true},
    {"heads_inside_blocks_q8_0", 5, 5, 32, 128, TensorType::kQ8_0, TensorType::kF16},
    // Rank borders at multiples of 64, blocks of 256: parts of blocks are stored twice.
    {"heads_inside_blocks_q4_k", 12, 4, 64, 768, TensorType::kQ4_K, TensorType::kQ4_0},
    {"heads_inside_blocks_q6_k", 8, 2, 64, 256, TensorType::kQ6_K, TensorType::kQ5_1},
};

class GroupWeightsTest : public testing::TestWithParam<Case> {
 protected:
  GroupWeightsTest() : model_(Config(), TypeOf, 11) {}

  static ModelConfig Config() {
    const Case& c = GetParam();
    ModelConfig config =
        SmallConfig(c.num_heads, c.num_kv_heads, c.head_dim, c.intermediate_size, {0, 24, 0, 0});
    config.has_post_norms = c.has_post_norms;
    return config;
  }
  static TensorType TypeOf(absl::string_view name) {
    const bool by_columns =
        absl::StrContains(name, "attn_output") || absl::StrContains(name, "ffn_down");
    return by_columns ? GetParam().by_columns : GetParam().by_rows;
  }

  // The log-probabilities of the five best tokens after each of a prompt's tokens and of 12 forced
  // ones.
  std::vector<float> Score(GroupShape shape) {
    GroupHarness harness(model_, {.shape = shape, .comm = {}});
    std::mt19937 random(1);
    std::vector<int32_t> prompt(kPromptTokens);
    std::vector<int32_t> forced(12);
    for (int32_t& token : prompt) token = static_cast<int32_t>(random() % 300);
    for (int32_t& token : forced) token = static_cast<int32_t>(random() % 300);
    v1::StepSampling sampling = EngineHarness::GreedySampling();
    sampling.set_prompt_logprobs(5);
    v1::Step step = harness.NewStep();
    EngineHarness::AddStart(1, kPromptTokens, sampling, step);
    EngineHarness::AddWork(1, prompt, 0, true, false, step).set_score_tokens(true);
    std::vector<float> log_probs;
    const auto collect = [&](const v1::StepResult& result) {
      for (const v1::TokenLogProbs& scored : result.results(0).scored()) {
        log_probs.push_back(scored.chosen().log_prob());
        for (const v1::TokenLogProb& top : scored.top()) log_probs.push_back(top.log_prob());
      }
    };
    collect(harness.Run(step));
    v1::Step decode = harness.NewStep();
    EngineHarness::AddWork(1, forced, kPromptTokens, false, false, decode).set_score_tokens(true);
    collect(harness.Run(decode));
    return log_probs;
  }

  MemoryModel model_;
};

TEST_P(GroupWeightsTest, EverySplitScoresAsOneWorkerDoes) {
  const std::vector<float> alone = Score({1, 1});
  ASSERT_GT(alone.size(), 300u);
  EXPECT_EQ(Score({2, 1}), alone);
  for (const GroupShape shape :
       {GroupShape{1, 2}, GroupShape{1, 3}, GroupShape{1, 4}, GroupShape{2, 2}}) {
    SCOPED_TRACE(shape.num_ranks);
    const std::vector<float> group = Score(shape);
    ASSERT_EQ(group.size(), alone.size());
    for (size_t i = 0; i < alone.size(); ++i) EXPECT_NEAR(group[i], alone[i], kTolerance);
  }
}

TEST_P(GroupWeightsTest, RanksHoldLittleMoreThanTheirShare) {
  GroupHarness alone(model_, {.shape = {1, 1}, .comm = {}});
  GroupHarness group(model_, {.shape = {1, 2}, .comm = {}});
  const uint64_t whole = alone.engines()[0]->Capacity().weight_bytes();
  for (Engine* engine : group.engines()) {
    EXPECT_LT(engine->Capacity().weight_bytes(), whole * 3 / 4);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GroupWeightsTest, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace kvec::worker::engine
