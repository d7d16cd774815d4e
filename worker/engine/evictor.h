#ifndef KVEC_WORKER_ENGINE_EVICTOR_H_
#define KVEC_WORKER_ENGINE_EVICTOR_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "kvec/v1/cluster.pb.h"
#include "worker/cache/sequence_cache.h"
#include "worker/comm/group_comm.h"
#include "worker/engine/device_chooser.h"
#include "worker/engine/layer_choice.h"
#include "worker/engine/layer_scorer.h"
#include "worker/engine/sequence.h"
#include "worker/eviction/policy.h"
#include "worker/eviction/rank_exchange.h"
#include "worker/model/model_weights.h"

namespace kvec::worker::engine {

// Carries eviction orders out: scores a layer's cache by the sequence's last queries, lets the
// policy choose, and compacts the pages, layer after layer. Owned by the engine, called from its
// thread.
//
// Between the workers of a group: one message about what earlier layers kept from each rank of a
// stage to the same rank of the next, before and after the stage's layers; and in every layer one
// all-gather of scores among the stage's ranks, before it one of positions where an earlier
// eviction left different ones. Every rank then chooses alike for all heads of the layer: on the
// host by the policy, or on a device that can (DeviceChooser).
class Evictor {
 public:
  struct Options {
    model::LayerRange layers;
    std::vector<eviction::RankHeads> ranks;  // of every rank of the stage
    int rank = 0;
    IndexRange reported_kv_heads;  // see RankShare
    float attention_scale = 1.0f;
    std::string sentence_end_bits;  // FormGroup's
  };

  // All arguments must outlive the evictor.
  Evictor(kernels::Device& device, kernels::KvArena& arena, const kernels::HeadShape& heads,
          const cache::CacheShape& shape, Options options)
      : device_(device),
        arena_(arena),
        heads_(heads),
        shape_(shape),
        options_(std::move(options)),
        exchange_(options_.ranks, options_.rank, heads.group_size),
        scorer_(device, arena, heads, options_.attention_scale),
        device_chooser_(device, arena, heads, shape,
                        {options_.ranks, options_.rank, options_.attention_scale}) {}

  // As Transformer::SetComm.
  void SetComm(comm::GroupComm* comm) {
    comm_ = comm;
    exchange_.SetComm(comm == nullptr ? nullptr : comm->ranks.get());
    device_chooser_.SetComm(comm);
  }
  void set_sentence_end_bits(std::string bits) { options_.sentence_end_bits = std::move(bits); }

  // Makes a sequence keep the queries that its policy will score by; does nothing under policy full
  // or when the sequence will be too short to lose anything. INVALID_ARGUMENT for an unknown
  // policy.
  absl::Status Prepare(Sequence& sequence);

  // How much every evicting layer of a prepared sequence would keep at each of `budgets`
  // (SequenceWork.curve_budgets).
  absl::StatusOr<v1::CurveReport> Curves(absl::Span<const uint32_t> budgets, Sequence& sequence);

  // Evicts a prepared sequence that is at the order's position. INTERNAL when it is not.
  absl::StatusOr<v1::EvictionReport> Evict(const v1::EvictionOrder& order, Sequence& sequence);

 private:
  // A layer whose ranks have told each other what they know of it.
  struct ScoredLayer {
    LayerCandidates candidates;
    std::vector<uint8_t> held;  // of scores
    eviction::RankScores mine;
    eviction::LayerScores scores;
  };

  absl::Status CheckOrder(const v1::EvictionOrder& order, const Sequence& sequence) const;
  // num_tokens: of the sequence when the policy is to choose.
  absl::StatusOr<std::unique_ptr<eviction::Policy>> PolicyOf(const Sequence& sequence,
                                                             int num_tokens) const;
  // What the stages before have kept of the order's sequence.
  absl::StatusOr<eviction::Coverage> BeginCoverage(int num_tokens);
  absl::Status PassCoverageOn(const eviction::Coverage& coverage);
  // Of a layer of this stage.
  absl::StatusOr<LayerCandidates> CandidatesOf(int layer, const Sequence& sequence);
  absl::StatusOr<ScoredLayer> ScoreLayer(int layer, const eviction::Policy& policy,
                                         Sequence& sequence);
  // Each evicts all layers of this stage that evict, and tells what they kept.
  absl::Status EvictByHost(const v1::EvictionOrder& order, const eviction::Policy& policy,
                           Sequence& sequence, eviction::Coverage& coverage,
                           v1::EvictionReport& report);
  absl::Status EvictByDevice(const v1::EvictionOrder& order, const eviction::Policy& policy,
                             Sequence& sequence, eviction::Coverage& coverage,
                             v1::EvictionReport& report);
  // What one layer (counted in this stage) is to keep, by the policy.
  absl::StatusOr<LayerChoice> ChooseLayer(int layer, int budget, const eviction::Policy& policy,
                                          Sequence& sequence, eviction::Coverage& coverage);
  // Moves what a layer keeps to its heads' leading pages, and frees the others.
  absl::StatusOr<v1::LayerCacheUsage> Compact(const v1::EvictionOrder& order,
                                              const LayerChoice& choice, Sequence& sequence);
  // See LayerChoice.
  float AttentionMassKept(const eviction::RankScores& scores,
                          const eviction::Selection& selection) const;
  bool ClosesSentence(int32_t token) const;

  kernels::Device& device_;
  kernels::KvArena& arena_;
  const kernels::HeadShape& heads_;
  const cache::CacheShape& shape_;
  Options options_;
  eviction::RankExchange exchange_;
  LayerScorer scorer_;
  DeviceChooser device_chooser_;
  comm::GroupComm* comm_ = nullptr;
};

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_EVICTOR_H_
