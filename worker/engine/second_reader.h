#ifndef KVEC_WORKER_ENGINE_SECOND_READER_H_
#define KVEC_WORKER_ENGINE_SECOND_READER_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "kvec/v1/cluster.pb.h"
#include "worker/cache/query_window.h"
#include "worker/cache/sequence_cache.h"
#include "worker/engine/sequence.h"
#include "worker/model/transformer.h"

namespace kvec::worker::engine {

// Runs a sequence's prompt once more behind itself, chunk by chunk, and notes the largest attention
// that each cached token gets from it: what somebody who repeats the prompt looks at, whatever
// will be asked about it (Kim et al., "KVzip: Query-Agnostic KV Cache Compression with Context
// Reconstruction"). The sequence's cache stays as it is. Owned by the engine, called from its
// thread.
class SecondReader {
 public:
  // All arguments must outlive the reader.
  SecondReader(kernels::Device& device, kernels::KvArena& arena, const kernels::HeadShape& heads,
               const cache::CacheShape& shape, model::Transformer& transformer, float scale)
      : device_(device),
        arena_(arena),
        heads_(heads),
        shape_(shape),
        transformer_(transformer),
        scale_(scale) {}

  // INTERNAL for tokens that a prepared sequence does not have, or has evicted from.
  // RESOURCE_EXHAUSTED when the pool has no room for the chunk.
  absl::Status Read(const v1::SequenceReading& reading, Sequence& sequence);

 private:
  absl::Status CheckReading(const v1::SequenceReading& reading, const Sequence& sequence) const;
  // Runs the chunk's tokens over `cache`, which has room for them behind num_tokens others, and
  // returns their queries.
  absl::StatusOr<std::unique_ptr<cache::QueryWindow>> Forward(absl::Span<const int32_t> chunk,
                                                              int num_tokens,
                                                              const cache::SequenceCache& cache);
  // Raises maxima[num_kv_heads, num_tokens] of a layer by the attention of the chunk's queries.
  absl::Status ScoreLayer(int layer, const cache::QueryWindow& queries, int num_tokens,
                          const cache::SequenceCache& cache, std::vector<float>& maxima);

  kernels::Device& device_;
  kernels::KvArena& arena_;
  const kernels::HeadShape& heads_;
  const cache::CacheShape& shape_;
  model::Transformer& transformer_;
  const float scale_;
  std::vector<float> tile_;  // [num_kv_heads, queries, num_tokens]
};

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_SECOND_READER_H_
