#ifndef KVEC_WORKER_ENGINE_DEVICE_CHOOSER_H_
#define KVEC_WORKER_ENGINE_DEVICE_CHOOSER_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "worker/cache/sequence_cache.h"
#include "worker/comm/group_comm.h"
#include "worker/engine/layer_choice.h"
#include "worker/engine/sequence.h"
#include "worker/eviction/policy.h"
#include "worker/eviction/rank_exchange.h"

namespace kvec::worker::engine {

// Lets the device choose what a sequence keeps, where it and the policy can: all evicting layers
// are queued one behind the other, and only what they keep comes to the host, at once. Owned by the
// evictor, called from its thread.
//
// Ranks' scores are gathered layer by layer, queued between a layer's scores and its choice, while
// the device still chooses from the layer before. One gather of all layers would want room for all
// their scores, hundreds of megabytes for a long prompt, and its latency is what it would save: a
// few microseconds for each layer.
class DeviceChooser {
 public:
  struct Options {
    std::vector<eviction::RankHeads> ranks;  // of every rank of the stage
    int rank = 0;
    float attention_scale = 1.0f;
  };

  // All arguments must outlive the chooser.
  DeviceChooser(kernels::Device& device, kernels::KvArena& arena, const kernels::HeadShape& heads,
                const cache::CacheShape& shape, Options options)
      : device_(device),
        arena_(arena),
        heads_(heads),
        shape_(shape),
        options_(std::move(options)) {}

  void SetComm(comm::GroupComm* comm) { comm_ = comm; }

  // Whether the device can choose by the policy. Not where something was evicted before, the prompt
  // was read again, or ranks meet in the host's memory: the host chooses then.
  bool CanChoose(const eviction::Policy& policy, Sequence& sequence) const;

  // What every evicting layer is to keep, and counts it in `coverage`. layer_budgets: of the layers
  // of this stage, [layers]. Waits for the device once.
  absl::StatusOr<std::vector<LayerChoice>> Choose(const eviction::Policy& policy,
                                                  absl::Span<const uint32_t> layer_budgets,
                                                  Sequence& sequence, eviction::Coverage& coverage);

  // Of scores to other ranks; until now.
  uint64_t sent_bytes() const { return sent_bytes_; }

 private:
  // Of the layer, whichever rank holds them.
  int num_query_heads() const {
    return options_.ranks.back().first_head + options_.ranks.back().num_heads;
  }
  int num_kv_heads() const {
    return options_.ranks.back().first_kv_head + options_.ranks.back().num_kv_heads;
  }
  // Layers of this stage that evict.
  std::vector<int> EvictingLayers() const;
  absl::Status Begin(const eviction::Policy& policy, absl::Span<const int> budgets,
                     int num_candidates, const eviction::Coverage& coverage);
  absl::Status QueueLayer(int layer, const eviction::ScoreNeeds& needs, int num_candidates,
                          Sequence& sequence);
  LayerChoice ChoiceOf(int layer, kernels::ChosenEntries chosen, int num_candidates,
                       int num_tokens) const;

  kernels::Device& device_;
  kernels::KvArena& arena_;
  const kernels::HeadShape& heads_;
  const cache::CacheShape& shape_;
  const Options options_;
  comm::GroupComm* comm_ = nullptr;
  uint64_t sent_bytes_ = 0;
};

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_DEVICE_CHOOSER_H_
