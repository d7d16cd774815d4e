// Sequences that are evicted several times, inside their prompt and while they generate.

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/model/golden_file.h"

namespace kvec::worker::engine {
namespace {

using ::testing::IsSubsetOf;

constexpr int kWindow = 16;  // O
constexpr int kPromptTokens = 150;
constexpr int kDecodeSteps = 40;
constexpr int kPrefillSelected = 40;  // k at evictions inside the prompt
constexpr int kSelected = 14;         // k at its end and later
constexpr int kEvictAt[] = {70, 90, 110, 130, 150, 160, 170, 180, 190};

constexpr const char* kPolicies[] = {"streaming", "snapkv",     "pyramidkv",
                                     "adasnapkv", "kvec-paper", "kvec"};

std::vector<int32_t> Prompt() {
  std::mt19937 random(1);
  std::vector<int32_t> tokens(kPromptTokens);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 250);
  return tokens;
}

v1::CachePolicy Policy(const std::string& name) {
  v1::CachePolicy policy = EngineHarness::CachePolicyOf(name);
  policy.set_prefill_bound_tokens(70);
  policy.set_decode_interval_tokens(10);
  return policy;
}

int NextEviction(int position) {
  const auto* next = std::upper_bound(std::begin(kEvictAt), std::end(kEvictAt), position);
  return next == std::end(kEvictAt) ? INT32_MAX : *next;
}

// What a sequence gave.
struct SequenceRun {
  std::vector<std::string> sampled;  // serialized SequenceResults
  std::vector<uint32_t> tokens;
  std::vector<v1::EvictionReport> reports;  // without their times
  uint64_t peak_pages = 0;
};

class EvictionScheduleTest : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  std::string model() const { return TinyModelFolder(std::get<0>(GetParam())); }
  std::string policy() const { return std::get<1>(GetParam()); }

  void Start(uint64_t id, v1::Step& step) const {
    v1::StepSampling sampling = EngineHarness::GreedySampling();
    sampling.set_temperature(1);
    sampling.set_seed(3);
    EngineHarness::AddStart(id, kPromptTokens, sampling, step);
    *step.mutable_starts(step.starts_size() - 1)->mutable_cache() = Policy(policy());
  }

  // `factor`: of what evictions select.
  static void Order(const EngineHarness& harness, uint64_t id, int position, int factor,
                    v1::Step& step) {
    if (std::count(std::begin(kEvictAt), std::end(kEvictAt), position) == 0) return;
    v1::EvictionOrder& order = *step.add_evictions();
    order.set_sequence_id(id);
    order.set_position(position);
    const int selected = position < kPromptTokens ? kPrefillSelected : kSelected;
    for (int layer = 0; layer < harness.config().num_layers; ++layer) {
      order.add_layer_budgets(harness.config().num_kv_heads * selected * factor);
    }
  }

  static void Collect(uint64_t id, const v1::StepResult& step, SequenceRun& run) {
    for (const v1::SequencePages& pages : step.changed_pages()) {
      if (pages.sequence_id() != id) continue;
      run.peak_pages = pages.peak_pages();
    }
    for (v1::EvictionReport report : step.evictions()) {
      report.clear_eviction_ms();
      report.clear_sequence_id();
      run.reports.push_back(report);
    }
    for (v1::SequenceResult result : step.results()) {
      if (result.sequence_id() != id || !result.has_token_id()) continue;
      run.tokens.push_back(result.token_id());
      result.clear_sequence_id();
      run.sampled.push_back(result.SerializeAsString());
    }
  }

  // The prompt, in chunks of at most `chunk` tokens, cut where it is evicted.
  void Prefill(EngineHarness& harness, uint64_t id, int chunk, int factor, SequenceRun& run) const {
    const std::vector<int32_t> prompt = Prompt();
    for (int begin = 0; begin < kPromptTokens;) {
      const int end = std::min({begin + chunk, kPromptTokens, NextEviction(begin)});
      v1::Step step = harness.NewStep();
      if (begin == 0) Start(id, step);
      EngineHarness::AddWork(id, absl::MakeConstSpan(prompt).subspan(begin, end - begin), begin,
                             true, end == kPromptTokens, step);
      Order(harness, id, end, factor, step);
      Collect(id, harness.Run(step), run);
      begin = end;
    }
  }

  SequenceRun RunSequence(EngineHarness& harness, uint64_t id, int chunk, int factor = 1) const {
    SequenceRun run;
    Prefill(harness, id, chunk, factor, run);
    for (int position = kPromptTokens; position < kPromptTokens + kDecodeSteps; ++position) {
      v1::Step step = harness.NewStep();
      EngineHarness::AddWork(id, {}, position, false, true, step);
      Order(harness, id, position + 1, factor, step);
      Collect(id, harness.Run(step), run);
    }
    return run;
  }
};

void ExpectSame(const SequenceRun& a, const SequenceRun& b) {
  EXPECT_EQ(a.sampled, b.sampled);
  ASSERT_EQ(a.reports.size(), b.reports.size());
  for (size_t i = 0; i < a.reports.size(); ++i) {
    EXPECT_EQ(a.reports[i].SerializeAsString(), b.reports[i].SerializeAsString()) << i;
  }
}

TEST_P(EvictionScheduleTest, ChunksThreadsAndNeighboursDoNotMatter) {
  EngineHarness harness(model(), {.num_threads = 1});
  const SequenceRun whole = RunSequence(harness, 1, kPromptTokens);
  EngineHarness other(model(), {.num_threads = 2});
  // Neighbours that go on living.
  for (int chunk : {1, 7, 16, 33}) {
    ExpectSame(whole, RunSequence(other, static_cast<uint64_t>(chunk), chunk));
  }
}

TEST_P(EvictionScheduleTest, ReplaysToTheSameBits) {
  EngineHarness harness(model(), {.kv_type = kernels::KvType::kBF16});
  const SequenceRun run = RunSequence(harness, 1, 32);
  SequenceRun replay;
  Prefill(harness, 2, 50, 1, replay);
  const std::vector<int32_t> generated(run.tokens.begin(), run.tokens.end() - 1);
  const int end_of_all = kPromptTokens + static_cast<int>(generated.size());
  for (int begin = kPromptTokens; begin < end_of_all;) {
    const int end = std::min(end_of_all, NextEviction(begin));
    v1::Step step = harness.NewStep();
    EngineHarness::AddWork(
        2, absl::MakeConstSpan(generated).subspan(begin - kPromptTokens, end - begin), begin, false,
        end == end_of_all, step);
    Order(harness, 2, end, 1, step);
    Collect(2, harness.Run(step), replay);
    begin = end;
  }
  EXPECT_EQ(replay.sampled.back(), run.sampled.back());
  EXPECT_EQ(replay.reports.back().SerializeAsString(), run.reports.back().SerializeAsString());
}

TEST_P(EvictionScheduleTest, KeepingEverythingChangesNothing) {
  EngineHarness harness(model(), {});
  const SequenceRun kept = RunSequence(harness, 1, 32, 100);
  EngineHarness unevicted(model(), {});
  SequenceRun full;
  const std::vector<int32_t> prompt = Prompt();
  v1::Step step = unevicted.NewStep();
  Start(1, step);
  EngineHarness::AddWork(1, prompt, 0, true, true, step);
  Collect(1, unevicted.Run(step), full);
  for (int i = 0; i < kDecodeSteps; ++i) {
    v1::Step decode = unevicted.NewStep();
    EngineHarness::AddWork(1, {}, kPromptTokens + i, false, true, decode);
    Collect(1, unevicted.Run(decode), full);
  }
  EXPECT_EQ(kept.sampled, full.sampled);
}

std::vector<int> KeptTokens(const v1::EvictionReport& report, uint32_t end) {
  std::vector<int> tokens;
  for (uint32_t token = 0; token < end; ++token) {
    if (report.kept_token_bits().at(token / 8) >> (token % 8) & 1) {
      tokens.push_back(static_cast<int>(token));
    }
  }
  return tokens;
}

TEST_P(EvictionScheduleTest, KeepsTheBudgetsAndNothingThatWasEvicted) {
  EngineHarness harness(model(), {});
  const SequenceRun run = RunSequence(harness, 1, 32);
  ASSERT_EQ(run.reports.size(), std::size(kEvictAt));
  const uint64_t heads = harness.config().num_kv_heads;
  for (size_t i = 0; i < run.reports.size(); ++i) {
    const v1::EvictionReport& report = run.reports[i];
    EXPECT_EQ(report.position(), kEvictAt[i]);
    const uint64_t selected = kEvictAt[i] < kPromptTokens ? kPrefillSelected : kSelected;
    EXPECT_EQ(report.kept_entries(), report.layers_size() * heads * (selected + kWindow));
    for (const v1::LayerCacheUsage& layer : report.layers()) {
      EXPECT_GT(layer.attention_mass(), 0);
      EXPECT_LE(layer.attention_mass(), 1 + 1e-5);
      EXPECT_GE(layer.unique_tokens(), selected + kWindow);
    }
    if (i == 0) continue;
    EXPECT_THAT(KeptTokens(report, run.reports[i - 1].position()),
                IsSubsetOf(KeptTokens(run.reports[i - 1], run.reports[i - 1].position())));
  }
}

TEST_P(EvictionScheduleTest, HoldsNoMoreThanTheBoundOnTheWay) {
  EngineHarness harness(model(), {});
  const int num_free = harness.engine().num_free_pages();
  const SequenceRun run = RunSequence(harness, 1, 1);
  // 76 entries: 40 selected, 16 of the window and 20 more; a page may begin in each head.
  uint64_t bound = 0;
  const uint64_t heads = harness.config().num_kv_heads;
  for (int window : harness.config().sliding_windows) {
    bound +=
        heads * (window > 0 ? window + kernels::kPageTokens : 76) / kernels::kPageTokens + heads;
  }
  EXPECT_LE(run.peak_pages, bound);
  harness.Free(1);
  EXPECT_EQ(harness.engine().num_free_pages(), num_free);
}

INSTANTIATE_TEST_SUITE_P(Policies, EvictionScheduleTest,
                         testing::Combine(testing::Values("llama", "gemma3"),
                                          testing::ValuesIn(std::vector<std::string>(
                                              std::begin(kPolicies), std::end(kPolicies)))),
                         [](const auto& info) {
                           std::string name =
                               std::get<0>(info.param) + "_" + std::get<1>(info.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace kvec::worker::engine
