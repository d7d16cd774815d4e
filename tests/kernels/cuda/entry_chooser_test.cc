// The device's choice against the policy's on the host (worker/eviction/kvec.cc), bit for bit on
// the same weights, and against the keep-sets of the NumPy oracle.

#include "kernels/entry_chooser.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/score_spans.h"
#include "tests/kernels/cuda/device_test.h"
#include "tests/worker/eviction/eviction_case.h"

namespace kvec::kernels::cuda {
namespace {

using ::testing::HasSubstr;
using worker::eviction::Coverage;
using worker::eviction::LayerScores;
using worker::eviction::MakePolicy;
using worker::eviction::Policy;
using worker::eviction::PolicyParameters;
using worker::eviction::Selection;

using Weights = std::vector<float>;  // [G, n]

// Under ThreadSanitizer a barrier of 1,024 threads takes its time: a few cases are enough to look at
// accesses.
#ifdef __SANITIZE_THREAD__
constexpr bool kIsSlow = true;
#else
constexpr bool kIsSlow = false;
#endif

enum class Values {
  kSpread,  // over many powers of two
  kTied,    // one of four
  kEqual,   // all the same
  kSparse   // mostly zeros: maxima decay far
};

Weights RandomWeights(int count, Values values, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Weights weights;
  for (int i = 0; i < count; ++i) {
    switch (values) {
      case Values::kSpread:
        weights.push_back(std::exp(4 * normal(random)) * 1e-3f);
        break;
      case Values::kTied:
        weights.push_back(0.25f * static_cast<float>(random() % 4));
        break;
      case Values::kEqual:
        weights.push_back(0.125f);
        break;
      case Values::kSparse:
        weights.push_back(random() % 200 == 0 ? std::abs(normal(random)) : 0.0f);
        break;
    }
  }
  return weights;
}

PolicyParameters RandomParameters(int num_candidates, uint64_t seed) {
  PolicyParameters parameters;
  parameters.num_tokens = num_candidates + parameters.observation_window;
  std::mt19937_64 random(seed);
  for (int t = 0; t < parameters.num_tokens; ++t) {
    parameters.sentence_ends.push_back(random() % 20 == 0 ? 1 : 0);
  }
  return parameters;
}

LayerScores ScoresOf(const Weights& weights, int num_kv_heads) {
  LayerScores scores;
  scores.num_kv_heads = num_kv_heads;
  scores.num_candidates = static_cast<int>(weights.size()) / num_kv_heads;
  scores.heads = {weights};
  return scores;
}

// A device's chooser, to which a test gives the weights.
class CudaEntryChooserTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    auto arena = device_->AllocateKvArena({.head_dim = 8, .type = KvType::kF32, .num_pages = 1});
    ASSERT_TRUE(arena.ok()) << arena.status();
    arena_ = *std::move(arena);
    const size_t query_bytes = 8 * 8 * sizeof(float);
    auto queries = device_->Allocate(query_bytes);
    ASSERT_TRUE(queries.ok()) << queries.status();
    queries_ = *std::move(queries);
    const std::vector<uint8_t> zeros(query_bytes);
    ASSERT_TRUE(device_->Upload(zeros, queries_->data()).ok());
  }

  static HeadShape ShapeOf(int num_kv_heads) {
    return {
        .num_heads = num_kv_heads, .num_kv_heads = num_kv_heads, .head_dim = 8, .group_size = 1};
  }

  // A layer whose window scores nobody looks at.
  absl::StatusOr<RankWeights> ScoreLayer(int num_kv_heads, int num_candidates) {
    const std::vector<int32_t> pages(static_cast<size_t>(num_candidates / kPageTokens + 1));
    const std::vector<HeadPages> heads(static_cast<size_t>(num_kv_heads),
                                       {pages.data(), num_candidates});
    const std::vector<int32_t> candidates(static_cast<size_t>(num_kv_heads), num_candidates);
    const int window = 1;
    WindowScoreRequest request;
    request.queries = {static_cast<float*>(queries_->data()), 1, 8 * num_kv_heads,
                       8 * num_kv_heads};
    request.num_queries = 1;
    request.heads = heads;
    request.num_visible = candidates;
    request.num_candidates = candidates;
    request.stride = num_candidates;
    request.windows = absl::MakeConstSpan(&window, 1);
    return device_->chooser()->ScoreLayer(request, *arena_);
  }

  absl::StatusOr<Choice> Choose(const Policy& policy, int num_kv_heads,
                                const std::vector<Weights>& layers, const std::vector<int>& budgets,
                                const Coverage& before) {
    const int n = static_cast<int>(layers[0].size()) / num_kv_heads;
    const KvHeadRange all{0, num_kv_heads};
    KVEC_RETURN_IF_ERROR(
        device_->chooser()->Begin({.rules = *policy.device_rules(),
                                   .shape = ShapeOf(num_kv_heads),
                                   .ranks = absl::MakeConstSpan(&all, 1),
                                   .num_candidates = n,
                                   .layers_selecting = absl::MakeConstSpan(before.layers_selecting),
                                   .layer_budgets = budgets}));
    for (const Weights& weights : layers) {
      KVEC_ASSIGN_OR_RETURN(const RankWeights to, ScoreLayer(num_kv_heads, n));
      const auto* bytes = reinterpret_cast<const uint8_t*>(weights.data());
      EXPECT_EQ(to.all.size(), weights.size() * sizeof(float));
      KVEC_RETURN_IF_ERROR(
          device_->Upload({bytes, weights.size() * sizeof(float)}, to.mine.data()));
      KVEC_RETURN_IF_ERROR(device_->chooser()->ChooseLayer());
    }
    return device_->chooser()->Finish();
  }

  // By the device, and by the host layer after layer: the same.
  void ExpectSameChoice(const PolicyParameters& parameters, int num_kv_heads,
                        const std::vector<Weights>& layers, const std::vector<int>& budgets,
                        Coverage coverage) {
    const auto policy = MakePolicy("kvec", parameters);
    ASSERT_TRUE(policy.ok()) << policy.status();
    const auto chosen = Choose(**policy, num_kv_heads, layers, budgets, coverage);
    ASSERT_TRUE(chosen.ok()) << chosen.status();
    ASSERT_EQ(chosen->layers.size(), layers.size());
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      const LayerScores scores = ScoresOf(layers[layer], num_kv_heads);
      const Selection expected = (*policy)->Select(scores, budgets[layer], coverage);
      const Coverage before = coverage;
      AddSelection(scores, expected, coverage);
      int num_unique = 0;
      for (size_t t = 0; t < before.layers_selecting.size(); ++t) {
        num_unique += coverage.layers_selecting[t] - before.layers_selecting[t];
      }
      for (int head = 0; head < num_kv_heads; ++head) {
        ASSERT_EQ(chosen->layers[layer].kept[static_cast<size_t>(head)],
                  expected[static_cast<size_t>(head)])
            << "layer " << layer << ", head " << head;
      }
      ASSERT_EQ(chosen->layers[layer].num_unique, num_unique) << "layer " << layer;
    }
    ASSERT_EQ(chosen->layers_selecting, coverage.layers_selecting);
  }

  std::unique_ptr<KvArena> arena_;
  std::unique_ptr<DeviceMemory> queries_;
};
INSTANTIATE_TEST_SUITE_P(Orders, CudaEntryChooserTest, kAllOrders, OrderName);

// Sizes beside those of warps, words, tiles and blocks; two layers, of which the second finds what
// the first has covered, as both find what stages before have.
TEST_P(CudaEntryChooserTest, KeepsWhatThePolicyKeepsOnTheHost) {
  uint64_t seed = 1;
  for (const auto& [num_kv_heads, n] :
       {std::pair{1, 1}, {2, 7}, {3, 31}, {8, 97}, {5, 513}, {2, 2049}, {3, 4500}}) {
    for (const Values values : {Values::kSpread, Values::kTied, Values::kEqual, Values::kSparse}) {
      if (values != Values::kSpread && (n > 4000 || kIsSlow)) continue;
      if (kIsSlow && num_kv_heads > 3) continue;
      SCOPED_TRACE(testing::Message() << num_kv_heads << " heads, " << n << " candidates, values "
                                      << static_cast<int>(values));
      ++seed;
      PolicyParameters parameters = RandomParameters(n, seed);
      parameters.adaptive_heads = seed % 5 != 0;
      parameters.kvec.reserved_from = seed % 3 == 0 ? 0 : 48;
      if (seed % 4 == 0) parameters.kvec.reserved_share = 0.5;
      std::mt19937_64 random(seed);
      Coverage coverage;
      for (int t = 0; t < n; ++t) {
        coverage.layers_selecting.push_back(static_cast<uint16_t>(random() % 2));
      }
      const int all = num_kv_heads * n;
      const std::vector<Weights> layers = {RandomWeights(all, values, seed),
                                           RandomWeights(all, values, seed + 100)};
      const int some = 1 + static_cast<int>(random() % static_cast<uint64_t>(all));
      ASSERT_NO_FATAL_FAILURE(
          ExpectSameChoice(parameters, num_kv_heads, layers, {some, all / 4}, coverage));
    }
  }
}

TEST_P(CudaEntryChooserTest, KeepsNothingAndEverythingAtTheBudgetsEnds) {
  constexpr int kHeads = 4;
  constexpr int kCandidates = 67;
  constexpr int kAll = kHeads * kCandidates;
  for (const bool adaptive : {true, false}) {
    if (kIsSlow && !adaptive) continue;
    PolicyParameters parameters = RandomParameters(kCandidates, 3);
    parameters.adaptive_heads = adaptive;
    Coverage coverage;
    coverage.layers_selecting.assign(kCandidates, 0);
    const std::vector<int> budgets = {0, 1, kHeads - 1, kAll - 1, kAll, kAll + 5};
    std::vector<Weights> layers;
    for (size_t layer = 0; layer < budgets.size(); ++layer) {
      layers.push_back(RandomWeights(kAll, Values::kSpread, layer + 1));
    }
    ASSERT_NO_FATAL_FAILURE(ExpectSameChoice(parameters, kHeads, layers, budgets, coverage));
  }
}

// What ranks bring together: of a KV head that two hold, each has the maximum over its query heads.
TEST_P(CudaEntryChooserTest, ChoosesFromTheLargestOfTheRanksWeights) {
  constexpr int kHeads = 3;
  constexpr int kCandidates = 129;
  const std::vector<std::vector<KvHeadRange>> groups = {
      {{0, 2}, {1, 2}}, {{0, 2}, {2, 1}}, {{0, 1}, {0, 1}, {1, 2}}};
  const PolicyParameters parameters = RandomParameters(kCandidates, 5);
  const auto policy = MakePolicy("kvec", parameters);
  ASSERT_TRUE(policy.ok()) << policy.status();
  const std::vector<int> budgets = {3 * 60};
  Coverage coverage;
  coverage.layers_selecting.assign(kCandidates, 0);
  for (const std::vector<KvHeadRange>& ranks : groups) {
    for (int rank = 0; rank < static_cast<int>(ranks.size()); ++rank) {
      const int own_heads = ranks[static_cast<size_t>(rank)].count;
      ASSERT_TRUE(device_->chooser()
                      ->Begin({.rules = *(*policy)->device_rules(),
                               .shape = ShapeOf(own_heads),
                               .ranks = ranks,
                               .rank = rank,
                               .num_candidates = kCandidates,
                               .layers_selecting = absl::MakeConstSpan(coverage.layers_selecting),
                               .layer_budgets = budgets})
                      .ok());
      const auto to = ScoreLayer(own_heads, kCandidates);
      ASSERT_TRUE(to.ok()) << to.status();
      Weights joined(kHeads * kCandidates, 0.0f);
      std::vector<float> rows;
      for (const KvHeadRange& range : ranks) {
        std::vector<float> of_rank =
            RandomWeights(2 * kCandidates, Values::kSpread, rows.size() + 1);
        for (int i = 0; i < range.count * kCandidates; ++i) {
          float& weight = joined[static_cast<size_t>(range.first * kCandidates + i)];
          weight = std::max(weight, of_rank[static_cast<size_t>(i)]);
        }
        rows.insert(rows.end(), of_rank.begin(), of_rank.end());
      }
      ASSERT_EQ(to->all.size(), rows.size() * sizeof(float));
      ASSERT_EQ(to->mine.data() - to->all.data(), rank * static_cast<int64_t>(to->mine.size()));
      ASSERT_TRUE(device_
                      ->Upload({reinterpret_cast<const uint8_t*>(rows.data()), to->all.size()},
                               to->all.data())
                      .ok());
      ASSERT_TRUE(device_->chooser()->ChooseLayer().ok());
      const auto chosen = device_->chooser()->Finish();
      ASSERT_TRUE(chosen.ok()) << chosen.status();
      ASSERT_EQ(chosen->layers[0].kept,
                (*policy)->Select(ScoresOf(joined, kHeads), budgets[0], coverage));
      ASSERT_EQ(chosen->layers[0].lost_attention.size(), static_cast<size_t>(own_heads));
    }
  }
}

TEST_P(CudaEntryChooserTest, ScoresSpansToTheBitAsTheHostDoes) {
  constexpr float kHuge = 1e30f;  // decays for longest
  for (const int n : {1, 97, 2048, 6401}) {
    for (const Values values : {Values::kSpread, Values::kSparse}) {
      const PolicyParameters parameters = RandomParameters(n, static_cast<uint64_t>(n));
      const auto policy = MakePolicy("kvec", parameters);
      ASSERT_TRUE(policy.ok()) << policy.status();
      Weights weights = RandomWeights(2 * n, values, static_cast<uint64_t>(n) + 1);
      weights[static_cast<size_t>(n / 3)] = kHuge;
      const ChoiceRules rules = *(*policy)->device_rules();
      const DeviceArray<float> device_weights(weights, stream_);
      const DeviceArray<int32_t> span_begins(
          {rules.span_begins.begin(), rules.span_begins.begin() + n}, stream_);
      const DeviceArray<float> scores(weights.size(), stream_);
      ASSERT_EQ(ScoreSpans(stream_, {.num_kv_heads = 2,
                                     .num_candidates = n,
                                     .weights = device_weights.data(),
                                     .span_begins = span_begins.data(),
                                     .span_floor = rules.span_floor,
                                     .tie_break = rules.tie_break,
                                     .decay = rules.decay,
                                     .scores = scores.data()}),
                cudaSuccess);
      ASSERT_EQ(scores.ToHost(), (*policy)->Scores(ScoresOf(weights, 2)));
    }
  }
}

TEST_P(CudaEntryChooserTest, KeepsWhatTheOracleKeeps) {
  int num_cases = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(KVEC_SOURCE_DIR "/tests/worker/eviction/golden")) {
    std::ifstream file(entry.path(), std::ios::binary);
    const auto golden = worker::eviction::ReadEvictionCase(file);
    ASSERT_TRUE(golden.ok()) << golden.status();
    const auto expected = golden->keep.find("kvec");
    if (expected == golden->keep.end()) continue;
    if (kIsSlow && golden->num_kv_heads > 2) continue;
    ++num_cases;
    const auto layers = worker::eviction::LayerScoresOf("kvec", *golden);
    ASSERT_TRUE(layers.ok()) << layers.status();
    const auto policy = MakePolicy("kvec", golden->parameters);
    ASSERT_TRUE(policy.ok()) << policy.status();
    Coverage coverage;
    coverage.layers_selecting.assign(static_cast<size_t>(golden->num_candidates()), 0);
    const auto chosen =
        Choose(**policy, golden->num_kv_heads, *layers, golden->layer_budgets.at("kvec"), coverage);
    ASSERT_TRUE(chosen.ok()) << chosen.status();
    for (size_t layer = 0; layer < layers->size(); ++layer) {
      ASSERT_EQ(chosen->layers[layer].kept, expected->second[layer])
          << entry.path().stem() << ", layer " << layer;
    }
  }
  EXPECT_EQ(num_cases, kIsSlow ? 2 : 5);
}

// A plan that is right, for a test to spoil.
struct GoodPlan {
  static constexpr int kCandidates = 40;
  std::vector<int32_t> span_begins = std::vector<int32_t>(kCandidates, 0);
  std::vector<uint16_t> layers_selecting = std::vector<uint16_t>(kCandidates, 0);
  std::vector<int> budgets = {8};
  std::vector<KvHeadRange> ranks = {{0, 2}};
  ChoicePlan plan;

  GoodPlan(const GoodPlan&) = delete;
  GoodPlan() {
    plan.rules.span_begins = span_begins;
    plan.rules.decay = 0.9f;
    plan.shape = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .group_size = 1};
    plan.ranks = ranks;
    plan.num_candidates = kCandidates;
    plan.layers_selecting = layers_selecting;
    plan.layer_budgets = budgets;
  }
};

TEST_P(CudaEntryChooserTest, RejectsWhatItDoesNotTake) {
  struct Case {
    const char* says;
    void (*spoil)(GoodPlan&);
  };
  for (const Case& rejected : std::initializer_list<Case>{
           {"0 candidates", [](GoodPlan& good) { good.plan.num_candidates = 0; }},
           {"41 candidates", [](GoodPlan& good) { good.plan.num_candidates = 41; }},
           {"39 layers_selecting",
            [](GoodPlan& good) {
              good.plan.layers_selecting = good.plan.layers_selecting.first(39);
            }},
           {"span of token 7 begins at 8", [](GoodPlan& good) { good.span_begins[7] = 8; }},
           {"span of token 0 begins at -1", [](GoodPlan& good) { good.span_begins[0] = -1; }},
           {"budget -1", [](GoodPlan& good) { good.budgets[0] = -1; }},
           {"rank 1 of 1", [](GoodPlan& good) { good.plan.rank = 1; }},
           {"rank -1", [](GoodPlan& good) { good.plan.rank = -1; }},
           {"with 3 KV heads, not 2", [](GoodPlan& good) { good.ranks[0].count = 3; }},
           {"of 257, which may be 256",
            [](GoodPlan& good) {
              good.ranks[0].count = 257;
              good.plan.shape.num_kv_heads = 257;
            }},
           {"decay 0.95", [](GoodPlan& good) { good.plan.rules.decay = 0.95f; }},
           {"tie_break 1", [](GoodPlan& good) { good.plan.rules.tie_break = 1; }},
           {"taken_factor 0.001", [](GoodPlan& good) { good.plan.rules.taken_factor = 0.001; }},
           {"reserved_share 2", [](GoodPlan& good) { good.plan.rules.reserved_share = 2; }},
           {"sure_share -1", [](GoodPlan& good) { good.plan.rules.sure_share = -1; }}}) {
    GoodPlan good;
    EXPECT_TRUE(device_->chooser()->Begin(good.plan).ok());
    rejected.spoil(good);
    const absl::Status status = device_->chooser()->Begin(good.plan);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << rejected.says;
    EXPECT_THAT(std::string(status.message()), HasSubstr(rejected.says));
  }
}

TEST_P(CudaEntryChooserTest, RejectsSpansLongerThanItsTiles) {
  constexpr int kTokens = kMaxSpanTokens + 1;
  GoodPlan good;
  good.span_begins.assign(kTokens, 0);
  good.layers_selecting.assign(kTokens, 0);
  good.plan.rules.span_begins = good.span_begins;
  good.plan.num_candidates = kTokens - 1;
  good.plan.layers_selecting = absl::MakeConstSpan(good.layers_selecting).first(kTokens - 1);
  EXPECT_TRUE(device_->chooser()->Begin(good.plan).ok());
  good.plan.num_candidates = kTokens;
  good.plan.layers_selecting = good.layers_selecting;
  EXPECT_THAT(std::string(device_->chooser()->Begin(good.plan).message()),
              HasSubstr("span of token 256 begins at 0"));
}

TEST_P(CudaEntryChooserTest, RejectsLayersThatArePlannedOtherwise) {
  const GoodPlan good;
  ASSERT_TRUE(device_->chooser()->Begin(good.plan).ok());
  EXPECT_THAT(std::string(device_->chooser()->Finish().status().message()),
              HasSubstr("from 0 layers of 1"));
  EXPECT_THAT(std::string(ScoreLayer(2, GoodPlan::kCandidates - 1).status().message()),
              HasSubstr("rows of 39 candidates, not 40"));
  ASSERT_TRUE(ScoreLayer(2, GoodPlan::kCandidates).ok());
  ASSERT_TRUE(device_->chooser()->ChooseLayer().ok());
  EXPECT_THAT(std::string(ScoreLayer(2, GoodPlan::kCandidates).status().message()),
              HasSubstr("layer 1 of 1"));
}

}  // namespace
}  // namespace kvec::kernels::cuda
