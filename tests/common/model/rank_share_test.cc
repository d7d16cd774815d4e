#include "common/model/rank_share.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/model/memory_model.h"

namespace kvec {
namespace {

using ::testing::HasSubstr;

MATCHER_P2(IsRange, begin, count, "") { return arg.begin == begin && arg.count == count; }

RankShare Share(const ModelConfig& config, int rank, int num_ranks, ColumnBlocks blocks = {}) {
  const auto share = ShareOfRank(config, blocks, rank, num_ranks);
  EXPECT_TRUE(share.ok()) << share.status();
  return *share;
}

TEST(RankShare, NineQueryHeadsOnTwoRanksAreFiveAndFourWithTheMiddleKvHeadOnBoth) {
  const ModelConfig config = SmallConfig(9, 3, 64, 1536, {0});
  const RankShare first = Share(config, 0, 2);
  const RankShare second = Share(config, 1, 2);
  EXPECT_THAT(first.heads, IsRange(0, 5));
  EXPECT_THAT(first.kv_heads, IsRange(0, 2));
  EXPECT_THAT(first.reported_kv_heads, IsRange(0, 2));
  EXPECT_THAT(second.heads, IsRange(5, 4));
  EXPECT_THAT(second.kv_heads, IsRange(1, 2));
  EXPECT_THAT(second.reported_kv_heads, IsRange(2, 1));
}

TEST(RankShare, OneKvHeadIsOnEveryRankAndReportedByTheFirst) {
  const ModelConfig config = SmallConfig(4, 1, 256, 2048, {0});
  for (int rank = 0; rank < 4; ++rank) {
    const RankShare share = Share(config, rank, 4);
    EXPECT_THAT(share.heads, IsRange(rank, 1));
    EXPECT_THAT(share.kv_heads, IsRange(0, 1));
    EXPECT_EQ(share.reported_kv_heads.count, rank == 0 ? 1 : 0);
  }
}

TEST(RankShare, MlpColumnsAreCutAtBlocks) {
  const ModelConfig config = SmallConfig(6, 2, 64, 2048, {0});
  const ColumnBlocks blocks{.down = 256};
  EXPECT_THAT(Share(config, 0, 3, blocks).mlp.held, IsRange(0, 768));
  EXPECT_THAT(Share(config, 1, 3, blocks).mlp.held, IsRange(768, 768));
  EXPECT_THAT(Share(config, 2, 3, blocks).mlp.held, IsRange(1536, 512));
  EXPECT_FALSE(Share(config, 1, 3, blocks).mlp.is_padded());
}

TEST(RankShare, HeadsThatEndInsideABlockStoreItWhole) {
  // 3 heads of 128 columns: the border at column 384 lies inside the block 256 … 511.
  const ModelConfig config = SmallConfig(6, 2, 128, 512, {0});
  const ColumnBlocks blocks{.attention_output = 256};
  const ColumnShare first = Share(config, 0, 2, blocks).attention_output;
  EXPECT_THAT(first.held, IsRange(0, 384));
  EXPECT_THAT(first.stored, IsRange(0, 512));
  EXPECT_EQ(first.offset(), 0);
  const ColumnShare second = Share(config, 1, 2, blocks).attention_output;
  EXPECT_THAT(second.held, IsRange(384, 384));
  EXPECT_THAT(second.stored, IsRange(256, 512));
  EXPECT_EQ(second.offset(), 128);
}

TEST(RankShare, TheRanksOfAGroupHoldEverythingOnce) {
  std::mt19937 random(1);
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int round = 0; round < 500; ++round) {
    const int num_kv_heads = draw(1, 9);
    const int group_size = draw(1, 8);
    const int down_block = 1 << draw(0, 8);
    ModelConfig config = SmallConfig(num_kv_heads * group_size, num_kv_heads, 8 * draw(1, 16),
                                     down_block * draw(1, 40), {0});
    config.vocab_size = draw(300, 3000);
    const int num_ranks = draw(1, config.num_heads);
    IndexRange heads, reported, attention, mlp, vocabulary;
    const auto append = [](IndexRange part, IndexRange& whole) {
      EXPECT_EQ(part.begin, whole.end());
      EXPECT_GE(part.count, 0);
      whole.count += part.count;
    };
    for (int rank = 0; rank < num_ranks; ++rank) {
      const RankShare share = Share(config, rank, num_ranks, {.down = down_block});
      append(share.heads, heads);
      append(share.reported_kv_heads, reported);
      append(share.attention_output.held, attention);
      append(share.mlp.held, mlp);
      append(share.vocabulary, vocabulary);
      EXPECT_THAT(VocabularyOf(config, rank, num_ranks),
                  IsRange(share.vocabulary.begin, share.vocabulary.count));
      EXPECT_GE(share.heads.count, 1);
      EXPECT_LE(share.heads.count, (config.num_heads + num_ranks - 1) / num_ranks);
      EXPECT_EQ(share.mlp.stored.begin % down_block, 0);
      EXPECT_EQ(share.mlp.stored.count % down_block, 0);
      EXPECT_LE(share.mlp.stored.end(), config.intermediate_size);
    }
    EXPECT_EQ(heads.count, config.num_heads);
    EXPECT_EQ(reported.count, config.num_kv_heads);
    EXPECT_EQ(attention.count, config.num_heads * config.head_dim);
    EXPECT_EQ(mlp.count, config.intermediate_size);
    EXPECT_EQ(vocabulary.count, config.vocab_size);
  }
}

TEST(RankShare, RejectsMoreRanksThanQueryHeadsAndRanksThatAreNotThere) {
  const ModelConfig config = SmallConfig(4, 2, 64, 256, {0});
  const auto too_many = ShareOfRank(config, {}, 0, 5);
  EXPECT_EQ(too_many.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(too_many.status().message(), HasSubstr("num_ranks: 5, the model has 4 query heads"));
  for (int rank : {-1, 2}) {
    EXPECT_EQ(ShareOfRank(config, {}, rank, 2).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(ShareOfRank(config, {}, 0, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(RankShare, ColumnBlocksAreThoseOfTheCoarsestLayer) {
  const MemoryModel model(
      SmallConfig(4, 2, 64, 512, {0, 0}),
      [](absl::string_view name) {
        if (name == "blk.0.ffn_down.weight") return TensorType::kQ4_1;
        if (name == "blk.1.ffn_down.weight") return TensorType::kQ6_K;
        return TensorType::kF16;
      },
      1);
  const auto blocks = ColumnBlocksOf(model);
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_EQ(blocks->attention_output, 1);
  EXPECT_EQ(blocks->down, 256);
}

}  // namespace
}  // namespace kvec
