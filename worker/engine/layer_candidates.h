#ifndef KVEC_WORKER_ENGINE_LAYER_CANDIDATES_H_
#define KVEC_WORKER_ENGINE_LAYER_CANDIDATES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace kvec::worker::engine {

// What a layer's eviction chooses from: the tokens that some KV head of the layer holds, whichever
// rank that is on, but for the observation window, which every head holds and keeps. Earlier
// evictions have left different tokens to different heads; here each token has one index, and each
// of this rank's heads tells at which entry it holds it.
class LayerCandidates {
 public:
  struct Options {
    int first_kv_head = 0;  // of this rank, among those whose positions are given
    int num_kv_heads = 0;   // of this rank
    int window = 0;         // > 0: tokens of the observation window
  };

  // `positions` that each head holds, ascending: of all KV heads of the layer; or of this rank's,
  // where all hold the same.
  LayerCandidates(std::vector<std::vector<int32_t>> positions, const Options& options);

  int size() const { return static_cast<int>(positions_.size()); }
  // [size()] ascending
  absl::Span<const int32_t> positions() const { return positions_; }
  // Whether every head holds every candidate: nothing was evicted yet, or the same of all heads.
  bool is_complete() const { return is_complete_; }
  // [num_kv_heads] of this rank: how many of a head's entries are candidates. They are its first
  // ones.
  absl::Span<const int32_t> num_entries() const { return num_entries_; }
  int max_entries() const;
  // The candidate that each of the entries of a head of this rank is, ascending.
  absl::Span<const int32_t> OfEntries(int kv_head) const {
    return of_entries_[options_.first_kv_head + kv_head];
  }

  // [heads whose positions were given, size()]: the head holds the candidate.
  std::vector<uint8_t> Held() const;

  // The entries of a head of this rank that hold the selected candidates, and those of the window;
  // ascending.
  std::vector<int32_t> Entries(int kv_head, absl::Span<const int32_t> selected) const;

 private:
  const Options options_;
  bool is_complete_ = true;
  std::vector<int32_t> positions_;
  std::vector<int32_t> num_entries_;
  std::vector<std::vector<int32_t>> of_entries_;  // [heads whose positions were given][num_entries]
};

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_LAYER_CANDIDATES_H_
