// Sequences that continue an earlier one's cache, through whole Steps of the engine: the same bits as
// a sequence that is replayed from its tokens.

#include <cstdint>
#include <random>
#include <ostream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/model/golden_file.h"

namespace kvec::worker::engine {
namespace {

using ::testing::HasSubstr;

constexpr int kFirstPrompt = 70;
constexpr int kSecondPrompt = 20;
constexpr int kAnswer = 6;
constexpr int kSessionTokens = kFirstPrompt + kAnswer;
constexpr int kAllPrompts = kSessionTokens + kSecondPrompt;

std::vector<int32_t> Tokens(int count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 250);
  return tokens;
}

v1::StepSampling Sampling() {
  v1::StepSampling sampling = EngineHarness::GreedySampling();
  sampling.set_temperature(1);
  sampling.set_seed(3);
  sampling.set_frequency_penalty(0.5f);
  sampling.set_repetition_penalty(1.2f);
  return sampling;
}

struct Case {
  std::string model;
  std::string policy;

  // How GoogleTest names it; else its bytes are printed, addresses among them.
  friend void PrintTo(const Case& value, std::ostream* out) {
    *out << value.model << " " << value.policy;
  }
};

class SessionEngineTest : public testing::TestWithParam<Case> {
 protected:
  void AddStart(uint64_t id, int prompt_tokens, v1::Step& step) {
    EngineHarness::AddStart(id, prompt_tokens, Sampling(), step);
    v1::SequenceStart& start = *step.mutable_starts(0);
    start.set_first_prompt_tokens(kFirstPrompt);
    v1::CachePolicy& cache = *start.mutable_cache();
    cache.set_policy(GetParam().policy);
    cache.set_observation_window(16);
    cache.set_wide_window(32);
    cache.set_head_allocation("adaptive");
  }
  void AddEviction(uint64_t id, v1::Step& step) {
    if (GetParam().policy == "full") return;
    step.add_evictions()->set_sequence_id(id);
    step.mutable_evictions(0)->set_position(kFirstPrompt);
    for (int layer = 0; layer < harness_.config().num_layers; ++layer) {
      step.mutable_evictions(0)->add_layer_budgets(harness_.config().num_kv_heads * 12);
    }
  }
  // Tokens, log-probabilities and pages of a Step.
  std::string Run(const v1::Step& step) {
    v1::StepResult result = harness_.Run(step);
    if (result.results_size() == 0 || !result.results(0).has_token_id()) return "";
    last_token_ = static_cast<int32_t>(result.results(0).token_id());
    result.mutable_results(0)->clear_sequence_id();
    return result.results(0).SerializeAsString() +
           std::to_string(result.changed_pages(0).pages());
  }
  std::vector<std::string> Decode(uint64_t id, int position) {
    std::vector<std::string> outcome;
    for (int i = 0; i < kAnswer; ++i) {
      v1::Step step = harness_.NewStep();
      EngineHarness::AddWork(id, {}, position + i, false, true, step);
      outcome.push_back(Run(step));
    }
    return outcome;
  }

  EngineHarness harness_{TinyModelFolder(GetParam().model), {.kv_type = kernels::KvType::kF16}};
  int32_t last_token_ = 0;
};

TEST_P(SessionEngineTest, GoesOnAsAReplayDoes) {
  const std::vector<int32_t> first = Tokens(kFirstPrompt, 1);
  std::vector<int32_t> answer;
  v1::Step step = harness_.NewStep();
  AddStart(1, kFirstPrompt, step);
  EngineHarness::AddWork(1, first, 0, true, true, step);
  AddEviction(1, step);
  Run(step);
  answer.push_back(last_token_);
  for (int i = 1; i < kAnswer; ++i) {
    v1::Step decode = harness_.NewStep();
    EngineHarness::AddWork(1, {}, kFirstPrompt + i - 1, false, true, decode);
    Run(decode);
    answer.push_back(last_token_);
  }
  // The next request: the answer's last token and a prompt.
  std::vector<int32_t> second = {answer.back()};
  const std::vector<int32_t> prompt = Tokens(kSecondPrompt, 2);
  second.insert(second.end(), prompt.begin(), prompt.end());
  v1::Step next = harness_.NewStep();
  AddStart(1, kAllPrompts, next);
  v1::SequenceStart& start = *next.mutable_starts(0);
  start.mutable_cache()->set_policy("full");
  start.set_continues(true);
  start.mutable_cached_token_ids()->Add(first.begin(), first.end());
  start.mutable_cached_token_ids()->Add(answer.begin(), answer.end() - 1);
  EngineHarness::AddWork(1, second, kSessionTokens - 1, true, true, next);
  std::vector<std::string> continued = {Run(next)};
  for (std::string& outcome : Decode(1, kAllPrompts)) continued.push_back(std::move(outcome));

  v1::Step replay = harness_.NewStep();
  AddStart(2, kAllPrompts, replay);
  EngineHarness::AddWork(2, absl::MakeConstSpan(first).first(50), 0, true, false, replay);
  Run(replay);
  replay = harness_.NewStep();
  EngineHarness::AddWork(2, absl::MakeConstSpan(first).subspan(50), 50, true, false, replay);
  AddEviction(2, replay);
  Run(replay);
  replay = harness_.NewStep();
  EngineHarness::AddWork(2, absl::MakeConstSpan(answer).first(kAnswer - 1), kFirstPrompt, false,
                         false, replay);
  Run(replay);
  replay = harness_.NewStep();
  EngineHarness::AddWork(2, second, kSessionTokens - 1, true, true, replay);
  std::vector<std::string> replayed = {Run(replay)};
  for (std::string& outcome : Decode(2, kAllPrompts)) replayed.push_back(std::move(outcome));
  EXPECT_EQ(continued, replayed);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, SessionEngineTest,
    testing::Values(Case{"llama", "full"}, Case{"llama", "streaming"}, Case{"llama", "snapkv"},
                    Case{"llama", "adasnapkv"}, Case{"llama", "kvec"}, Case{"gemma3", "full"},
                    Case{"gemma3", "kvec"}),
    [](const auto& info) { return info.param.model + "_" + info.param.policy; });

TEST(SessionEngine, RefusesToContinueWhatIsNotThere) {
  EngineHarness harness(TinyModelFolder("llama"), {});
  v1::Step step = harness.NewStep();
  EngineHarness::AddStart(7, 20, EngineHarness::GreedySampling(), step);
  step.mutable_starts(0)->set_continues(true);
  const auto result = harness.engine().Execute(step);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("sequence 7: not known"));
}

}  // namespace
}  // namespace kvec::worker::engine
