#include "worker/cache/kept_blocks.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::worker::cache {
namespace {

using kernels::kPageTokens;
using ::testing::HasSubstr;

constexpr uint64_t kFirst = 7;
constexpr uint64_t kSecond = 8;

class KeptBlocksTest : public testing::Test {
 protected:
  // Keeps the first two blocks of a sequence that is gone afterwards.
  void KeepTwo() {
    SequenceCache cache(shape_, pool_);
    ASSERT_TRUE(cache.Append(2 * kPageTokens + 5).ok());
    ASSERT_TRUE(blocks_.Keep(kFirst, cache, 0).ok());
    ASSERT_TRUE(blocks_.Keep(kSecond, cache, 1).ok());
  }

  const CacheShape shape_{.num_kv_heads = 2, .sliding_windows = {0, 0, 0}};
  PagePool pool_{100};
  KeptBlocks blocks_{pool_};
};

TEST_F(KeptBlocksTest, OutliveTheirSequence) {
  KeepTwo();
  EXPECT_EQ(pool_.num_free(), 100 - 12);
  ASSERT_TRUE(blocks_.Free(kFirst).ok());
  EXPECT_EQ(pool_.num_free(), 100 - 6);
  blocks_.Clear();
  EXPECT_EQ(pool_.num_free(), 100);
}

TEST_F(KeptBlocksTest, GiveTheirPagesToSequences) {
  KeepTwo();
  SequenceCache cache(shape_, pool_);
  ASSERT_TRUE(blocks_.Share({kFirst, kSecond}, cache).ok());
  EXPECT_EQ(cache.num_tokens(), 2 * kPageTokens);
  EXPECT_EQ(cache.num_pages(), 12);
  EXPECT_EQ(pool_.num_free(), 100 - 12) << "nothing was copied";
  ASSERT_TRUE(cache.Append(1).ok());
  EXPECT_EQ(pool_.num_free(), 100 - 18) << "new entries go to pages of its own";
  SequenceCache other(shape_, pool_);
  ASSERT_TRUE(blocks_.Share({kFirst}, other).ok());
  for (int layer = 0; layer < 3; ++layer) {
    for (int head = 0; head < 2; ++head) {
      EXPECT_EQ(other.Layer(layer)[head].pages[0], cache.Layer(layer)[head].pages[0]);
    }
  }
  blocks_.Clear();
  EXPECT_EQ(pool_.num_free(), 100 - 18) << "sequences go on holding what they share";
}

TEST_F(KeptBlocksTest, AreNotWrittenByAnEviction) {
  KeepTwo();
  SequenceCache cache(shape_, pool_);
  ASSERT_TRUE(blocks_.Share({kFirst, kSecond}, cache).ok());
  const int32_t shared = cache.Layer(1)[0].pages[0];
  const std::vector<std::vector<int32_t>> kept = {{3, 20}, {17}};
  const auto moves = cache.BeginEviction(1, kept);
  ASSERT_TRUE(moves.ok()) << moves.status();
  cache.FinishEviction(1);
  EXPECT_NE(cache.Layer(1)[0].pages[0], shared);
  SequenceCache other(shape_, pool_);
  ASSERT_TRUE(blocks_.Share({kFirst}, other).ok());
  EXPECT_EQ(other.Layer(1)[0].pages[0], shared);
  EXPECT_EQ(pool_.num_free(), 100 - 12 - 2);
}

TEST_F(KeptBlocksTest, RefuseWhatIsNotThereAsItWasFilled) {
  SequenceCache cache(shape_, pool_);
  ASSERT_TRUE(cache.Append(kPageTokens + 5).ok());
  EXPECT_THAT(std::string(blocks_.Keep(1, cache, 1).message()), HasSubstr("21 entries"));
  const std::vector<std::vector<int32_t>> kept = {{3}, {17}};
  ASSERT_TRUE(cache.BeginEviction(0, kept).ok());
  cache.FinishEviction(0);
  EXPECT_EQ(blocks_.Keep(1, cache, 0).code(), absl::StatusCode::kInternal);

  const CacheShape sliding{.num_kv_heads = 1, .sliding_windows = {0, 8}};
  SequenceCache slid(sliding, pool_);
  ASSERT_TRUE(slid.Append(2 * kPageTokens).ok());
  slid.ReleaseSlidOut();
  EXPECT_THAT(std::string(blocks_.Keep(1, slid, 0).message()), HasSubstr("1 pages slid out"));
  EXPECT_EQ(blocks_.size(), 0);
}

TEST_F(KeptBlocksTest, RefuseIdsThatDoNotFit) {
  KeepTwo();
  SequenceCache cache(shape_, pool_);
  ASSERT_TRUE(cache.Append(kPageTokens).ok());
  EXPECT_EQ(blocks_.Keep(kFirst, cache, 0).message(), "block 7: kept twice");
  EXPECT_EQ(blocks_.Free(9).message(), "block 9: not known, cannot free");
  SequenceCache empty(shape_, pool_);
  EXPECT_EQ(blocks_.Share({9}, empty).message(), "block 9: not known, cannot share");
}

}  // namespace
}  // namespace kvec::worker::cache
