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
#include "worker/engine/layer_scorer.h"
#include "worker/engine/sequence.h"
#include "worker/eviction/policy.h"
#include "worker/model/model_weights.h"

namespace kvec::worker::engine {

// Carries eviction orders out: scores a layer's cache by the sequence's last queries, lets the
// policy choose, and compacts the pages, layer after layer. Owned by the engine, called from its
// thread.
class Evictor {
 public:
  struct Options {
    model::LayerRange layers;
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
        scorer_(device, arena, heads, options_.attention_scale) {}

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
  absl::Status CheckOrder(const v1::EvictionOrder& order, const Sequence& sequence) const;
  // num_tokens: of the sequence when the policy is to choose.
  absl::StatusOr<std::unique_ptr<eviction::Policy>> PolicyOf(const Sequence& sequence,
                                                             int num_tokens) const;
  // Evicts one layer (counted in this stage), and tells what it kept.
  absl::StatusOr<v1::LayerCacheUsage> EvictLayer(int layer, const v1::EvictionOrder& order,
                                                 const eviction::Policy& policy, Sequence& sequence,
                                                 eviction::Coverage& coverage);
  bool ClosesSentence(int32_t token) const;

  kernels::Device& device_;
  kernels::KvArena& arena_;
  const kernels::HeadShape& heads_;
  const cache::CacheShape& shape_;
  Options options_;
  LayerScorer scorer_;
};

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_EVICTOR_H_
