// Every policy's keep-sets, element for element, against those of the NumPy oracles on stored
// attention windows. golden/ is written by make_goldens.py.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/eviction/eviction_case.h"

namespace kvec::worker::eviction {
namespace {

std::vector<std::string> CaseNames() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(KVEC_SOURCE_DIR "/tests/worker/eviction/golden")) {
    names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class PolicyGolden : public testing::TestWithParam<std::string> {};

TEST_P(PolicyGolden, KeepsWhatTheOracleKeeps) {
  std::ifstream file(KVEC_SOURCE_DIR "/tests/worker/eviction/golden/" + GetParam() + ".case",
                     std::ios::binary);
  const auto golden = ReadEvictionCase(file);
  ASSERT_TRUE(golden.ok()) << golden.status();
  ASSERT_FALSE(golden->keep.empty());
  for (const auto& [policy, expected] : golden->keep) {
    const auto actual = RunPolicy(policy, *golden);
    ASSERT_TRUE(actual.ok()) << actual.status();
    for (int layer = 0; layer < golden->num_layers; ++layer) {
      for (int head = 0; head < golden->num_kv_heads; ++head) {
        EXPECT_EQ((*actual)[layer][head], expected[layer][head])
            << policy << ", layer " << layer << ", KV head " << head;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, PolicyGolden, testing::ValuesIn(CaseNames()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace kvec::worker::eviction
