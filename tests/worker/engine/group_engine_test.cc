// A model on several workers against the same model on one: the same Steps to both.

#include <algorithm>
#include <bitset>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/engine/group_harness.h"
#include "tests/worker/engine/group_scripts.h"
#include "tests/worker/model/golden_file.h"

namespace kvec::worker::engine {
namespace {

constexpr double kTie = 0.1;
constexpr double kTolerance = 0.05;  // of log-probabilities where heads are split
constexpr double kMaxDifferentEntries = 0.005;

std::unique_ptr<ModelFiles> Open(const std::string& model) {
  auto files = ModelFiles::Open(TinyModelFolder(model));
  EXPECT_TRUE(files.ok()) << files.status();
  return *std::move(files);
}

// Even tokens close sentences, which kvec looks at.
const std::string kSentenceEnds(64, '\x55');

ScriptOutcome RunAlone(const std::string& model, const Script& script) {
  EngineHarness harness(TinyModelFolder(model), {});
  harness.engine().set_sentence_end_bits(kSentenceEnds);
  return script.run(harness.config(), [&](const v1::Step& step) { return harness.Run(step); });
}

ScriptOutcome RunInGroup(const std::string& model, const Script& script, GroupShape shape) {
  const std::unique_ptr<ModelFiles> files = Open(model);
  GroupHarness harness(*files, {.shape = shape, .comm = {}});
  harness.SetSentenceEndBits(kSentenceEnds);
  return script.run(files->config(), [&](const v1::Step& step) { return harness.Run(step); });
}

using Case = std::tuple<std::string, Script>;

class GroupEngineTest : public testing::TestWithParam<Case> {
 protected:
  const std::string& model() const { return std::get<0>(GetParam()); }
  const Script& script() const { return std::get<1>(GetParam()); }
};

TEST_P(GroupEngineTest, StagesChangeNoBit) {
  const ScriptOutcome alone = RunAlone(model(), script());
  ASSERT_FALSE(alone.sampled.empty());
  for (int num_stages : {2, 3}) {
    SCOPED_TRACE(num_stages);
    const ScriptOutcome group = RunInGroup(model(), script(), {num_stages, 1});
    ASSERT_EQ(group.sampled.size(), alone.sampled.size());
    for (size_t i = 0; i < alone.sampled.size(); ++i) {
      EXPECT_EQ(group.sampled[i].SerializeAsString(), alone.sampled[i].SerializeAsString()) << i;
    }
    ASSERT_EQ(group.evictions.size(), alone.evictions.size());
    for (size_t i = 0; i < alone.evictions.size(); ++i) {
      EXPECT_EQ(group.evictions[i].SerializeAsString(), alone.evictions[i].SerializeAsString())
          << i;
    }
    ASSERT_EQ(group.curves.size(), alone.curves.size());
    for (size_t i = 0; i < alone.curves.size(); ++i) {
      EXPECT_EQ(group.curves[i].SerializeAsString(), alone.curves[i].SerializeAsString()) << i;
    }
  }
}

void CompareCurves(const v1::CurveReport& a, const v1::CurveReport& b) {
  ASSERT_EQ(a.layers_size(), b.layers_size());
  for (int layer = 0; layer < a.layers_size(); ++layer) {
    EXPECT_EQ(a.layers(layer).layer(), b.layers(layer).layer());
    ASSERT_EQ(a.layers(layer).kept_share_size(), b.layers(layer).kept_share_size());
    for (int i = 0; i < a.layers(layer).kept_share_size(); ++i) {
      EXPECT_NEAR(a.layers(layer).kept_share(i), b.layers(layer).kept_share(i), 1e-3);
    }
  }
}

int NumBits(const std::string& bits) {
  int count = 0;
  for (char byte : bits) count += static_cast<int>(std::bitset<8>(byte).count());
  return count;
}

// Entries of any head that only one of the two has kept, and those that it kept at all.
void CompareKept(const v1::EvictionReport& a, const v1::EvictionReport& b, int& num_different,
                 int& num_kept) {
  ASSERT_EQ(a.layers_size(), b.layers_size());
  for (int layer = 0; layer < a.layers_size(); ++layer) {
    const v1::LayerCacheUsage& usage = a.layers(layer);
    EXPECT_EQ(usage.kept_entries(), b.layers(layer).kept_entries());
    EXPECT_NEAR(usage.attention_mass(), b.layers(layer).attention_mass(), 1e-3);
    ASSERT_EQ(usage.kept_token_bits_size(), b.layers(layer).kept_token_bits_size());
    for (int head = 0; head < usage.kept_token_bits_size(); ++head) {
      std::string different = usage.kept_token_bits(head);
      for (size_t byte = 0; byte < different.size(); ++byte) {
        different[byte] =
            static_cast<char>(different[byte] ^ b.layers(layer).kept_token_bits(head)[byte]);
      }
      num_different += NumBits(different) / 2;
      num_kept += NumBits(usage.kept_token_bits(head));
    }
  }
}

TEST_P(GroupEngineTest, RanksChangeRoundingOnly) {
  const ScriptOutcome alone = RunAlone(model(), script());
  int num_different = 0;
  int num_kept = 0;
  for (const GroupShape shape : {GroupShape{1, 2}, GroupShape{2, 2}, GroupShape{1, 3}}) {
    SCOPED_TRACE(testing::Message() << shape.num_ranks << " ranks, " << shape.num_stages);
    const ScriptOutcome group = RunInGroup(model(), script(), shape);
    ASSERT_EQ(group.sampled.size(), alone.sampled.size());
    for (size_t i = 0; i < alone.sampled.size(); ++i) {
      ASSERT_EQ(group.sampled[i].token_id(), alone.sampled[i].token_id()) << i;
      const auto& expected = alone.sampled[i].logprobs();
      const auto& actual = group.sampled[i].logprobs();
      EXPECT_NEAR(actual.chosen().log_prob(), expected.chosen().log_prob(), kTolerance);
      for (int top = 0; top < expected.top_size(); ++top) {
        EXPECT_NEAR(actual.top(top).log_prob(), expected.top(top).log_prob(), kTolerance);
      }
    }
    ASSERT_EQ(group.evictions.size(), alone.evictions.size());
    for (size_t i = 0; i < alone.evictions.size(); ++i) {
      CompareKept(alone.evictions[i], group.evictions[i], num_different, num_kept);
    }
    ASSERT_EQ(group.curves.size(), alone.curves.size());
    for (size_t i = 0; i < alone.curves.size(); ++i) {
      CompareCurves(alone.curves[i], group.curves[i]);
    }
  }
  EXPECT_LE(num_different, kMaxDifferentEntries * num_kept) << "of " << num_kept;
}

INSTANTIATE_TEST_SUITE_P(Scripts, GroupEngineTest,
                         testing::Combine(testing::Values("llama", "gemma3", "mistral"),
                                          testing::ValuesIn(Scripts())),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param).name;
                         });

class GroupGolden : public testing::TestWithParam<std::string> {};

TEST_P(GroupGolden, ContinuesGreedilyAsTransformersDoes) {
  const std::unique_ptr<ModelFiles> files = Open(GetParam());
  const auto golden = ReadTinyModelGolden(GetParam());
  ASSERT_TRUE(golden.ok()) << golden.status();
  for (const GroupShape shape :
       {GroupShape{1, 2}, GroupShape{2, 1}, GroupShape{2, 2}, GroupShape{1, 3}, GroupShape{1, 4}}) {
    SCOPED_TRACE(testing::Message() << shape.num_ranks << " ranks, " << shape.num_stages);
    GroupHarness harness(*files, {.shape = shape, .comm = {}});
    uint64_t id = 0;
    for (const Golden::Generation& generation : golden->generate) {
      const int prompt_size = static_cast<int>(generation.prompt_ids.size());
      v1::Step step = harness.NewStep();
      EngineHarness::AddStart(++id, prompt_size, EngineHarness::GreedySampling(), step);
      EngineHarness::AddWork(id, generation.prompt_ids, 0, true, true, step);
      for (size_t i = 0; i < generation.generated_ids.size(); ++i) {
        const v1::StepResult result = harness.Run(step);
        ASSERT_EQ(result.results_size(), 1);
        const auto& top = generation.top_logprobs[i];
        EXPECT_NEAR(result.results(0).logprobs().top(0).log_prob(), top[0].log_prob, 2e-3);
        if (static_cast<int32_t>(result.results(0).token_id()) != generation.generated_ids[i]) {
          EXPECT_LT(top[0].log_prob - top[1].log_prob, kTie) << "token " << i;
          break;
        }
        step = harness.NewStep();
        EngineHarness::AddWork(id, {}, prompt_size + static_cast<int>(i), false, true, step);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GroupGolden, testing::ValuesIn(TinyModelNames()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace kvec::worker::engine
