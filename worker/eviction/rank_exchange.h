#ifndef KVEC_WORKER_EVICTION_RANK_EXCHANGE_H_
#define KVEC_WORKER_EVICTION_RANK_EXCHANGE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/comm/communicator.h"
#include "worker/eviction/layer_scores.h"

namespace kvec::worker::eviction {

// The heads of a layer that one rank of a stage holds. Two ranks may hold the same KV head, each
// with a part of the query heads that read it.
struct RankHeads {
  int first_head = 0;  // query heads
  int num_heads = 0;
  int first_kv_head = 0;
  int num_kv_heads = 0;
};

// What one rank knows of a layer by its own heads.
struct RankScores {
  int num_candidates = 0;  // n
  // One entry per ScoreNeeds::windows, [num_heads, n]: mean over the last queries of A.
  std::vector<absl::Span<const float>> query_head_means;
  absl::Span<const float> maxima;  // [focus_window, n]: of each query, oldest first, over its heads
  absl::Span<const float> value_norms;  // [num_kv_heads, n]: ‖v‖₂; for GroupScore::kWeightedMaximum
  // [num_kv_heads, n]: the largest attention that a token got when the prompt was read again, in the
  // place of the maximum over query_head_means. Empty: it was not read again.
  absl::Span<const float> reading_maxima;
};

// Makes the scores of all KV heads of a layer out of what its stage's ranks know, on every rank
// alike: with one all-gather, so that all may then choose alike. What comes out has the same bits
// however the heads are split. Owned by the evictor, called from its thread.
class RankExchange {
 public:
  // `heads` of every rank, in order; `group_size` query heads read a KV head.
  RankExchange(std::vector<RankHeads> heads, int rank, int group_size);

  // The ranks' communicator; null is for a stage of one rank.
  void SetComm(comm::Communicator* ranks) { ranks_ = ranks; }

  int num_ranks() const { return static_cast<int>(heads_.size()); }
  const RankHeads& mine() const { return heads_[rank_]; }
  int num_kv_heads() const { return num_kv_heads_; }  // of the layer

  // Scores of a layer of which every rank has the same candidates. They refer to this object, until
  // the next call.
  absl::StatusOr<LayerScores> Join(const ScoreNeeds& needs, const RankScores& mine);

  // Of the positions, below num_tokens and ascending, that each of this rank's KV heads holds, and
  // of the other ranks': those of all KV heads of the layer.
  absl::StatusOr<std::vector<std::vector<int32_t>>> JoinPositions(
      absl::Span<const std::vector<int32_t>> mine, int num_tokens);

  // What was sent to the other ranks, and how long this took with waiting for them; until now.
  uint64_t sent_bytes() const { return sent_bytes_; }
  absl::Duration duration() const { return duration_; }

 private:
  // The query heads of a rank that read a KV head, counted in the rank.
  struct QueryHeads {
    int begin;
    int count;
  };

  QueryHeads QueryHeadsOf(int rank, int kv_head) const;
  bool Holds(int rank, int kv_head) const;
  // Rows of n numbers that a rank tells of a KV head and window: one, or where ranks share the KV
  // head and the order of a sum matters, one of each query head.
  int RowsOf(int rank, int kv_head, GroupScore group_score) const;
  int NumRows(int rank, const ScoreNeeds& needs) const;
  // Each writes rows of this rank, and returns their end.
  float* WriteMeans(absl::Span<const float> means, int kv_head, int n, float* to) const;
  float* WriteMaximum(absl::Span<const float> means, const RankScores& scores, int kv_head,
                      float* to) const;
  float* WriteRows(const ScoreNeeds& needs, const RankScores& scores, float* to) const;
  // Reads the rows of all ranks, which are `stride` floats apart.
  void ReadRows(const ScoreNeeds& needs, int n, size_t stride);
  absl::Status AllGather(absl::Span<uint8_t> all);

  const std::vector<RankHeads> heads_;
  const int rank_;
  const int group_size_;
  int num_kv_heads_ = 0;
  comm::Communicator* ranks_ = nullptr;
  uint64_t sent_bytes_ = 0;
  absl::Duration duration_;
  std::vector<float> rows_;                 // of all ranks
  std::vector<std::vector<float>> joined_;  // [windows][G, n]
  std::vector<float> focus_;                // [n]
};

}  // namespace kvec::worker::eviction

#endif  // KVEC_WORKER_EVICTION_RANK_EXCHANGE_H_
