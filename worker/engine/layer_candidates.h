#ifndef KVEC_WORKER_ENGINE_LAYER_CANDIDATES_H_
#define KVEC_WORKER_ENGINE_LAYER_CANDIDATES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "worker/cache/sequence_cache.h"

namespace kvec::worker::engine {

// What a layer's eviction chooses from: the tokens that some KV head of the layer holds, but for the
// observation window, which every head holds and keeps. Earlier evictions have left different tokens
// to different heads; here each token has one index, and each head tells at which entry it holds it.
class LayerCandidates {
 public:
  // `window` > 0: tokens of the observation window.
  LayerCandidates(const cache::SequenceCache& cache, int layer, int num_kv_heads, int window);

  int size() const { return static_cast<int>(positions_.size()); }
  // [size()] ascending
  absl::Span<const int32_t> positions() const { return positions_; }
  // Whether every head holds every candidate: nothing was evicted yet, or the same of all heads.
  bool is_complete() const { return is_complete_; }
  // [num_kv_heads]: how many of a head's entries are candidates. They are its first ones.
  absl::Span<const int32_t> num_entries() const { return num_entries_; }
  int max_entries() const;
  // The candidate that each of a head's entries is, ascending.
  absl::Span<const int32_t> OfEntries(int kv_head) const { return of_entries_[kv_head]; }

  // [num_kv_heads, size()]: the head holds the candidate.
  std::vector<uint8_t> Held() const;

  // The entries of a head that hold the selected candidates, and those of the window; ascending.
  std::vector<int32_t> Entries(int kv_head, absl::Span<const int32_t> selected) const;

 private:
  const int window_;
  bool is_complete_ = true;
  std::vector<int32_t> positions_;
  std::vector<int32_t> num_entries_;
  std::vector<std::vector<int32_t>> of_entries_;  // [num_kv_heads][num_entries]
};

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_LAYER_CANDIDATES_H_
