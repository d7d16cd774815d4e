// Evictions of tiny models' prompts against transformers and the NumPy oracles: what is kept, and
// what the model says of the tokens that follow. eviction_goldens.json is written by
// make_eviction_goldens.py.

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/model/golden_file.h"

namespace kvec::worker::engine {
namespace {

using Json = nlohmann::json;

constexpr double kTolerance = 2e-3;  // of log-probabilities

std::vector<Json> Goldens() {
  std::ifstream file(KVEC_SOURCE_DIR "/tests/worker/engine/eviction_goldens.json");
  return Json::parse(file).get<std::vector<Json>>();
}

class EvictionGolden : public testing::TestWithParam<Json> {
 protected:
  std::vector<int32_t> Tokens(const char* field) const {
    return GetParam().at(field).get<std::vector<int32_t>>();
  }

  // One bit per vocabulary entry.
  std::string SentenceEndBits(int vocab_size) const {
    std::string bits((vocab_size + 7) / 8, '\0');
    for (int32_t token : Tokens("sentence_ends")) {
      bits[token / 8] = static_cast<char>(bits[token / 8] | 1 << token % 8);
    }
    return bits;
  }

  // Prefills in chunks of 32 and evicts after the last one.
  v1::EvictionReport Evict(EngineHarness& harness, uint64_t id, const Json& eviction) const {
    const std::vector<int32_t> prompt = Tokens("prompt");
    const int size = static_cast<int>(prompt.size());
    v1::StepResult result;
    for (int begin = 0; begin < size; begin += 32) {
      v1::Step step = harness.NewStep();
      if (begin == 0) {
        EngineHarness::AddStart(id, size, EngineHarness::GreedySampling(), step);
        v1::CachePolicy& policy = *step.mutable_starts(0)->mutable_cache();
        policy.set_policy(eviction.at("policy").get<std::string>());
        policy.set_observation_window(16);
        policy.set_wide_window(32);
        policy.set_lambda(1);
        policy.set_beta(0.25);
        policy.set_head_allocation("adaptive");
        policy.set_second_reading(eviction.at("reading_tokens") > 0);
      }
      EngineHarness::AddWork(id, absl::MakeConstSpan(prompt).subspan(begin, 32), begin, true, false,
                             step);
      if (begin + 32 >= size) {
        ReadAgain(harness, id, eviction, step);
        v1::EvictionOrder& order = *step.add_evictions();
        order.set_sequence_id(id);
        order.set_position(size);
        for (uint32_t budget : eviction.at("layer_budgets")) order.add_layer_budgets(budget);
      }
      result = harness.Run(step);
    }
    return result.evictions_size() > 0 ? result.evictions(0) : v1::EvictionReport();
  }

  // Runs the prompt's last Step, and leaves the readings to the next one.
  void ReadAgain(EngineHarness& harness, uint64_t id, const Json& eviction, v1::Step& step) const {
    const auto chunk = eviction.at("reading_tokens").get<uint32_t>();
    if (chunk == 0) return;
    harness.Run(step);
    step = harness.NewStep();
    const auto size = static_cast<uint32_t>(Tokens("prompt").size());
    for (uint32_t begin = 0; begin < size; begin += chunk) {
      v1::SequenceReading& reading = *step.add_readings();
      reading.set_sequence_id(id);
      reading.set_first_token(begin);
      reading.set_num_tokens(std::min(chunk, size - begin));
    }
  }

  std::vector<double> ScoreForced(EngineHarness& harness, uint64_t id) const {
    v1::Step step = harness.NewStep();
    EngineHarness::AddWork(id, Tokens("forced"), static_cast<int>(Tokens("prompt").size()), false,
                           false, step)
        .set_score_tokens(true);
    std::vector<double> log_probs;
    const v1::StepResult result = harness.Run(step);
    for (const v1::TokenLogProbs& scored : result.results(0).scored()) {
      log_probs.push_back(scored.chosen().log_prob());
    }
    return log_probs;
  }
};

std::vector<int> KeptCandidates(const v1::EvictionReport& report, int num_candidates) {
  std::vector<int> tokens;
  for (int token = 0; token < num_candidates; ++token) {
    if (report.kept_token_bits().at(token / 8) >> (token % 8) & 1) tokens.push_back(token);
  }
  return tokens;
}

TEST_P(EvictionGolden, KeepsAndContinuesAsTheReference) {
  EngineHarness harness(TinyModelFolder(GetParam().at("model")), {});
  harness.engine().set_sentence_end_bits(SentenceEndBits(harness.config().vocab_size));
  const int num_candidates = static_cast<int>(Tokens("prompt").size()) - 16;
  uint64_t id = 0;
  for (const Json& eviction : GetParam().at("evictions")) {
    SCOPED_TRACE(eviction.at("policy").get<std::string>());
    const v1::EvictionReport report = Evict(harness, ++id, eviction);
    EXPECT_EQ(KeptCandidates(report, num_candidates),
              eviction.at("kept_candidates").get<std::vector<int>>());
    const Json& layers = eviction.at("layers");
    ASSERT_EQ(report.layers_size(), static_cast<int>(layers.size()));
    for (size_t i = 0; i < layers.size(); ++i) {
      const v1::LayerCacheUsage& layer = report.layers(static_cast<int>(i));
      EXPECT_EQ(layer.layer(), layers[i].at("layer").get<uint32_t>());
      EXPECT_EQ(layer.unique_tokens(), layers[i].at("unique_tokens").get<uint32_t>());
      EXPECT_EQ(layer.kept_entries(), layers[i].at("kept_entries").get<uint32_t>());
      EXPECT_NEAR(layer.attention_mass(), layers[i].at("attention_mass").get<double>(), 1e-3);
    }
    const std::vector<double> actual = ScoreForced(harness, id);
    const auto expected = eviction.at("log_probs").get<std::vector<double>>();
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(actual[i], expected[i], kTolerance);
  }
}

TEST_P(EvictionGolden, ReportsTheCurvesOfTheReferencesScores) {
  EngineHarness harness(TinyModelFolder(GetParam().at("model")), {});
  harness.engine().set_sentence_end_bits(SentenceEndBits(harness.config().vocab_size));
  const std::vector<int32_t> prompt = Tokens("prompt");
  v1::Step step = harness.NewStep();
  EngineHarness::AddStart(1, static_cast<int>(prompt.size()), EngineHarness::GreedySampling(),
                          step);
  v1::CachePolicy& policy = *step.mutable_starts(0)->mutable_cache();
  policy.set_policy("kvec");
  policy.set_observation_window(16);
  policy.set_wide_window(32);
  v1::SequenceWork& work = EngineHarness::AddWork(1, prompt, 0, true, false, step);
  for (uint32_t budget : GetParam().at("curve_budgets")) work.add_curve_budgets(budget);
  const v1::StepResult result = harness.Run(step);
  ASSERT_EQ(result.curves_size(), 1);
  const v1::CurveReport& report = result.curves(0);
  EXPECT_EQ(report.sequence_id(), 1);
  const auto curves = GetParam().at("curves").get<std::vector<std::vector<double>>>();
  const Json& layers = GetParam().at("evictions").at(0).at("layers");
  ASSERT_EQ(report.layers_size(), static_cast<int>(curves.size()));
  for (size_t i = 0; i < curves.size(); ++i) {
    const v1::LayerCurve& curve = report.layers(static_cast<int>(i));
    EXPECT_EQ(curve.layer(), layers[i].at("layer").get<uint32_t>());
    ASSERT_EQ(curve.kept_share_size(), static_cast<int>(curves[i].size()));
    for (size_t j = 0; j < curves[i].size(); ++j) {
      EXPECT_NEAR(curve.kept_share(static_cast<int>(j)), curves[i][j], 1e-3);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, EvictionGolden, testing::ValuesIn(Goldens()),
                         [](const auto& info) {
                           return info.param.at("model").template get<std::string>();
                         });

}  // namespace
}  // namespace kvec::worker::engine
