// Evictions through whole Steps of the engine, on tiny models.

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/model/golden_file.h"

namespace kvec::worker::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kWindow = 16;  // O
constexpr int kPromptTokens = 90;
constexpr int kCandidates = kPromptTokens - kWindow;
constexpr int kDecodeSteps = 6;

constexpr const char* kPolicies[] = {"streaming", "snapkv",     "pyramidkv",
                                     "adasnapkv", "kvec-paper", "kvec"};

std::vector<int32_t> Prompt(int count = kPromptTokens) {
  std::mt19937 random(1);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 250);
  return tokens;
}

enum class OrderTime { kWithLastChunk, kWithFirstDecode };

struct RunOptions {
  v1::CachePolicy policy;
  int selected = 0;  // k: per KV head and layer, beside the observation window
  int chunk = kPromptTokens;
  OrderTime order_time = OrderTime::kWithLastChunk;
  int prompt_tokens = kPromptTokens;
  int decode_steps = kDecodeSteps;
  uint32_t choice = 0;
};

// What a prompt's eviction and the tokens after it gave.
struct RunResult {
  std::vector<std::string> sampled;  // serialized SequenceResults
  std::vector<uint32_t> tokens;
  v1::EvictionReport report;  // without its time
  uint64_t pages = 0;         // after the eviction
};

v1::StepSampling Sampling(uint32_t choice) {
  v1::StepSampling sampling = EngineHarness::GreedySampling();
  sampling.set_temperature(1);
  sampling.set_seed(3);
  sampling.set_choice(choice);
  return sampling;
}

void AddOrder(const EngineHarness& harness, uint64_t id, int position, int selected,
              v1::Step& step) {
  v1::EvictionOrder& order = *step.add_evictions();
  order.set_sequence_id(id);
  order.set_position(position);
  order.set_report_kept_tokens(true);
  for (int layer = 0; layer < harness.config().num_layers; ++layer) {
    order.add_layer_budgets(harness.config().num_kv_heads * selected);
  }
}

void AddPolicyStart(uint64_t id, const RunOptions& options, v1::Step& step) {
  EngineHarness::AddStart(id, options.prompt_tokens, Sampling(options.choice), step);
  *step.mutable_starts(step.starts_size() - 1)->mutable_cache() = options.policy;
}

// Notes what one Step of the sequence gave.
void Collect(const v1::StepResult& step, RunResult& to) {
  if (step.evictions_size() > 0) {
    to.report = step.evictions(0);
    to.report.clear_eviction_ms();
    to.report.clear_sequence_id();
    to.pages = step.changed_pages(0).pages();
  }
  for (v1::SequenceResult result : step.results()) {
    if (!result.has_token_id()) continue;
    to.tokens.push_back(result.token_id());
    result.clear_sequence_id();
    to.sampled.push_back(result.SerializeAsString());
  }
}

// Prefills, evicts (unless the policy is "full") and decodes; the sequence goes on living.
RunResult RunSequence(EngineHarness& harness, uint64_t id, const RunOptions& options) {
  RunResult run;
  const std::vector<int32_t> prompt = Prompt(options.prompt_tokens);
  const bool evicts = options.policy.policy() != "full";
  for (int begin = 0; begin < options.prompt_tokens; begin += options.chunk) {
    v1::Step step = harness.NewStep();
    if (begin == 0) AddPolicyStart(id, options, step);
    const bool is_last = begin + options.chunk >= options.prompt_tokens;
    EngineHarness::AddWork(id, absl::MakeConstSpan(prompt).subspan(begin, options.chunk), begin,
                           true, is_last, step);
    if (is_last && evicts && options.order_time == OrderTime::kWithLastChunk) {
      AddOrder(harness, id, options.prompt_tokens, options.selected, step);
    }
    Collect(harness.Run(step), run);
  }
  for (int i = 0; i < options.decode_steps; ++i) {
    v1::Step step = harness.NewStep();
    EngineHarness::AddWork(id, {}, options.prompt_tokens + i, false, true, step);
    if (i == 0 && evicts && options.order_time == OrderTime::kWithFirstDecode) {
      AddOrder(harness, id, options.prompt_tokens, options.selected, step);
    }
    Collect(harness.Run(step), run);
  }
  return run;
}

void ExpectSame(const RunResult& a, const RunResult& b) {
  EXPECT_EQ(a.sampled, b.sampled);
  EXPECT_EQ(a.report.SerializeAsString(), b.report.SerializeAsString());
}

std::vector<int> KeptTokens(const v1::EvictionReport& report, int prompt_tokens) {
  const std::string& bits = report.kept_token_bits();
  std::vector<int> tokens;
  for (int token = 0; token < prompt_tokens; ++token) {
    if (bits.at(token / 8) >> (token % 8) & 1) tokens.push_back(token);
  }
  return tokens;
}

class EvictionTest : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  std::string model() const { return TinyModelFolder(std::get<0>(GetParam())); }
  v1::CachePolicy policy() const { return EngineHarness::CachePolicyOf(std::get<1>(GetParam())); }
};

TEST_P(EvictionTest, KeepingEverythingChangesNothing) {
  EngineHarness harness(model(), {.kv_type = kernels::KvType::kInt8});
  const RunResult full = RunSequence(harness, 1, {.policy = EngineHarness::CachePolicyOf("full")});
  const RunResult kept = RunSequence(harness, 2, {.policy = policy(), .selected = kCandidates});
  EXPECT_EQ(full.sampled, kept.sampled);
  for (const auto& layer : kept.report.layers()) {
    EXPECT_EQ(layer.unique_tokens(), kPromptTokens);
    EXPECT_NEAR(layer.attention_mass(), 1, 1e-5);
  }
}

TEST_P(EvictionTest, AnOrderMayComeWithTheLastChunkOrInTheNextStep) {
  EngineHarness harness(model(), {});
  ExpectSame(
      RunSequence(harness, 1, {.policy = policy(), .selected = 14}),
      RunSequence(harness, 2,
                  {.policy = policy(), .selected = 14, .order_time = OrderTime::kWithFirstDecode}));
}

TEST_P(EvictionTest, ChunksAndThreadsDoNotMatter) {
  for (kernels::KvType kv_type : {kernels::KvType::kF32, kernels::KvType::kInt8}) {
    EngineHarness harness(model(), {.kv_type = kv_type, .num_threads = 1});
    const RunResult whole = RunSequence(harness, 1, {.policy = policy(), .selected = 14});
    EngineHarness other(model(), {.kv_type = kv_type, .num_threads = 2});
    for (int chunk : {1, 7, 16, 33, 80}) {
      ExpectSame(whole, RunSequence(other, static_cast<uint64_t>(chunk),
                                    {.policy = policy(), .selected = 14, .chunk = chunk}));
    }
  }
}

TEST_P(EvictionTest, EvictionChangesWhatFollows) {
  EngineHarness harness(model(), {});
  const RunResult full = RunSequence(harness, 1, {.policy = EngineHarness::CachePolicyOf("full")});
  const RunResult evicted = RunSequence(harness, 2, {.policy = policy(), .selected = 4});
  EXPECT_EQ(full.sampled[0], evicted.sampled[0]);  // from the whole prompt
  EXPECT_NE(full.sampled, evicted.sampled);
}

TEST_P(EvictionTest, ReportTellsWhatWasKept) {
  EngineHarness harness(model(), {});
  const int num_kv_heads = harness.config().num_kv_heads;
  std::vector<int> evicting;
  for (int layer = 0; layer < harness.config().num_layers; ++layer) {
    if (harness.config().sliding_windows[layer] == 0) evicting.push_back(layer);
  }
  float last_mass = 0;
  for (int selected : {4, 20, 60}) {
    const RunResult run = RunSequence(harness, static_cast<uint64_t>(selected),
                                      {.policy = policy(), .selected = selected});
    std::vector<int> layers;
    float mass = 0;
    uint32_t most_unique = 0;
    for (const v1::LayerCacheUsage& layer : run.report.layers()) {
      layers.push_back(static_cast<int>(layer.layer()));
      EXPECT_EQ(layer.budget(), num_kv_heads * selected);
      EXPECT_EQ(layer.kept_entries(), num_kv_heads * (selected + kWindow));
      EXPECT_GE(layer.unique_tokens(), selected + kWindow);
      EXPECT_LE(layer.unique_tokens(), std::min(kPromptTokens, num_kv_heads * selected + kWindow));
      EXPECT_GT(layer.attention_mass(), 0);
      EXPECT_LE(layer.attention_mass(), 1);
      mass += layer.attention_mass();
      most_unique = std::max(most_unique, layer.unique_tokens());
    }
    EXPECT_EQ(layers, evicting);
    EXPECT_GT(mass, last_mass);
    last_mass = mass;
    EXPECT_EQ(run.report.kept_entries(), evicting.size() * num_kv_heads * (selected + kWindow));
    const std::vector<int> tokens = KeptTokens(run.report, kPromptTokens);
    EXPECT_GE(tokens.size(), most_unique);
    EXPECT_EQ(tokens[tokens.size() - kWindow], kCandidates);  // the window is kept
  }
}

// Tokens whose bit is set in any of the heads' kept_token_bits.
std::vector<int> AnyHeadKeeps(const v1::LayerCacheUsage& layer) {
  std::vector<int> tokens;
  for (int token = 0; token < kPromptTokens; ++token) {
    const auto keeps = [&](const std::string& bits) { return bits[token / 8] >> token % 8 & 1; };
    if (std::any_of(layer.kept_token_bits().begin(), layer.kept_token_bits().end(), keeps)) {
      tokens.push_back(token);
    }
  }
  return tokens;
}

TEST_P(EvictionTest, ListsWhatEachHeadKeptWhereAsked) {
  EngineHarness harness(model(), {});
  const RunResult run = RunSequence(harness, 1, {.policy = policy(), .selected = 20});
  std::set<int> any_layer;
  for (const v1::LayerCacheUsage& layer : run.report.layers()) {
    ASSERT_EQ(layer.kept_token_bits_size(), harness.config().num_kv_heads);
    size_t kept = 0;
    for (const std::string& bits : layer.kept_token_bits()) {
      ASSERT_EQ(bits.size(), (kPromptTokens + 7) / 8);
      for (char byte : bits) kept += std::bitset<8>(static_cast<uint8_t>(byte)).count();
    }
    EXPECT_EQ(kept, layer.kept_entries());
    const std::vector<int> tokens = AnyHeadKeeps(layer);
    EXPECT_EQ(tokens.size(), layer.unique_tokens());
    any_layer.insert(tokens.begin(), tokens.end());
  }
  const std::vector<int> all = KeptTokens(run.report, kPromptTokens);
  EXPECT_EQ(any_layer, std::set<int>(all.begin(), all.end()));
}

// Pages that the prompt leaves in a layer whose heads keep `kept` entries each.
int PagesOfLayer(int num_kv_heads, int kept, int sliding_window) {
  const int entries = sliding_window > 0 ? kPromptTokens : kept;
  const int slid_out =
      sliding_window > 0 ? (kPromptTokens - sliding_window + 1) / kernels::kPageTokens : 0;
  return num_kv_heads * ((entries + kernels::kPageTokens - 1) / kernels::kPageTokens - slid_out);
}

TEST_P(EvictionTest, HoldsThePagesOfWhatItKeepsAndGivesThemBack) {
  EngineHarness harness(model(), {});
  const int num_free = harness.engine().num_free_pages();
  v1::CachePolicy uniform = policy();
  uniform.set_head_allocation("uniform");
  const int heads = harness.config().num_kv_heads;
  for (int selected : {1, 15, 16, 17, 50}) {
    const RunResult run = RunSequence(harness, 1, {.policy = uniform, .selected = selected});
    int pages = 0;
    for (int window : harness.config().sliding_windows) {
      pages += PagesOfLayer(heads, selected + kWindow, window);
    }
    if (policy().policy() == "adasnapkv") {
      // It always moves entries between heads, which can fill or begin a page in each.
      const int moved = static_cast<int>(run.report.layers_size()) * (heads - 1);
      EXPECT_NEAR(static_cast<int>(run.pages), pages, moved) << selected;
    } else {
      EXPECT_EQ(run.pages, pages) << selected;
    }
    harness.Free(1);
    EXPECT_EQ(harness.engine().num_free_pages(), num_free);
  }
}

TEST_P(EvictionTest, ReplaysToTheSameBits) {
  EngineHarness harness(model(), {.kv_type = kernels::KvType::kInt8});
  const RunResult run = RunSequence(harness, 1, {.policy = policy(), .selected = 14});
  RunSequence(harness, 2, {.policy = policy(), .selected = 14, .decode_steps = 0});
  v1::Step replay = harness.NewStep();
  const std::vector<int32_t> generated(run.tokens.begin(), run.tokens.end() - 1);
  EngineHarness::AddWork(2, generated, kPromptTokens, false, true, replay);
  RunResult replayed;
  Collect(harness.Run(replay), replayed);
  EXPECT_THAT(replayed.sampled, ElementsAre(run.sampled.back()));
}

TEST_P(EvictionTest, ForksGoOnAsIfEachHadItsOwnEviction) {
  EngineHarness harness(model(), {});
  std::vector<RunResult> expected;
  for (uint32_t choice = 0; choice < 3; ++choice) {
    expected.push_back(
        RunSequence(harness, 1, {.policy = policy(), .selected = 14, .choice = choice}));
    harness.Free(1);
  }
  const int num_free = harness.engine().num_free_pages();
  v1::Step step = harness.NewStep();
  AddPolicyStart(10, {.policy = policy()}, step);
  EngineHarness::AddWork(10, Prompt(), 0, true, true, step).set_num_choices(3);
  AddOrder(harness, 10, kPromptTokens, 14, step);
  harness.Run(step);
  for (int i = 0; i < kDecodeSteps; ++i) {
    v1::Step decode = harness.NewStep();
    for (uint32_t choice = 1; i == 0 && choice < 3; ++choice) {
      v1::SequenceFork& fork = *decode.add_forks();
      fork.set_parent_sequence_id(10);
      fork.mutable_child()->set_sequence_id(10 + choice);
      fork.mutable_child()->set_prompt_tokens(kPromptTokens);
      *fork.mutable_child()->mutable_sampling() = Sampling(choice);
      *fork.mutable_child()->mutable_cache() = policy();
    }
    for (uint64_t id : {10, 11, 12}) {
      EngineHarness::AddWork(id, {}, kPromptTokens + i, false, true, decode);
    }
    const v1::StepResult result = harness.Run(decode);
    for (int choice = 0; choice < 3; ++choice) {
      EXPECT_EQ(result.results(choice).token_id(), expected[choice].tokens[i + 1]);
    }
  }
  for (uint64_t id : {10, 11, 12}) harness.Free(id);
  EXPECT_EQ(harness.engine().num_free_pages(), num_free);
}

// gemma3 has layers with sliding windows, which are not evicted.
INSTANTIATE_TEST_SUITE_P(Policies, EvictionTest,
                         testing::Combine(testing::Values("llama", "gemma3"),
                                          testing::ValuesIn(std::vector<std::string>(
                                              std::begin(kPolicies), std::end(kPolicies)))),
                         [](const auto& info) {
                           std::string name =
                               std::get<0>(info.param) + "_" + std::get<1>(info.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Eviction, StreamingKeepsTheSinksAndTheMostRecentTokens) {
  EngineHarness harness(TinyModelFolder("llama"), {});
  const RunResult run = RunSequence(
      harness, 1, {.policy = EngineHarness::CachePolicyOf("streaming"), .selected = 10});
  std::vector<int> expected = {0, 1, 2, 3};
  for (int token = kCandidates - 6; token < kPromptTokens; ++token) expected.push_back(token);
  EXPECT_EQ(KeptTokens(run.report, kPromptTokens), expected);
  for (const auto& layer : run.report.layers()) EXPECT_EQ(layer.unique_tokens(), expected.size());
}

TEST(Eviction, ShortPromptsAreEvictedByTheQueriesTheyHave) {
  for (const char* name : kPolicies) {
    EngineHarness harness(TinyModelFolder("llama"), {});
    v1::CachePolicy policy = EngineHarness::CachePolicyOf(name);
    policy.set_observation_window(2);
    const RunResult run =
        RunSequence(harness, 1, {.policy = policy, .selected = 1, .prompt_tokens = 5});
    EXPECT_EQ(run.report.kept_entries(), 3 * 2 * 3) << name;  // layers, heads, entries
    EXPECT_EQ(run.tokens.size(), kDecodeSteps + 1) << name;
  }
}

TEST(Eviction, SequencesBesideAnEvictionAreNotTouched) {
  EngineHarness harness(TinyModelFolder("llama"), {});
  const RunResult alone = RunSequence(harness, 1, {.policy = EngineHarness::CachePolicyOf("full")});
  RunSequence(harness, 2, {.policy = EngineHarness::CachePolicyOf("full"), .decode_steps = 3});
  RunSequence(harness, 3, {.policy = EngineHarness::CachePolicyOf("kvec"), .selected = 14});
  RunSequence(harness, 4, {.policy = EngineHarness::CachePolicyOf("snapkv"), .selected = 40});
  std::vector<uint32_t> tokens;
  for (int i = 3; i < kDecodeSteps; ++i) {
    tokens.push_back(harness.Decode(2, kPromptTokens + i).token_id());
  }
  EXPECT_EQ(tokens, std::vector<uint32_t>(alone.tokens.end() - 3, alone.tokens.end()));
}

struct BadOrder {
  std::string name;
  std::string message;
  void (*build)(v1::Step& step);
};

class EvictionRejects : public testing::TestWithParam<BadOrder> {};

TEST_P(EvictionRejects, AnOrderThatDoesNotFit) {
  EngineHarness harness(TinyModelFolder("llama"), {});
  RunSequence(harness, 1, {.policy = EngineHarness::CachePolicyOf("full")});
  RunSequence(harness, 2, {.policy = EngineHarness::CachePolicyOf("kvec"), .selected = 14});
  v1::Step step = harness.NewStep();
  AddPolicyStart(3, {.policy = EngineHarness::CachePolicyOf("kvec")}, step);
  EngineHarness::AddWork(3, Prompt(), 0, true, true, step);
  GetParam().build(step);
  const auto result = harness.engine().Execute(step);
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(std::string(result.status().message()), HasSubstr(GetParam().message));
}

v1::EvictionOrder Order(uint64_t id, int num_layers) {
  v1::EvictionOrder order;
  order.set_sequence_id(id);
  order.set_position(kPromptTokens);
  for (int layer = 0; layer < num_layers; ++layer) order.add_layer_budgets(20);
  return order;
}

INSTANTIATE_TEST_SUITE_P(
    Orders, EvictionRejects,
    testing::Values(BadOrder{"UnknownSequence", "sequence 9: not known",
                             [](v1::Step& step) { *step.add_evictions() = Order(9, 3); }},
                    BadOrder{"PolicyFull", "sequence 1: cannot evict at 90, has 96 tokens",
                             [](v1::Step& step) { *step.add_evictions() = Order(1, 3); }},
                    BadOrder{"EvictedBefore", "sequence 2: cannot evict at 90, has 96 tokens",
                             [](v1::Step& step) { *step.add_evictions() = Order(2, 3); }},
                    BadOrder{"TooFewLayers", "sequence 3: layer_budgets of 2 layers, not 3",
                             [](v1::Step& step) { *step.add_evictions() = Order(3, 2); }},
                    BadOrder{"UnknownPolicy", "cache.policy: unknown \"h2o\"",
                             [](v1::Step& step) {
                               AddPolicyStart(4, {.policy = EngineHarness::CachePolicyOf("h2o")},
                                              step);
                             }}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace kvec::worker::engine
