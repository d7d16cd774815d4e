#ifndef KVEC_WORKER_ENGINE_LAYER_SCORER_H_
#define KVEC_WORKER_ENGINE_LAYER_SCORER_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "worker/engine/layer_candidates.h"
#include "worker/engine/sequence.h"
#include "worker/eviction/rank_exchange.h"

namespace kvec::worker::engine {

// Scores a layer's candidates by the queries that a sequence has kept, those of this rank's heads.
// Devices score the entries of each KV head; here they become scores of tokens. Owned by the
// evictor, called from its thread.
class LayerScorer {
 public:
  // All arguments must outlive the scorer. `scale`: of q·k.
  LayerScorer(kernels::Device& device, kernels::KvArena& arena, const kernels::HeadShape& heads,
              float scale)
      : device_(device), arena_(arena), heads_(heads), scale_(scale) {}

  // Of a layer of this stage. No window of `needs` is longer than the tokens in the cache. The
  // result refers to the scorer, until the next call.
  absl::StatusOr<eviction::RankScores> Score(int layer, const eviction::ScoreNeeds& needs,
                                             const LayerCandidates& candidates, Sequence& sequence);

 private:
  absl::Status ScoreEntries(int layer, const eviction::ScoreNeeds& needs,
                            const LayerCandidates& candidates, Sequence& sequence);
  absl::Status NormEntries(int layer, const LayerCandidates& candidates, Sequence& sequence);
  absl::Status TakeReading(absl::Span<const float> maxima, const LayerCandidates& candidates);
  void JoinMaxima(int focus_window, const LayerCandidates& candidates);
  // rows[num_rows, max_entries] of entries become rows[num_rows, size()] of candidates; kv_head_of:
  // of this rank, by row.
  static void SpreadRows(const LayerCandidates& candidates,
                         absl::FunctionRef<int(int row)> kv_head_of, std::vector<float>& rows);

  kernels::Device& device_;
  kernels::KvArena& arena_;
  const kernels::HeadShape& heads_;
  const float scale_;
  // Of the layer scored last.
  std::vector<float> means_;   // [windows, num_heads, candidates]
  std::vector<float> maxima_;  // [num_kv_heads, focus_window, candidates], then of all heads
  std::vector<float> value_norms_;  // [num_kv_heads, candidates]
  std::vector<float> reading_maxima_;  // [num_kv_heads, candidates]
};

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_LAYER_SCORER_H_
