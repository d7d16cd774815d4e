#ifndef KVEC_COMMON_MODEL_RANK_SHARE_H_
#define KVEC_COMMON_MODEL_RANK_SHARE_H_

#include "absl/status/statusor.h"
#include "common/model/model_config.h"
#include "common/model/model_files.h"

namespace kvec {

// Consecutive heads, columns or rows.
struct IndexRange {
  int begin = 0;
  int count = 0;
  int end() const { return begin + count; }
};

// The columns of a weight that a rank multiplies. Quantised columns come in blocks: `stored` are
// the whole blocks around those that are the rank's, and the other columns of these blocks, which
// are a neighbour's, meet zeros in the input.
struct ColumnShare {
  IndexRange held;
  IndexRange stored;
  int offset() const { return held.begin - stored.begin; }  // of the rank's columns in the input
  bool is_padded() const { return stored.count != held.count; }
};

// The part of every layer, and of the LM head, that one rank of a stage holds. Ranks hold
// consecutive parts in their order. Query heads are dealt out as evenly as they go; a rank holds
// every KV head that one of its query heads reads, so that neighbours may hold the same one: 9
// query heads with 3 KV heads on 2 ranks are 5 with KV heads 0 and 1, and 4 with KV heads 1 and 2.
struct RankShare {
  int rank = 0;
  int num_ranks = 1;
  IndexRange heads;  // query heads
  IndexRange kv_heads;
  ColumnShare attention_output;  // columns: heads · head_dim
  ColumnShare mlp;               // rows of gate and up, columns of down
  IndexRange vocabulary;         // rows of the LM head
  // The KV heads that this rank, of those that hold them, answers for: the first one does.
  IndexRange reported_kv_heads;
};

// Columns that the weights split by columns can't be cut between: the largest block of any layer's,
// so that the activations of all layers are laid out alike, whichever a stage holds.
struct ColumnBlocks {
  int attention_output = 1;
  int down = 1;
};

absl::StatusOr<ColumnBlocks> ColumnBlocksOf(const ModelFiles& files);

// INVALID_ARGUMENT when there is no such rank, or a rank would have no query head.
absl::StatusOr<RankShare> ShareOfRank(const ModelConfig& config, const ColumnBlocks& blocks,
                                      int rank, int num_ranks);

// The vocabulary rows of any rank.
IndexRange VocabularyOf(const ModelConfig& config, int rank, int num_ranks);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_RANK_SHARE_H_
