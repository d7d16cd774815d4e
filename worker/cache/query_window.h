#ifndef KVEC_WORKER_CACHE_QUERY_WINDOW_H_
#define KVEC_WORKER_CACHE_QUERY_WINDOW_H_

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device.h"

namespace kvec::worker::cache {

// The last queries of a prompt in every layer, kept until its eviction has scored the cache by them:
// no second attention pass is needed then. The prompt's length is known beforehand, so only the rows
// that count are stored.
class QueryWindow {
 public:
  // RESOURCE_EXHAUSTED when memory ends. num_queries <= prompt_tokens.
  static absl::StatusOr<std::unique_ptr<QueryWindow>> Create(kernels::Device& device,
                                                             int num_layers, int query_cols,
                                                             int prompt_tokens, int num_queries);

  // Copies those of queries[rows, query_cols], whose first row is at `position`, that lie in the
  // window.
  absl::Status Store(kernels::Device& device, int layer, int position, kernels::Tensor queries);

  // [num_queries, query_cols], oldest first; `layer` counts this stage's.
  kernels::Tensor Layer(int layer) const {
    return queries_.Rows(layer * num_queries_, num_queries_);
  }
  int num_queries() const { return num_queries_; }

 private:
  QueryWindow() = default;

  std::unique_ptr<kernels::DeviceMemory> memory_;
  kernels::Tensor queries_;  // [num_layers · num_queries, query_cols]
  int num_queries_ = 0;
  int first_position_ = 0;
};

}  // namespace kvec::worker::cache

#endif  // KVEC_WORKER_CACHE_QUERY_WINDOW_H_
