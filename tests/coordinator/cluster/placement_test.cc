#include "coordinator/cluster/placement.h"

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(PlacementTest, ReadsAShape) {
  struct Case {
    std::string text;
    int num_ranks;
    int num_stages;
    int num_replicas = 1;
  };
  for (const Case& test : std::vector<Case>{{"tp=2,pp=3", 2, 3},
                                            {"pp=3,tp=2", 2, 3},
                                            {"tp=4", 4, 1},
                                            {"pp=5", 1, 5},
                                            {"dp=2,tp=3", 3, 1, 2},
                                            {"pp=2,dp=64", 1, 2, 64}}) {
    const absl::StatusOr<ParallelShape> shape = ParseParallelShape(test.text);
    ASSERT_TRUE(shape.ok()) << shape.status();
    EXPECT_EQ(shape->num_ranks, test.num_ranks) << test.text;
    EXPECT_EQ(shape->num_stages, test.num_stages) << test.text;
    EXPECT_EQ(shape->num_replicas, test.num_replicas) << test.text;
    EXPECT_EQ(ParallelShapeText(*ParseParallelShape(ParallelShapeText(*shape))),
              ParallelShapeText(*shape));
  }
}

TEST(PlacementTest, RefusesWhatIsNoShape) {
  for (const char* text : {"", "2", "tp", "tp=", "tp=0", "pp=-1", "tp=1025", "tp=2;pp=2", "x=1",
                           "dp=0", "dp=65", "tp=1e1", "tp=99999999999"}) {
    const absl::Status status = ParseParallelShape(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
}

TEST(PlacementTest, RefusesMoreStagesThanLayersAndMoreRanksThanQueryHeads) {
  ModelConfig config;
  config.num_layers = 3;
  config.num_heads = 9;
  config.num_kv_heads = 1;
  EXPECT_TRUE(CheckParallelShape({.num_ranks = 9, .num_stages = 3}, config).ok());
  EXPECT_TRUE(CheckParallelShape({.num_ranks = 2, .num_stages = 1}, config).ok());
  EXPECT_FALSE(CheckParallelShape({.num_ranks = 1, .num_stages = 4}, config).ok());
  EXPECT_FALSE(CheckParallelShape({.num_ranks = 10, .num_stages = 1}, config).ok());
}

// Checks that the stages follow each other, and gives their numbers of layers.
std::vector<int> LayersOfStages(const ParallelShape& shape, const ModelBytes& bytes) {
  const std::vector<v1::Placement> placements = PlaceWorkers(shape, bytes);
  EXPECT_EQ(placements.size(), static_cast<size_t>(shape.num_workers()));
  std::vector<int> layers;
  uint32_t next_layer = 0;
  for (int stage = 0; stage < shape.num_stages; ++stage) {
    for (int rank = 0; rank < shape.num_ranks; ++rank) {
      const v1::Placement& placement = placements[stage * shape.num_ranks + rank];
      EXPECT_EQ(placement.stage(), stage);
      EXPECT_EQ(placement.rank(), rank);
      EXPECT_EQ(placement.first_layer(), next_layer);
      EXPECT_GE(placement.num_layers(), 1u);
    }
    layers.push_back(placements[stage * shape.num_ranks].num_layers());
    next_layer += layers.back();
  }
  EXPECT_EQ(next_layer, bytes.layers.size());
  return layers;
}

TEST(PlacementTest, EqualLayersAreDealtOutEvenlyTheFirstStagesFirst) {
  for (int num_layers = 1; num_layers <= 40; ++num_layers) {
    for (int num_stages = 1; num_stages <= num_layers; ++num_stages) {
      ModelBytes bytes;
      bytes.layers.assign(num_layers, 1000);
      bytes.cache.assign(num_layers, 50);
      const std::vector<int> layers =
          LayersOfStages({.num_ranks = 2, .num_stages = num_stages}, bytes);
      for (int stage = 0; stage < num_stages; ++stage) {
        EXPECT_EQ(layers[stage],
                  num_layers / num_stages + (stage < num_layers % num_stages ? 1 : 0));
      }
    }
  }
}

TEST(PlacementTest, AFasterStageGetsMoreLayers) {
  ModelBytes bytes;
  bytes.layers.assign(30, 100);
  bytes.cache.assign(30, 0);
  const auto layers = [&](const std::vector<double>& speeds) {
    std::vector<uint32_t> counts;
    const ParallelShape shape{.num_stages = static_cast<int>(speeds.size())};
    for (const v1::Placement& placement : PlaceWorkers(shape, bytes, speeds)) {
      counts.push_back(placement.num_layers());
    }
    return counts;
  };
  EXPECT_THAT(layers({1, 1}), ElementsAre(15, 15));
  EXPECT_THAT(layers({1, 0.5}), ElementsAre(20, 10));
  EXPECT_THAT(layers({0.25, 1}), ElementsAre(6, 24));
  EXPECT_THAT(layers({1, 1, 0.001}), ElementsAre(15, 14, 1));  // nobody has none
}

TEST(PlacementTest, TheHeadCountsAsMuchAsWhatLayersReadAndTheEmbeddingDoesNot) {
  ModelBytes bytes;
  bytes.layers.assign(30, 100);
  bytes.cache.assign(30, 0);
  bytes.embedding = 800;
  EXPECT_THAT(LayersOfStages({.num_stages = 2}, bytes), ElementsAre(15, 15));
  bytes.head = 800;
  EXPECT_THAT(LayersOfStages({.num_stages = 2}, bytes), ElementsAre(19, 11));
  EXPECT_THAT(LayersOfStages({.num_stages = 3}, bytes), ElementsAre(13, 13, 4));
  bytes.cache.assign(30, 300);  // a layer is now four times as much
  EXPECT_THAT(LayersOfStages({.num_stages = 2}, bytes), ElementsAre(16, 14));
  // Sliding windows: the last layers read little.
  for (int layer = 20; layer < 30; ++layer) bytes.cache[layer] = 0;
  EXPECT_THAT(LayersOfStages({.num_stages = 2}, bytes), ElementsAre(12, 18));
}

TEST(PlacementTest, NoOtherDivisionIsMoreEqual) {
  std::mt19937 random(1);
  for (int repetition = 0; repetition < 200; ++repetition) {
    ModelBytes bytes;
    bytes.layers.resize(3 + random() % 10);
    for (uint64_t& layer : bytes.layers) layer = 1 + random() % 1000;
    bytes.embedding = random() % 3000;
    bytes.cache.resize(bytes.layers.size());
    for (uint64_t& layer : bytes.cache) layer = random() % 1000;
    bytes.head = random() % 3000;
    const auto squares = [&](const std::vector<int>& counts) {
      double sum = 0;
      size_t layer = 0;
      for (size_t stage = 0; stage < counts.size(); ++stage) {
        double stage_bytes = stage + 1 == counts.size() ? static_cast<double>(bytes.head) : 0;
        for (int i = 0; i < counts[stage]; ++i, ++layer) {
          stage_bytes += static_cast<double>(bytes.layers[layer] + bytes.cache[layer]);
        }
        sum += stage_bytes * stage_bytes;
      }
      return sum;
    };
    const double least = squares(LayersOfStages({.num_stages = 3}, bytes));
    const int num_layers = static_cast<int>(bytes.layers.size());
    for (int first = 1; first < num_layers - 1; ++first) {
      for (int second = 1; first + second < num_layers; ++second) {
        EXPECT_LE(least, squares({first, second, num_layers - first - second}) * (1 + 1e-12));
      }
    }
  }
}

TEST(PlacementTest, MeasuresAModelFile) {
  const auto files = ModelFiles::Open(KVEC_SOURCE_DIR "/tests/worker/model/tiny/llama");
  ASSERT_TRUE(files.ok()) << files.status();
  const ModelBytes bytes = MeasureModelBytes(**files);
  EXPECT_THAT(bytes.layers, SizeIs((*files)->config().num_layers));
  uint64_t total = bytes.embedding + bytes.head;
  for (uint64_t layer : bytes.layers) {
    EXPECT_GT(layer, 0u);
    total += layer;
  }
  uint64_t expected = 0;
  for (const FileTensor& tensor : (*files)->tensors()) expected += tensor.data.size();
  if (!(*files)->HasTensor("output.weight")) {
    expected += (*files)->FindTensor("token_embd.weight")->data.size();
  }
  EXPECT_EQ(total, expected);
  const ModelConfig& config = (*files)->config();
  EXPECT_EQ(bytes.cache,
            std::vector<uint64_t>(config.num_layers,
                                  8 * 2048 * 2 * 2 * config.num_kv_heads * config.head_dim));
}

TEST(PlacementTest, ALayerWithASlidingWindowReadsNoMoreThanIt) {
  const auto files = ModelFiles::Open(KVEC_SOURCE_DIR "/tests/worker/model/tiny/gemma3");
  ASSERT_TRUE(files.ok()) << files.status();
  const ModelConfig& config = (*files)->config();
  const ModelBytes bytes = MeasureModelBytes(**files);
  int num_sliding = 0;
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const int window = config.sliding_windows[layer];
    num_sliding += window > 0 ? 1 : 0;
    EXPECT_EQ(bytes.cache[layer],
              8u * (window > 0 ? window : 2048) * 2 * 2 * config.num_kv_heads * config.head_dim);
  }
  EXPECT_GT(num_sliding, 0);
}

}  // namespace
}  // namespace kvec::coordinator::cluster
