#include "common/model/rank_share.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/tensor/tensor_type.h"

namespace kvec {
namespace {

// Of features: what processors multiply at a time (32 floats are two registers of AVX-512).
constexpr int kFeatureUnit = 32;

// Where the part of a rank begins; the first ranks have one more where `count` does not divide.
int BeginOf(int count, int rank, int num_ranks) {
  return static_cast<int>((int64_t{count} * rank + num_ranks - 1) / num_ranks);
}

IndexRange PartOf(int count, int rank, int num_ranks) {
  const int begin = BeginOf(count, rank, num_ranks);
  return {begin, BeginOf(count, rank + 1, num_ranks) - begin};
}

// In whole units, the last one may be cut, unless that left a rank without any.
IndexRange PartInUnits(int count, int unit, int rank, int num_ranks) {
  const int num_units = (count + unit - 1) / unit;
  if (num_units < num_ranks) return PartOf(count, rank, num_ranks);
  const IndexRange units = PartOf(num_units, rank, num_ranks);
  const int begin = units.begin * unit;
  return {begin, std::min(count, units.end() * unit) - begin};
}

ColumnShare Columns(IndexRange held, int block) {
  const int begin = held.begin / block * block;
  const int end = (held.end() + block - 1) / block * block;
  return {held, {begin, end - begin}};
}

IndexRange KvHeadsOf(IndexRange heads, int group_size) {
  const int begin = heads.begin / group_size;
  return {begin, (heads.end() - 1) / group_size + 1 - begin};
}

}  // namespace

absl::StatusOr<RankShare> ShareOfRank(const ModelConfig& config, const ColumnBlocks& blocks,
                                      int rank, int num_ranks) {
  if (num_ranks < 1 || rank < 0 || rank >= num_ranks) {
    return absl::InvalidArgumentError(absl::StrCat("rank: ", rank, " of ", num_ranks));
  }
  if (num_ranks > config.num_heads) {
    return absl::InvalidArgumentError(absl::StrCat("num_ranks: ", num_ranks, ", the model has ",
                                                   config.num_heads, " query heads"));
  }
  const int group_size = config.num_heads / config.num_kv_heads;
  RankShare share;
  share.rank = rank;
  share.num_ranks = num_ranks;
  share.heads = PartOf(config.num_heads, rank, num_ranks);
  share.kv_heads = KvHeadsOf(share.heads, group_size);
  share.reported_kv_heads = share.kv_heads;
  if (share.heads.begin % group_size != 0) {  // the rank before holds the first one, too
    ++share.reported_kv_heads.begin;
    --share.reported_kv_heads.count;
  }
  share.attention_output =
      Columns({share.heads.begin * config.head_dim, share.heads.count * config.head_dim},
              blocks.attention_output);
  const int unit = std::max(blocks.down, kFeatureUnit);
  share.mlp = Columns(PartInUnits(config.intermediate_size, unit, rank, num_ranks), blocks.down);
  share.vocabulary = VocabularyOf(config, rank, num_ranks);
  return share;
}

IndexRange VocabularyOf(const ModelConfig& config, int rank, int num_ranks) {
  return PartInUnits(config.vocab_size, kFeatureUnit, rank, num_ranks);
}

absl::StatusOr<ColumnBlocks> ColumnBlocksOf(const ModelFiles& files) {
  ColumnBlocks blocks;
  for (int layer = 0; layer < files.config().num_layers; ++layer) {
    KVEC_ASSIGN_OR_RETURN(const FileTensor output,
                          files.FindTensor(absl::StrCat("blk.", layer, ".attn_output.weight")));
    KVEC_ASSIGN_OR_RETURN(const FileTensor down,
                          files.FindTensor(absl::StrCat("blk.", layer, ".ffn_down.weight")));
    blocks.attention_output =
        std::max(blocks.attention_output, GetTraits(output.type).block_elements);
    blocks.down = std::max(blocks.down, GetTraits(down.type).block_elements);
  }
  return blocks;
}

}  // namespace kvec
