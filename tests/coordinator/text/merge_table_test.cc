#include "coordinator/text/merge_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <utility>

namespace kvec::coordinator::text {
namespace {

using Rules = std::vector<std::array<int32_t, 3>>;  // left, right, merged; best first

// The definition, in quadratic time.
std::vector<int32_t> NaiveApply(const Rules& rules, std::vector<int32_t> ids) {
  for (;;) {
    size_t best_rule = rules.size();
    size_t best_position = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      for (size_t r = 0; r < best_rule; ++r) {
        if (rules[r][0] == ids[i] && rules[r][1] == ids[i + 1]) {
          best_rule = r;
          best_position = i;
        }
      }
    }
    if (best_rule == rules.size()) return ids;
    ids[best_position] = rules[best_rule][2];
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best_position) + 1);
  }
}

TEST(MergeTableTest, MergesAsTheDefinitionDoesForShortAndLongWords) {
  std::mt19937 generator(1);
  for (int round = 0; round < 300; ++round) {
    Rules rules;
    MergeTable table;
    std::map<std::pair<int32_t, int32_t>, bool> seen;
    for (int32_t merged = 4; merged < 30; ++merged) {
      const int32_t left = static_cast<int32_t>(generator() % merged);
      const int32_t right = static_cast<int32_t>(generator() % merged);
      if (std::exchange(seen[{left, right}], true)) continue;
      rules.push_back({left, right, merged});
      table.Add(left, right, merged);
    }
    for (const size_t size : {0, 1, 2, 7, 24, 25, 97, 200}) {
      std::vector<int32_t> ids(size);
      for (int32_t& id : ids) id = static_cast<int32_t>(generator() % 4);
      const std::vector<int32_t> expected = NaiveApply(rules, ids);
      table.Apply(ids);
      EXPECT_EQ(ids, expected);
    }
  }
}

TEST(MergeTableTest, KeepsTheFirstOfTwoRulesForOnePair) {
  MergeTable table;
  table.Add(1, 2, 3);
  table.Add(1, 2, 4);
  std::vector<int32_t> ids = {1, 2};
  table.Apply(ids);
  EXPECT_EQ(ids, std::vector<int32_t>{3});
}

}  // namespace
}  // namespace kvec::coordinator::text
