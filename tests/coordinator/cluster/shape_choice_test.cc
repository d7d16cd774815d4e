#include "coordinator/cluster/shape_choice.h"

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kGb = 1'000'000'000;

ModelConfig Config(int num_layers, int num_heads, int num_kv_heads) {
  ModelConfig config;
  config.num_layers = num_layers;
  config.num_heads = num_heads;
  config.num_kv_heads = num_kv_heads;
  return config;
}

// As a model of 8 billion parameters in 16 bits is: 16 GB.
const ModelConfig kConfig8B = Config(32, 32, 8);
ModelBytes Bytes8B() {
  ModelBytes bytes;
  bytes.layers.assign(32, 436'000'000);
  bytes.cache.assign(32, 67'000'000);
  bytes.embedding = bytes.head = kGb;
  return bytes;
}

// `count` workers with numbers from `first_id` on.
void AddWorkers(int count, uint64_t first_id, const std::string& host, uint64_t memory_bytes,
                bool shares_memory, std::vector<AvailableWorker>& workers) {
  for (int i = 0; i < count; ++i) {
    workers.push_back({first_id + i, host, memory_bytes, shares_memory});
  }
}

// "tp=2,pp=1 of 3 4"
std::string Choice(const std::vector<AvailableWorker>& workers, const ModelConfig& config,
                   const ModelBytes& bytes, int max_replicas = 1) {
  const absl::StatusOr<ShapeChoice> choice = ChooseShape(workers, config, bytes, max_replicas);
  if (!choice.ok()) return choice.status().ToString();
  return absl::StrCat(max_replicas > 1 ? absl::StrCat("dp=", choice->shape.num_replicas, ",") : "",
                      "tp=", choice->shape.num_ranks, ",pp=", choice->shape.num_stages, " of ",
                      absl::StrJoin(choice->workers, " "));
}

TEST(ShapeChoiceTest, OneWorkerWhereOneIsLargeEnough) {
  std::vector<AvailableWorker> workers;
  AddWorkers(1, 1, "a", 30 * kGb, false, workers);
  AddWorkers(2, 2, "a", 80 * kGb, false, workers);
  EXPECT_EQ(Choice(workers, kConfig8B, Bytes8B()), "tp=1,pp=1 of 2");
}

TEST(ShapeChoiceTest, AsManyReplicasAsThereIsMemoryFor) {
  std::vector<AvailableWorker> workers;
  AddWorkers(3, 1, "a", 24 * kGb, false, workers);
  AddWorkers(5, 4, "b", 24 * kGb, false, workers);
  EXPECT_EQ(Choice(workers, kConfig8B, Bytes8B(), 8), "dp=3,tp=2,pp=1 of 1 2 4 5 6 7");
  EXPECT_EQ(Choice(workers, kConfig8B, Bytes8B(), 2), "dp=2,tp=2,pp=1 of 1 2 4 5");
  // 64 GB of a host are enough for one of them, 90 GB for two, whatever the number of processes.
  workers.clear();
  AddWorkers(4, 1, "a", 64 * kGb, true, workers);
  EXPECT_EQ(Choice(workers, kConfig8B, Bytes8B(), 8), "dp=1,tp=1,pp=1 of 1");
  for (AvailableWorker& worker : workers) worker.memory_bytes = 90 * kGb;
  EXPECT_EQ(Choice(workers, kConfig8B, Bytes8B(), 8), "dp=2,tp=1,pp=1 of 1 2");
}

TEST(ShapeChoiceTest, RanksOnOneHostBeforeStages) {
  std::vector<AvailableWorker> workers;
  AddWorkers(8, 1, "a", 24 * kGb, false, workers);
  EXPECT_EQ(Choice(workers, kConfig8B, Bytes8B()), "tp=2,pp=1 of 1 2");
  for (AvailableWorker& worker : workers) worker.memory_bytes = 10 * kGb;
  EXPECT_EQ(Choice(workers, kConfig8B, Bytes8B()), "tp=4,pp=1 of 1 2 3 4");
}

TEST(ShapeChoiceTest, StagesWhereNoHostHasRoomForAllRanks) {
  std::vector<AvailableWorker> workers;
  for (int host = 0; host < 4; ++host) {
    AddWorkers(1, 1 + host, absl::StrCat("host", host), 14 * kGb, false, workers);
  }
  EXPECT_EQ(Choice(workers, kConfig8B, Bytes8B()), "tp=1,pp=3 of 1 2 3");
  // Two each: stages of two ranks.
  AddWorkers(1, 5, "host0", 14 * kGb, false, workers);
  AddWorkers(1, 6, "host1", 14 * kGb, false, workers);
  for (AvailableWorker& worker : workers) worker.memory_bytes = 10 * kGb;
  EXPECT_EQ(Choice(workers, kConfig8B, Bytes8B()), "tp=2,pp=2 of 1 5 2 6");
}

TEST(ShapeChoiceTest, SharedMemoryCountsOnce) {
  std::vector<AvailableWorker> workers;
  AddWorkers(4, 1, "a", 24 * kGb, true, workers);
  EXPECT_THAT(Choice(workers, kConfig8B, Bytes8B()), HasSubstr("RESOURCE_EXHAUSTED"));
  AddWorkers(1, 5, "b", 24 * kGb, true, workers);
  EXPECT_EQ(Choice(workers, kConfig8B, Bytes8B()), "tp=1,pp=2 of 1 5");
}

TEST(ShapeChoiceTest, SaysWhatIsMissing) {
  std::vector<AvailableWorker> workers;
  AddWorkers(2, 1, "a", kGb, false, workers);
  const absl::Status status = ChooseShape(workers, kConfig8B, Bytes8B(), 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("2 workers with 2000000000 bytes of memory do not hold the model"));
  EXPECT_EQ(ChooseShape({}, kConfig8B, Bytes8B(), 1).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ShapeChoiceTest, EveryChoiceFitsTheModelAndTheHosts) {
  std::mt19937 random(2);
  int num_chosen = 0;
  for (int repetition = 0; repetition < 500; ++repetition) {
    const int num_kv_heads = 1 + static_cast<int>(random() % 4);
    const ModelConfig config =
        Config(1 + static_cast<int>(random() % 6),
               num_kv_heads * (1 + static_cast<int>(random() % 4)), num_kv_heads);
    ModelBytes bytes;
    for (int layer = 0; layer < config.num_layers; ++layer) {
      bytes.layers.push_back(1 + random() % 100);
      bytes.cache.push_back(random() % 100);
    }
    bytes.embedding = bytes.head = random() % 200;
    std::vector<AvailableWorker> workers;
    for (uint64_t id = 1; id <= 1 + random() % 12; ++id) {
      workers.push_back({id, std::string(1, static_cast<char>('a' + random() % 3)),
                         50 + random() % 1000, random() % 2 == 0});
    }
    const int max_replicas = 1 + static_cast<int>(random() % 3);
    const absl::StatusOr<ShapeChoice> choice = ChooseShape(workers, config, bytes, max_replicas);
    if (!choice.ok()) continue;
    ++num_chosen;
    const ParallelShape& shape = choice->shape;
    EXPECT_TRUE(CheckParallelShape(shape, config).ok());
    EXPECT_LE(shape.num_replicas, max_replicas);
    ASSERT_EQ(choice->workers.size(),
              static_cast<size_t>(shape.num_workers() * shape.num_replicas));
    EXPECT_EQ(std::set<uint64_t>(choice->workers.begin(), choice->workers.end()).size(),
              choice->workers.size());
    std::map<std::string, int> on_host;
    uint64_t memory = 0;
    for (uint64_t id : choice->workers) {
      ++on_host[workers[id - 1].host];
      memory += workers[id - 1].memory_bytes;
    }
    for (const auto& [host, count] : on_host) EXPECT_EQ(count % shape.num_ranks, 0);
    uint64_t weights = bytes.head + bytes.embedding;
    for (uint64_t layer : bytes.layers) weights += layer;
    EXPECT_GE(memory, 2 * weights * shape.num_replicas);
  }
  EXPECT_GT(num_chosen, 100);
}

}  // namespace
}  // namespace kvec::coordinator::cluster
