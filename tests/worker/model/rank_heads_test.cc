#include "worker/model/rank_heads.h"

#include "gtest/gtest.h"
#include "tests/worker/model/memory_model.h"

namespace kvec::worker::model {
namespace {

// 9 query heads in 3 groups on 2 ranks: the second one begins inside the middle group.
TEST(RankHeads, TellHowFarARankBeginsInsideAGroup) {
  const ModelConfig config = SmallConfig(9, 3, 64, 1536, {0});
  const int offsets[] = {0, 2};
  for (int rank = 0; rank < 2; ++rank) {
    const auto share = ShareOfRank(config, {}, rank, 2);
    ASSERT_TRUE(share.ok()) << share.status();
    EXPECT_EQ(HeadsOf(*share, config).group_offset, offsets[rank]);
  }
}

TEST(RankHeads, EveryQueryHeadOfARankReadsOneOfItsKvHeads) {
  for (int num_kv_heads = 1; num_kv_heads <= 9; ++num_kv_heads) {
    for (int group_size = 1; group_size <= 8; ++group_size) {
      const ModelConfig config = SmallConfig(num_kv_heads * group_size, num_kv_heads, 16, 512, {0});
      for (int num_ranks = 1; num_ranks <= config.num_heads; ++num_ranks) {
        for (int rank = 0; rank < num_ranks; ++rank) {
          const auto share = ShareOfRank(config, {}, rank, num_ranks);
          ASSERT_TRUE(share.ok()) << share.status();
          const kernels::HeadShape shape = HeadsOf(*share, config);
          EXPECT_EQ(shape.KvHeadOf(0), 0);
          EXPECT_EQ(shape.KvHeadOf(shape.num_heads - 1), shape.num_kv_heads - 1);
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvec::worker::model
