#ifndef KVEC_WORKER_ENGINE_TOKEN_COUNTER_H_
#define KVEC_WORKER_ENGINE_TOKEN_COUNTER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "kernels/sampling.h"

namespace kvec::worker::engine {

// How often each token occurs in a sequence's prompt and output; kept only for sequences with
// penalties.
class TokenCounter {
 public:
  void Add(int32_t token, bool is_prompt) {
    const auto [entry, is_new] = index_.try_emplace(token, counts_.size());
    if (is_new) counts_.push_back({token, 0, 0});
    kernels::TokenCount& count = counts_[entry->second];
    ++(is_prompt ? count.in_prompt : count.generated);
  }

  // One entry per distinct token.
  absl::Span<const kernels::TokenCount> counts() const { return counts_; }

 private:
  absl::flat_hash_map<int32_t, size_t> index_;  // token → place in counts_
  std::vector<kernels::TokenCount> counts_;
};

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_TOKEN_COUNTER_H_
