// The device's choice against the policies' on the host (worker/eviction), bit for bit on the same
// rows of numbers, and against the keep-sets of the NumPy oracle.

#include "kernels/entry_chooser.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/pool_scores.h"
#include "kernels/cuda/score_spans.h"
#include "tests/kernels/cuda/chooser_test.h"
#include "tests/worker/eviction/eviction_case.h"

namespace kvec::kernels::cuda {
namespace {

using worker::eviction::MakePolicy;
using worker::eviction::PolicyParameters;
using worker::eviction::Selection;

// Under ThreadSanitizer a barrier of 1,024 threads takes its time: a few cases are enough to look
// at accesses.
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

class CudaEntryChooserTest : public ChooserTest {
 protected:
  // By the device, and by the host layer after layer: the same.
  void ExpectSameChoice(const std::string& name, const PolicyParameters& parameters,
                        const LayerSizes& sizes, const std::vector<Weights>& layers,
                        const std::vector<int>& budgets, Coverage coverage) {
    const auto policy = MakePolicy(name, parameters);
    ASSERT_TRUE(policy.ok()) << policy.status();
    const auto chosen = Choose(**policy, sizes, layers, budgets, coverage);
    ASSERT_TRUE(chosen.ok()) << chosen.status();
    ASSERT_EQ(chosen->layers.size(), layers.size());
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      const HostScores host((*policy)->needs(), layers[layer], sizes.num_kv_heads,
                            sizes.num_candidates, sizes.group_size);
      const Selection expected = (*policy)->Select(host.scores, budgets[layer], coverage);
      const Coverage before = coverage;
      AddSelection(host.scores, expected, coverage);
      int num_unique = 0;
      for (size_t t = 0; t < before.layers_selecting.size(); ++t) {
        num_unique += coverage.layers_selecting[t] - before.layers_selecting[t];
      }
      for (int head = 0; head < sizes.num_kv_heads; ++head) {
        ASSERT_EQ(chosen->layers[layer].kept[static_cast<size_t>(head)],
                  expected[static_cast<size_t>(head)])
            << "layer " << layer << ", head " << head;
      }
      ASSERT_EQ(chosen->layers[layer].num_unique, num_unique) << "layer " << layer;
    }
    ASSERT_EQ(chosen->layers_selecting, coverage.layers_selecting);
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, CudaEntryChooserTest, kAllOrders, OrderName);
// As where prompts are longer than a block's shared memory has room for.
INSTANTIATE_TEST_SUITE_P(SmallBlocks, CudaEntryChooserTest,
                         ::testing::Values(cusim::Options{.block_shared_bytes = 0}), OrderName);

constexpr const char* kPolicies[] = {"kvec", "kvec-paper", "snapkv", "adasnapkv", "streaming"};

// Other than the defaults now and then.
PolicyParameters VariedParameters(int num_candidates, int num_kv_heads, uint64_t seed) {
  PolicyParameters parameters = RandomParameters(num_candidates, seed);
  parameters.adaptive_heads = seed % 5 != 0;
  parameters.kvec.reserved_from = seed % 3 == 0 ? 0 : 48;
  if (seed % 4 == 0) parameters.kvec.reserved_share = 0.5;
  if (seed % 2 == 0) parameters.lambda = 0.7f;
  if (seed % 7 == 0) parameters.lambda = 0;
  if (seed % 3 == 0) parameters.beta = 0.9f;
  if (seed % 4 == 0) parameters.delta = static_cast<int>(seed) % (num_kv_heads + 1);
  return parameters;
}

// As stages before may have left it.
Coverage RandomCoverage(int num_candidates, uint64_t seed) {
  std::mt19937_64 random(seed);
  Coverage coverage;
  coverage.num_layers = 2;
  for (int t = 0; t < num_candidates; ++t) {
    coverage.layers_selecting.push_back(static_cast<uint16_t>(random() % 3));
  }
  return coverage;
}

// Sizes beside those of warps, words, tiles and blocks; two layers, of which the second finds what
// the first has covered, as both find what stages before have.
TEST_P(CudaEntryChooserTest, KeepsWhatThePoliciesKeepOnTheHost) {
  uint64_t seed = 1;
  for (const LayerSizes& sizes : std::initializer_list<LayerSizes>{
           {1, 1, 1}, {2, 7, 3}, {3, 31, 1}, {8, 97, 3}, {5, 513, 2}, {2, 2049, 7}, {3, 4500, 1}}) {
    for (const Values values : {Values::kSpread, Values::kTied, Values::kEqual, Values::kSparse}) {
      if (values != Values::kSpread && (sizes.num_candidates > 2000 || kIsSlow)) continue;
      if (kIsSlow && sizes.num_kv_heads > 3) continue;
      for (const std::string name : kPolicies) {
        ++seed;
        const bool is_kvec = name == "kvec";
        if (sizes.num_candidates > 1000 && name.substr(0, 4) != "kvec") continue;
        // Where much is equal a cut looks at all bits of the keys.
        if (values > Values::kTied && !(is_kvec && sizes.num_kv_heads <= 3)) continue;
        if (values != Values::kSpread && sizes.num_candidates > 100 && !is_kvec) continue;
        SCOPED_TRACE(testing::Message()
                     << name << ", " << sizes.num_kv_heads << " heads, " << sizes.num_candidates
                     << " candidates, values " << static_cast<int>(values) << ", seed " << seed);
        const PolicyParameters parameters =
            VariedParameters(sizes.num_candidates, sizes.num_kv_heads, seed);
        const auto policy = MakePolicy(name, parameters);
        ASSERT_TRUE(policy.ok()) << policy.status();
        const int count = NumRows((*policy)->needs(), sizes.num_kv_heads) * sizes.num_candidates;
        const std::vector<Weights> layers = {RandomWeights(count, values, seed),
                                             RandomWeights(count, values, seed + 1000)};
        const int all = sizes.num_kv_heads * sizes.num_candidates;
        const int some = 1 + static_cast<int>(seed * 7919 % static_cast<uint64_t>(all));
        ASSERT_NO_FATAL_FAILURE(ExpectSameChoice(name, parameters, sizes, layers, {some, all / 4},
                                                 RandomCoverage(sizes.num_candidates, seed)));
      }
    }
  }
}

TEST_P(CudaEntryChooserTest, KeepsNothingAndEverythingAtTheBudgetsEnds) {
  constexpr LayerSizes kSizes{4, 67, 2};
  constexpr int kAll = kSizes.num_kv_heads * kSizes.num_candidates;
  for (const std::string name : kPolicies) {
    for (const bool adaptive : {true, false}) {
      if (!adaptive && (kIsSlow || name != "kvec")) continue;
      SCOPED_TRACE(name);
      PolicyParameters parameters = RandomParameters(kSizes.num_candidates, 3);
      parameters.adaptive_heads = adaptive;
      const auto policy = MakePolicy(name, parameters);
      ASSERT_TRUE(policy.ok()) << policy.status();
      const int num_rows = NumRows((*policy)->needs(), kSizes.num_kv_heads);
      Coverage coverage;
      coverage.layers_selecting.assign(kSizes.num_candidates, 0);
      const std::vector<int> budgets = {0,    1,       kSizes.num_kv_heads - 1, 3 * 4, kAll - 1,
                                        kAll, kAll + 5};
      std::vector<Weights> layers;
      for (size_t layer = 0; layer < budgets.size(); ++layer) {
        layers.push_back(
            RandomWeights(num_rows * kSizes.num_candidates, Values::kSpread, layer + 1));
      }
      ASSERT_NO_FATAL_FAILURE(
          ExpectSameChoice(name, parameters, kSizes, layers, budgets, coverage));
    }
  }
}

// What a rank hands in, row after row: for which row of all ranks' together.
std::vector<int> JoinedBy(const ScoreNeeds& needs, const RankHeadRange& rank, int group_size,
                          int num_kv_heads) {
  std::vector<int> rows;
  const int num_windows = static_cast<int>(needs.windows.size());
  for (int window = 0; needs.group_score != GroupScore::kNone && window < num_windows; ++window) {
    for (int i = 0; i < rank.num_kv_heads; ++i) {
      const int kv_head = rank.first_kv_head + i;
      int num_heads = 0;
      for (int head = rank.first_head; head < rank.first_head + rank.num_heads; ++head) {
        num_heads += head / group_size == kv_head;
      }
      const bool one_by_one = needs.group_score == GroupScore::kMean && num_heads < group_size;
      rows.insert(rows.end(), static_cast<size_t>(one_by_one ? num_heads : 1),
                  window * num_kv_heads + kv_head);
    }
  }
  for (int query = 0; needs.focus_window > 0 && query < kFocusQueries; ++query) {
    rows.push_back(num_windows * num_kv_heads + query);
  }
  return rows;
}

struct RankRows {
  std::vector<float> of_ranks;  // of all, in order
  Weights joined;
};

// Sums of query heads' rows, which begin with the first rank's, or maxima.
RankRows RandomRankRows(const ScoreNeeds& needs, absl::Span<const RankHeadRange> ranks,
                        int group_size, int num_kv_heads, int n) {
  RankRows rows;
  rows.joined.assign(static_cast<size_t>(NumRows(needs, num_kv_heads) * n), 0.0f);
  const int num_sums = needs.group_score == GroupScore::kMean
                           ? static_cast<int>(needs.windows.size()) * num_kv_heads
                           : 0;
  size_t most = 0;
  for (const RankHeadRange& rank : ranks) {
    most = std::max(most, JoinedBy(needs, rank, group_size, num_kv_heads).size());
  }
  for (const RankHeadRange& rank : ranks) {
    const std::vector<int> joined_by = JoinedBy(needs, rank, group_size, num_kv_heads);
    const Weights own =
        RandomWeights(static_cast<int>(most) * n, Values::kSpread, rows.of_ranks.size() + 1);
    for (size_t i = 0; i < joined_by.size() * static_cast<size_t>(n); ++i) {
      const int row = joined_by[i / static_cast<size_t>(n)];
      float& joined = rows.joined[static_cast<size_t>(row * n) + i % static_cast<size_t>(n)];
      joined = row < num_sums ? joined + own[i] : std::max(joined, own[i]);
    }
    rows.of_ranks.insert(rows.of_ranks.end(), own.begin(), own.end());
  }
  return rows;
}

// Ranks that share KV heads and that do not, of 6 query heads in groups of 2, and of 9 in groups of
// 3.
TEST_P(CudaEntryChooserTest, JoinsTheRanksRows) {
  constexpr int kHeads = 3;
  constexpr int kCandidates = 129;
  struct Group {
    int size;
    std::vector<RankHeadRange> ranks;
  };
  const std::vector<Group> groups = {{2, {{0, 3, 0, 2}, {3, 3, 1, 2}}},
                                     {2, {{0, 4, 0, 2}, {4, 2, 2, 1}}},
                                     {3, {{0, 2, 0, 1}, {2, 1, 0, 1}, {3, 6, 1, 2}}}};
  const PolicyParameters parameters = RandomParameters(kCandidates, 5);
  const std::vector<int> budgets = {3 * 60};
  Coverage coverage;
  coverage.layers_selecting.assign(kCandidates, 0);
  for (const std::string name : kPolicies) {
    const auto policy = MakePolicy(name, parameters);
    ASSERT_TRUE(policy.ok()) << policy.status();
    const ScoreNeeds needs = (*policy)->needs();
    const int num_windows = static_cast<int>(needs.windows.size());
    const int focus_window = needs.focus_window > 0 ? kFocusQueries : 0;
    for (const Group& group : groups) {
      const RankRows rows = RandomRankRows(needs, group.ranks, group.size, kHeads, kCandidates);
      const HostScores host(needs, rows.joined, kHeads, kCandidates, group.size);
      for (int rank = 0; rank < static_cast<int>(group.ranks.size()); ++rank) {
        SCOPED_TRACE(testing::Message() << name << ", groups of " << group.size << ", rank " << rank
                                        << " of " << group.ranks.size());
        const RankHeadRange& own = group.ranks[static_cast<size_t>(rank)];
        const HeadShape shape{.num_heads = own.num_heads,
                              .num_kv_heads = own.num_kv_heads,
                              .head_dim = 8,
                              .group_size = group.size,
                              .group_offset = own.first_head % group.size};
        const absl::Status begun = device_->chooser()->Begin(
            {.rules = *(*policy)->device_rules(kHeads),
             .shape = shape,
             .ranks = group.ranks,
             .rank = rank,
             .num_candidates = kCandidates,
             .num_windows = num_windows,
             .focus_window = focus_window,
             .layers_selecting = absl::MakeConstSpan(coverage.layers_selecting),
             .layer_budgets = budgets});
        ASSERT_TRUE(begun.ok()) << begun;
        const auto to = ScoreLayer(shape, kCandidates, num_windows, focus_window);
        ASSERT_TRUE(to.ok()) << to.status();
        ASSERT_EQ(to->mine.data() - to->all.data(), rank * static_cast<int64_t>(to->mine.size()));
        ASSERT_TRUE(UploadRows(rows.of_ranks, to->all).ok());
        ASSERT_TRUE(device_->chooser()->ChooseLayer().ok());
        const auto chosen = device_->chooser()->Finish();
        ASSERT_TRUE(chosen.ok()) << chosen.status();
        ASSERT_EQ(chosen->layers[0].kept, (*policy)->Select(host.scores, budgets[0], coverage));
        ASSERT_EQ(chosen->layers[0].lost_attention.size(), static_cast<size_t>(own.num_heads));
      }
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
      const ChoiceRules all_rules = *(*policy)->device_rules(2);
      const SpanRules& rules = std::get<SpanRules>(all_rules.score);
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
      const HostScores host((*policy)->needs(), weights, 2, n, 1);
      ASSERT_EQ(scores.ToHost(), (*policy)->Scores(host.scores));
    }
  }
}

// To the bit as KvecPaper's, which sums in the same order; and what it is, in long doubles.
TEST_P(CudaEntryChooserTest, DeviationsAreThePopulations) {
  for (const int n : {1, 7, 255, 257, 1500}) {
    const Weights weights = RandomWeights(3 * n, Values::kSpread, static_cast<uint64_t>(n));
    const DeviceArray<float> device_weights(weights, stream_);
    const DeviceArray<float> deviations(3, stream_);
    ASSERT_EQ(Deviations(stream_, device_weights.data(), 3, n, deviations.data()), cudaSuccess);
    const std::vector<float> actual = deviations.ToHost();
    for (size_t head = 0; head < 3; ++head) {
      const float* const row = weights.data() + head * static_cast<size_t>(n);
      long double sum = 0;
      for (int t = 0; t < n; ++t) sum += row[t];
      long double squares = 0;
      for (int t = 0; t < n; ++t) squares += (row[t] - sum / n) * (row[t] - sum / n);
      ASSERT_FLOAT_EQ(actual[head], static_cast<float>(std::sqrt(squares / n))) << n;
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
    if (kIsSlow && golden->num_kv_heads > 2) continue;
    for (const auto& [name, expected] : golden->keep) {
      SCOPED_TRACE(entry.path().stem().string() + ", " + name);
      ++num_cases;
      const auto rows = worker::eviction::LayerRowsOf(name, *golden);
      ASSERT_TRUE(rows.ok()) << rows.status();
      const auto policy = MakePolicy(name, golden->parameters);
      ASSERT_TRUE(policy.ok()) << policy.status();
      // Their means are the sums of groups of one, and of a focus window of one query.
      std::vector<Weights> layers;
      for (const worker::eviction::LayerRows& of_layer : *rows) {
        Weights& layer = layers.emplace_back();
        for (const Weights& window : of_layer.heads) {
          layer.insert(layer.end(), window.begin(), window.end());
        }
        layer.insert(layer.end(), of_layer.focus.begin(), of_layer.focus.end());
      }
      Coverage coverage;
      coverage.layers_selecting.assign(static_cast<size_t>(golden->num_candidates()), 0);
      const auto chosen = Choose(**policy, {golden->num_kv_heads, golden->num_candidates()}, layers,
                                 golden->layer_budgets.at(name), coverage, 1);
      ASSERT_TRUE(chosen.ok()) << chosen.status();
      for (size_t layer = 0; layer < layers.size(); ++layer) {
        ASSERT_EQ(chosen->layers[layer].kept, expected[layer]) << "layer " << layer;
      }
    }
  }
  EXPECT_EQ(num_cases, kIsSlow ? 12 : 30);
}

}  // namespace
}  // namespace kvec::kernels::cuda
