// Tiny models' sequences that are evicted several times against transformers and the NumPy oracle:
// what is kept each time, and what the model says of the tokens between. schedule_goldens.json is
// written by make_schedule_goldens.py.

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

constexpr int kWindow = 16;
constexpr double kTolerance = 2e-3;  // of log-probabilities

std::vector<Json> Goldens() {
  std::ifstream file(KVEC_SOURCE_DIR "/tests/worker/engine/schedule_goldens.json");
  return Json::parse(file).get<std::vector<Json>>();
}

class ScheduleGolden : public testing::TestWithParam<Json> {
 protected:
  static std::vector<int32_t> Tokens(const char* field) {
    return GetParam().at(field).get<std::vector<int32_t>>();
  }

  // One bit per vocabulary entry.
  static std::string SentenceEndBits(int vocab_size) {
    std::string bits((vocab_size + 7) / 8, '\0');
    for (int32_t token : Tokens("sentence_ends")) {
      bits[token / 8] = static_cast<char>(bits[token / 8] | 1 << token % 8);
    }
    return bits;
  }

  static void Start(v1::Step& step) {
    EngineHarness::AddStart(1, static_cast<int>(Tokens("prompt").size()),
                            EngineHarness::GreedySampling(), step);
    v1::CachePolicy& policy = *step.mutable_starts(0)->mutable_cache();
    policy.set_policy(GetParam().at("policy").get<std::string>());
    policy.set_observation_window(kWindow);
    policy.set_wide_window(32);
    policy.set_lambda(1);
    policy.set_beta(0.25);
    policy.set_delta(1);
    policy.set_head_allocation("adaptive");
    policy.set_prefill_bound_tokens(60);
    policy.set_decode_interval_tokens(8);
  }

  // Feeds tokens[begin, end) and carries out the eviction there, if any; end is no later than the
  // prompt's end unless begin is.
  static v1::StepResult Feed(EngineHarness& harness, int begin, int end, const Json* eviction) {
    std::vector<int32_t> tokens = Tokens("prompt");
    const int prompt_tokens = static_cast<int>(tokens.size());
    for (int32_t token : Tokens("forced")) tokens.push_back(token);
    v1::Step step = harness.NewStep();
    if (begin == 0) Start(step);
    const bool is_prompt = begin < prompt_tokens;
    v1::SequenceWork& work = EngineHarness::AddWork(
        1, absl::MakeConstSpan(tokens).subspan(begin, end - begin), begin, is_prompt, false, step);
    work.set_score_tokens(!is_prompt);
    if (!is_prompt && end < static_cast<int>(tokens.size())) work.set_next_token_id(tokens[end]);
    if (eviction != nullptr) {
      v1::EvictionOrder& order = *step.add_evictions();
      order.set_sequence_id(1);
      order.set_position(end);
      for (uint32_t budget : eviction->at("layer_budgets")) order.add_layer_budgets(budget);
    }
    return harness.Run(step);
  }
};

std::vector<int> KeptCandidates(const v1::EvictionReport& report) {
  std::vector<int> tokens;
  for (int token = 0; token < static_cast<int>(report.position()) - kWindow; ++token) {
    if (report.kept_token_bits().at(token / 8) >> (token % 8) & 1) tokens.push_back(token);
  }
  return tokens;
}

TEST_P(ScheduleGolden, KeepsAndContinuesAsTheReference) {
  EngineHarness harness(TinyModelFolder(GetParam().at("model")), {});
  harness.engine().set_sentence_end_bits(SentenceEndBits(harness.config().vocab_size));
  std::vector<double> log_probs;
  const auto collect = [&](const v1::StepResult& result) {
    for (const v1::TokenLogProbs& scored : result.results(0).scored()) {
      log_probs.push_back(scored.chosen().log_prob());
    }
  };
  int begin = 0;
  for (const Json& eviction : GetParam().at("evictions")) {
    const int end = eviction.at("position").get<int>();
    const v1::StepResult result = Feed(harness, begin, end, &eviction);
    ASSERT_EQ(result.evictions_size(), 1);
    EXPECT_EQ(KeptCandidates(result.evictions(0)),
              eviction.at("kept_candidates").get<std::vector<int>>())
        << "at " << end;
    collect(result);
    begin = end;
  }
  const int num_tokens = static_cast<int>(Tokens("prompt").size() + Tokens("forced").size());
  collect(Feed(harness, begin, num_tokens, nullptr));
  const auto expected = GetParam().at("log_probs").get<std::vector<double>>();
  ASSERT_EQ(log_probs.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(log_probs[i], expected[i], kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Models, ScheduleGolden, testing::ValuesIn(Goldens()),
                         [](const auto& info) {
                           std::string name = info.param.at("model").template get<std::string>() +
                                              "_" +
                                              info.param.at("policy").template get<std::string>();
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace kvec::worker::engine
