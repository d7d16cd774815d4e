#include "coordinator/scheduler/prefix_index.h"

#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint32_t kBlock = PrefixIndex::kBlockTokens;

std::vector<int32_t> Tokens(int32_t first, uint32_t count) {
  std::vector<int32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// A prompt of the index that one sequence uses, published.
std::vector<uint64_t> Add(PrefixIndex& index, absl::Span<const int32_t> tokens) {
  std::vector<uint64_t> ids = index.Find(tokens);
  index.Use(ids);
  for (size_t begin = ids.size() * kBlock; begin + kBlock <= tokens.size(); begin += kBlock) {
    ids.push_back(index.Add(ids.empty() ? 0 : ids.back(), tokens.subspan(begin)));
  }
  index.Publish();
  return ids;
}

TEST(PrefixIndexTest, FindsTheWholeBlocksThatPromptsHaveInCommon) {
  PrefixIndex index;
  std::vector<int32_t> prompt = Tokens(0, 3 * kBlock + 5);
  EXPECT_THAT(index.Find(prompt), IsEmpty());
  EXPECT_THAT(Add(index, prompt), ElementsAre(1, 2, 3));
  EXPECT_THAT(index.Find(prompt), ElementsAre(1, 2, 3));
  EXPECT_THAT(index.Find(Tokens(0, 3 * kBlock - 1)), ElementsAre(1, 2));
  prompt[2 * kBlock] = 777;
  EXPECT_THAT(index.Find(prompt), ElementsAre(1, 2));
  prompt[0] = 777;
  EXPECT_THAT(index.Find(prompt), IsEmpty());
}

TEST(PrefixIndexTest, TellsEqualBlocksAfterDifferentOnesApart) {
  PrefixIndex index;
  std::vector<int32_t> twice = Tokens(0, kBlock);
  twice.insert(twice.end(), twice.begin(), twice.begin() + kBlock);
  EXPECT_THAT(Add(index, twice), ElementsAre(1, 2));
  EXPECT_THAT(index.Find(twice), ElementsAre(1, 2));
  EXPECT_THAT(index.Find(Tokens(0, kBlock)), ElementsAre(1));
}

TEST(PrefixIndexTest, RefusesASecondBlockOfTheSameTokens) {
  PrefixIndex index;
  const std::vector<int32_t> prompt = Tokens(0, kBlock);
  EXPECT_EQ(index.Add(0, prompt), 1);
  EXPECT_EQ(index.Add(0, prompt), 0);
  EXPECT_EQ(index.num_blocks(), 1);
}

TEST(PrefixIndexTest, FindsOnlyWhatWasPublished) {
  PrefixIndex index;
  const std::vector<int32_t> prompt = Tokens(0, kBlock);
  index.Add(0, prompt);
  EXPECT_THAT(index.Find(prompt), IsEmpty());
  index.Publish();
  EXPECT_THAT(index.Find(prompt), ElementsAre(1));
}

TEST(PrefixIndexTest, ReclaimsTheLeastRecentlyUsedAndChildrenBeforeParents) {
  PrefixIndex index;
  const std::vector<int32_t> first = Tokens(0, 2 * kBlock);
  const std::vector<int32_t> second = Tokens(1000, 2 * kBlock);
  const std::vector<uint64_t> first_ids = Add(index, first);    // 1, 2
  const std::vector<uint64_t> second_ids = Add(index, second);  // 3, 4
  EXPECT_EQ(index.num_unused(), 0);
  index.Release(first_ids);
  index.Release(second_ids);
  index.Use(absl::MakeConstSpan(first_ids).first(1));
  index.Release(absl::MakeConstSpan(first_ids).first(1));
  EXPECT_EQ(index.num_unused(), 4);
  EXPECT_EQ(index.Reclaim(), 2) << "its parent was used again, it was not";
  EXPECT_EQ(index.Reclaim(), 4);
  EXPECT_EQ(index.Reclaim(), 3);
  EXPECT_THAT(index.Find(first), ElementsAre(1));
  EXPECT_THAT(index.Find(second), IsEmpty());
}

TEST(PrefixIndexTest, KeepsWhatSomeSequenceStillUses) {
  PrefixIndex index;
  const std::vector<int32_t> prompt = Tokens(0, kBlock);
  const std::vector<uint64_t> ids = Add(index, prompt);
  index.Use(ids);
  index.Release(ids);
  EXPECT_EQ(index.num_unused(), 0);
  index.Release(ids);
  EXPECT_EQ(index.num_unused(), 1);
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
