#ifndef KVEC_WORKER_ENGINE_SEQUENCE_H_
#define KVEC_WORKER_ENGINE_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "kernels/sampling.h"
#include "kvec/v1/cluster.pb.h"
#include "worker/cache/query_window.h"
#include "worker/cache/sequence_cache.h"
#include "worker/engine/token_counter.h"

namespace kvec::worker::engine {

// What a worker remembers of a sequence between Steps. Owned by the engine.
class Sequence {
 public:
  Sequence(const v1::SequenceStart& start, std::unique_ptr<cache::SequenceCache> cache);

  // Another choice of the same prompt, which goes on with the token that this sequence's last row
  // sampled for it; `cache` is a fork of this sequence's.
  std::unique_ptr<Sequence> Fork(const v1::SequenceStart& start,
                                 std::unique_ptr<cache::SequenceCache> cache) const;

  uint64_t id() const { return id_; }
  cache::SequenceCache& cache() { return *cache_; }
  const cache::SequenceCache& cache() const { return *cache_; }
  const v1::CachePolicy& cache_policy() const { return cache_policy_; }
  // Takes the cache of a sequence that has ended.
  std::unique_ptr<cache::SequenceCache> TakeCache() { return std::move(cache_); }
  // The tokens that the first evictions are about; see SequenceStart.first_prompt_tokens.
  uint32_t first_prompt_tokens() const { return first_prompt_tokens_; }

  // The last queries; null: nothing will be evicted any more.
  cache::QueryWindow* query_window() const { return query_window_.get(); }
  void set_query_window(std::unique_ptr<cache::QueryWindow> window) {
    query_window_ = std::move(window);
  }
  // With a second reading: the largest attention that each token got, [layers of this stage][KV heads,
  // tokens]; empty before, and for layers that do not evict.
  std::vector<std::vector<float>>& reading_maxima() { return reading_maxima_; }
  // All tokens as they were fed, while there is a query window: for policies that look at them.
  const std::vector<int32_t>& tokens() const { return tokens_; }
  // Position of the next token fed.
  int64_t next_position() const { return cache_->num_tokens(); }

  // The token that this sequence's last Step sampled; -1: none yet.
  int32_t last_sampled() const { return last_sampled_; }
  // Takes note of a token that was sampled for `choice`: this sequence's, or one to be forked.
  void SetSampled(uint32_t choice, int32_t token);
  // Where others sample: which of the messages of SampledTokens tells the last one; 0: none does.
  uint64_t awaited_sample() const { return awaited_sample_; }
  void set_awaited_sample(uint64_t number) { awaited_sample_ = number; }
  uint32_t choice() const { return sampling_.choice(); }

  // Takes note of a token that is fed at `position`, for the penalties and the eviction.
  void Count(int32_t token, uint32_t position);

  // How to draw the token at `position` for `choice` from `row`; spans point into this sequence.
  kernels::SampleRequest DrawRequest(int row, uint32_t position, uint32_t choice) const;

  // How to score the given token at `position`.
  kernels::SampleRequest ScoreRequest(int row, uint32_t position, int32_t token) const;

 private:
  bool HasPenalties() const;

  const uint64_t id_;
  const v1::StepSampling sampling_;
  const v1::CachePolicy cache_policy_;
  const uint32_t prompt_tokens_;
  const uint32_t first_prompt_tokens_;
  std::unique_ptr<cache::SequenceCache> cache_;
  std::unique_ptr<cache::QueryWindow> query_window_;
  std::vector<int32_t> tokens_;
  std::vector<std::vector<float>> reading_maxima_;
  int32_t last_sampled_ = -1;
  uint64_t awaited_sample_ = 0;
  absl::flat_hash_map<uint32_t, int32_t> sampled_for_forks_;  // choice → first token
  TokenCounter counter_;
  std::vector<std::pair<int32_t, float>> logit_bias_;
  std::vector<int32_t> stop_token_ids_;
};

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_SEQUENCE_H_
