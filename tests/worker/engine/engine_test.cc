#include "worker/engine/engine.h"

#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/model/golden_file.h"

namespace kvec::worker::engine {
namespace {

std::vector<int32_t> RandomTokens(int count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 250);
  return tokens;
}

v1::StepSampling RandomSampling(uint64_t seed, uint32_t choice) {
  v1::StepSampling sampling = EngineHarness::GreedySampling();
  sampling.set_temperature(1);
  sampling.set_seed(seed);
  sampling.set_choice(choice);
  return sampling;
}

// Two results that must not differ in a bit.
void ExpectSame(const v1::SequenceResult& a, const v1::SequenceResult& b) {
  EXPECT_EQ(a.token_id(), b.token_id());
  EXPECT_EQ(a.logprobs().SerializeAsString(), b.logprobs().SerializeAsString());
}

// gemma3 has sliding windows and every kind of norm.
class EngineTest : public testing::TestWithParam<std::string> {};

TEST_P(EngineTest, GivesTheSameBitsWhateverTheChunks) {
  for (kernels::KvType kv_type : {kernels::KvType::kBF16, kernels::KvType::kInt8}) {
    EngineHarness harness(TinyModelFolder(GetParam()), {.kv_type = kv_type});
    const std::vector<int32_t> prompt = RandomTokens(90, 1);
    const v1::SequenceResult whole =
        harness.Prefill(1, prompt, 90, EngineHarness::GreedySampling());
    for (int chunk : {1, 7, 16, 33, 64}) {
      ExpectSame(whole,
                 harness.Prefill(1 + chunk, prompt, chunk, EngineHarness::GreedySampling()));
    }
  }
}

void CheckNeighbours(const std::string& model, kernels::KvType kv_type) {
  const std::vector<int32_t> prompt = RandomTokens(40, 2);
  std::vector<v1::SequenceResult> alone;
  {
    EngineHarness harness(model, {.kv_type = kv_type, .num_threads = 1});
    alone.push_back(harness.Prefill(1, prompt, 64, EngineHarness::GreedySampling()));
    for (int i = 0; i < 20; ++i) alone.push_back(harness.Decode(1, 40 + i));
  }
  EngineHarness harness(model, {.kv_type = kv_type, .num_threads = 2});
  const std::vector<int32_t> other = RandomTokens(200, 3);
  harness.Prefill(2, other, 64, EngineHarness::GreedySampling());
  ExpectSame(alone[0], harness.Prefill(1, prompt, 10, EngineHarness::GreedySampling()));
  int other_prefilled = 0;
  for (int i = 0; i < 20; ++i) {
    // Beside another decode and the chunks of a third prompt.
    v1::Step step = harness.NewStep();
    EngineHarness::AddWork(2, {}, 200 + i, false, true, step);
    EngineHarness::AddWork(1, {}, 40 + i, false, true, step);
    if (other_prefilled < 200) {
      if (other_prefilled == 0) {
        EngineHarness::AddStart(3, 200, EngineHarness::GreedySampling(), step);
      }
      EngineHarness::AddWork(3, absl::MakeConstSpan(other).subspan(other_prefilled, 25),
                             other_prefilled, true, false, step);
      other_prefilled += 25;
    }
    ExpectSame(alone[i + 1], harness.Run(step).results(1));
  }
}

TEST_P(EngineTest, GivesTheSameBitsBesideNeighbours) {
  for (kernels::KvType kv_type : {kernels::KvType::kF32, kernels::KvType::kInt8}) {
    CheckNeighbours(TinyModelFolder(GetParam()), kv_type);
  }
}

void CheckReplay(const std::string& model, kernels::KvType kv_type) {
  EngineHarness harness(model, {.kv_type = kv_type});
  const std::vector<int32_t> prompt = RandomTokens(30, 4);
  v1::SequenceResult result = harness.Prefill(1, prompt, 64, RandomSampling(5, 0));
  std::vector<int32_t> generated;
  for (int i = 0; i < 25; ++i) {
    generated.push_back(static_cast<int32_t>(result.token_id()));
    result = harness.Decode(1, 30 + i);
  }
  harness.Free(1);
  // The same sequence, all generated tokens in one Step through the decode path.
  v1::Step step = harness.NewStep();
  EngineHarness::AddStart(2, 30, RandomSampling(5, 0), step);
  EngineHarness::AddWork(2, prompt, 0, true, false, step);
  harness.Run(step);
  v1::Step replay = harness.NewStep();
  EngineHarness::AddWork(2, generated, 30, false, true, replay);
  ExpectSame(result, harness.Run(replay).results(0));
}

TEST_P(EngineTest, ReplaysGeneratedTokensToTheSameBits) {
  for (kernels::KvType kv_type : {kernels::KvType::kBF16, kernels::KvType::kInt8}) {
    CheckReplay(TinyModelFolder(GetParam()), kv_type);
  }
}

TEST_P(EngineTest, ForksSampleAsIfEachHadItsOwnPrompt) {
  EngineHarness harness(TinyModelFolder(GetParam()), {});
  const std::vector<int32_t> prompt = RandomTokens(37, 6);
  std::vector<std::vector<v1::SequenceResult>> expected(3);
  for (uint32_t choice = 0; choice < 3; ++choice) {
    expected[choice].push_back(harness.Prefill(1, prompt, 64, RandomSampling(9, choice)));
    for (int i = 0; i < 5; ++i) expected[choice].push_back(harness.Decode(1, 37 + i));
    harness.Free(1);
  }
  const int free_before = harness.engine().num_free_pages();

  v1::Step step = harness.NewStep();
  EngineHarness::AddStart(10, 37, RandomSampling(9, 0), step);
  EngineHarness::AddWork(10, prompt, 0, true, true, step).set_num_choices(3);
  const v1::StepResult first = harness.Run(step);
  ASSERT_EQ(first.results_size(), 3);
  for (uint32_t choice = 0; choice < 3; ++choice) {
    EXPECT_EQ(first.results(choice).choice(), choice);
    ExpectSame(expected[choice][0], first.results(choice));
  }
  for (int i = 0; i < 5; ++i) {
    v1::Step decode = harness.NewStep();
    for (uint32_t choice = 1; i == 0 && choice < 3; ++choice) {
      v1::SequenceFork& fork = *decode.add_forks();
      fork.set_parent_sequence_id(10);
      fork.mutable_child()->set_sequence_id(10 + choice);
      fork.mutable_child()->set_prompt_tokens(37);
      *fork.mutable_child()->mutable_sampling() = RandomSampling(9, choice);
      fork.mutable_child()->mutable_cache()->set_policy("full");
    }
    for (int choice = 0; choice < 3; ++choice) {
      EngineHarness::AddWork(10 + choice, {}, 37 + i, false, true, decode);
    }
    const v1::StepResult result = harness.Run(decode);
    for (int choice = 0; choice < 3; ++choice) {
      ExpectSame(expected[choice][i + 1], result.results(choice));
    }
  }
  for (uint64_t id : {10, 11, 12}) harness.Free(id);
  EXPECT_EQ(harness.engine().num_free_pages(), free_before);
}

TEST_P(EngineTest, AppliesPenaltiesOverPromptAndOutput) {
  EngineHarness harness(TinyModelFolder(GetParam()), {});
  v1::StepSampling sampling = EngineHarness::GreedySampling();
  sampling.set_presence_penalty(2);
  sampling.set_frequency_penalty(2);
  v1::SequenceResult result = harness.Prefill(1, RandomTokens(5, 7), 64, sampling);
  std::vector<int> count(harness.config().vocab_size, 0);
  for (int i = 0; i < 40; ++i) {
    ++count[result.token_id()];
    result = harness.Decode(1, 5 + i);
  }
  // Greedy tiny models repeat themselves at once without penalties.
  EXPECT_LE(*std::max_element(count.begin(), count.end()), 12);
}

TEST_P(EngineTest, SamplesNoStopTokenBeforeMinTokens) {
  EngineHarness harness(TinyModelFolder(GetParam()), {});
  const std::vector<int32_t> prompt = RandomTokens(8, 8);
  const v1::SequenceResult free_choice =
      harness.Prefill(1, prompt, 64, EngineHarness::GreedySampling());
  v1::StepSampling sampling = EngineHarness::GreedySampling();
  sampling.add_stop_token_ids(free_choice.token_id());
  sampling.set_min_tokens(1);
  const v1::SequenceResult banned = harness.Prefill(2, prompt, 64, sampling);
  EXPECT_NE(banned.token_id(), free_choice.token_id());
  EXPECT_EQ(banned.token_id(), free_choice.logprobs().top(1).token_id());
}

INSTANTIATE_TEST_SUITE_P(Families, EngineTest, testing::Values("llama", "gemma3"),
                         [](const auto& info) { return info.param; });

TEST(Engine, ReportsPagesAndGivesThemBack) {
  EngineHarness harness(TinyModelFolder("llama"), {});
  const int total = harness.engine().num_free_pages();
  v1::Step step = harness.NewStep();
  EngineHarness::AddStart(1, 20, EngineHarness::GreedySampling(), step);
  EngineHarness::AddWork(1, RandomTokens(20, 1), 0, true, true, step);
  const v1::StepResult result = harness.Run(step);
  const uint64_t pages = 2u * harness.config().num_layers * harness.config().num_kv_heads;
  ASSERT_EQ(result.changed_pages_size(), 1);
  EXPECT_EQ(result.changed_pages(0).pages(), pages);
  EXPECT_EQ(result.free_pages(), total - pages);
  harness.Free(1);
  EXPECT_EQ(harness.engine().num_free_pages(), total);
}

struct BadStep {
  std::string name;
  std::string message;
  void (*build)(v1::Step& step);
};

class EngineRejects : public testing::TestWithParam<BadStep> {};

TEST_P(EngineRejects, AStepThatDoesNotFit) {
  EngineHarness harness(TinyModelFolder("llama"), {});
  const std::vector<int32_t> prompt = RandomTokens(5, 1);
  harness.Prefill(1, prompt, 64, EngineHarness::GreedySampling());
  v1::Step step = harness.NewStep();
  GetParam().build(step);
  const auto result = harness.engine().Execute(step);
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(std::string(result.status().message()), testing::HasSubstr(GetParam().message));
  harness.engine().Reset();
  EXPECT_EQ(harness.engine().num_sequences(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Steps, EngineRejects,
    testing::Values(
        BadStep{"UnknownSequence", "sequence 9: not known",
                [](v1::Step& step) {
                  EngineHarness::AddWork(9, {1}, 0, true, false, step);
                }},
        BadStep{"UnknownFree", "sequence 9: not known, cannot free",
                [](v1::Step& step) { step.add_freed_sequence_ids(9); }},
        BadStep{"WrongPosition", "sequence 1: first_position 3, the cache is at 5",
                [](v1::Step& step) {
                  EngineHarness::AddWork(1, {1}, 3, false, false, step);
                }},
        BadStep{"StartedTwice", "sequence 1: started twice",
                [](v1::Step& step) {
                  EngineHarness::AddStart(1, 5, EngineHarness::GreedySampling(), step);
                }},
        BadStep{"WorkTwice", "sequence 1: has work twice",
                [](v1::Step& step) {
                  EngineHarness::AddWork(1, {1}, 5, false, false, step);
                  EngineHarness::AddWork(1, {1}, 6, false, false, step);
                }},
        BadStep{"TokenOutsideTheVocabulary", "token_ids: 1000000 outside the vocabulary",
                [](v1::Step& step) {
                  EngineHarness::AddWork(1, {1000000}, 5, false, false, step);
                }},
        BadStep{"NothingSampled", "sequence 2: nothing was sampled yet",
                [](v1::Step& step) {
                  EngineHarness::AddStart(2, 5, EngineHarness::GreedySampling(), step);
                  EngineHarness::AddWork(2, {}, 0, false, true, step);
                }},
        BadStep{"AbsurdlyManyChoices", "sequence 1: num_choices 4294967295, at most 1024",
                [](v1::Step& step) {
                  EngineHarness::AddWork(1, {1}, 5, false, true, step).set_num_choices(~0u);
                }},
        BadStep{"PoolTooSmall", "kv pages: ",
                [](v1::Step& step) {
                  EngineHarness::AddStart(2, 1, EngineHarness::GreedySampling(), step);
                  EngineHarness::AddWork(2, std::vector<int32_t>(1 << 20, 1), 0, true, false,
                                         step);
                }}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace kvec::worker::engine
