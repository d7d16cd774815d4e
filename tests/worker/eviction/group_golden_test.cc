// Every policy's keep-sets when the layers and heads of a case lie on several workers, element for
// element against those of the NumPy oracles.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "common/model/rank_share.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/thread_communicator.h"
#include "tests/worker/eviction/eviction_case.h"

namespace kvec::worker::eviction {
namespace {

struct GroupShape {
  int num_ranks;
  int num_stages;
};

std::vector<std::string> CaseNames() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(KVEC_SOURCE_DIR "/tests/worker/eviction/golden")) {
    names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Of each rank, as the workers of a real model split them.
std::vector<RankHeads> HeadsOfRanks(const EvictionCase& from, int num_ranks) {
  ModelConfig config;
  config.num_heads = from.num_heads;
  config.num_kv_heads = from.num_kv_heads;
  std::vector<RankHeads> heads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const auto share = ShareOfRank(config, {}, rank, num_ranks);
    EXPECT_TRUE(share.ok()) << share.status();
    heads.push_back(
        {share->heads.begin, share->heads.count, share->kv_heads.begin, share->kv_heads.count});
  }
  return heads;
}

class GroupGolden : public testing::TestWithParam<std::tuple<std::string, GroupShape>> {
 protected:
  void SetUp() override {
    std::ifstream file(
        KVEC_SOURCE_DIR "/tests/worker/eviction/golden/" + std::get<0>(GetParam()) + ".case",
        std::ios::binary);
    auto golden = ReadEvictionCase(file);
    ASSERT_TRUE(golden.ok()) << golden.status();
    golden_ = *std::move(golden);
  }

  GroupShape shape() const { return std::get<1>(GetParam()); }

  // [num_stages · num_ranks], of the layers of each stage.
  std::vector<absl::StatusOr<std::vector<Selection>>> Run(const std::string& policy) const {
    const auto comms = comm::MakeThreadGroup(shape().num_stages, shape().num_ranks);
    std::vector<absl::StatusOr<std::vector<Selection>>> results(comms.size());
    std::vector<std::thread> workers;
    for (size_t i = 0; i < comms.size(); ++i) {
      workers.emplace_back([&, i] {
        const int stage = comms[i]->stage;
        const int first = FirstLayer(stage);
        results[i] = RunPolicy(policy, golden_,
                               {.first_layer = first,
                                .num_layers = FirstLayer(stage + 1) - first,
                                .ranks = HeadsOfRanks(golden_, shape().num_ranks),
                                .comm = comms[i].get()});
      });
    }
    for (std::thread& worker : workers) worker.join();
    return results;
  }

  int FirstLayer(int stage) const { return golden_.num_layers * stage / shape().num_stages; }

  EvictionCase golden_;
};

TEST_P(GroupGolden, EveryWorkerKeepsWhatTheOracleKeeps) {
  ASSERT_FALSE(golden_.keep.empty());
  for (const auto& [policy, expected] : golden_.keep) {
    const auto results = Run(policy);
    for (size_t i = 0; i < results.size(); ++i) {
      ASSERT_TRUE(results[i].ok()) << results[i].status();
      const int first = FirstLayer(static_cast<int>(i) / shape().num_ranks);
      for (size_t layer = 0; layer < results[i]->size(); ++layer) {
        EXPECT_EQ((*results[i])[layer], expected[first + layer])
            << policy << ", worker " << i << ", layer " << first + layer;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GroupGolden,
                         testing::Combine(testing::ValuesIn(CaseNames()),
                                          testing::Values(GroupShape{1, 1}, GroupShape{2, 1},
                                                          GroupShape{1, 2}, GroupShape{2, 2},
                                                          GroupShape{3, 1}, GroupShape{3, 2})),
                         [](const auto& info) {
                           const GroupShape& shape = std::get<1>(info.param);
                           return std::get<0>(info.param) + "_tp" +
                                  std::to_string(shape.num_ranks) + "_pp" +
                                  std::to_string(shape.num_stages);
                         });

}  // namespace
}  // namespace kvec::worker::eviction
