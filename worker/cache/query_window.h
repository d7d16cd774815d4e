#ifndef KVEC_WORKER_CACHE_QUERY_WINDOW_H_
#define KVEC_WORKER_CACHE_QUERY_WINDOW_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/device.h"

namespace kvec::worker::cache {

// The last queries of a sequence in every layer, kept until an eviction scores the cache by them: no
// second attention pass is needed then. A ring: the query of position p lies in row p % capacity.
class QueryWindow {
 public:
  struct Options {
    int num_layers = 0;  // of this stage
    int query_cols = 0;  // num_heads · head_dim
    int capacity = 0;    // queries kept
    // Where the position of the only eviction is known: the first query that counts there. Earlier
    // ones are not stored.
    int first_position = 0;
  };

  // RESOURCE_EXHAUSTED when memory ends.
  static absl::StatusOr<std::unique_ptr<QueryWindow>> Create(kernels::Device& device,
                                                             const Options& options);

  // Appends where the queries of positions `position` and on are kept, which follow those kept
  // before: those of a Step's rows first_row … first_row + num_rows. Some need not be kept.
  void Keep(int position, int first_row, int num_rows, std::vector<kernels::KeptRow>& kept) const;

  // [capacity, query_cols]; `layer` counts this stage's.
  kernels::Tensor Layer(int layer) const {
    return queries_.Rows(layer * options_.capacity, options_.capacity);
  }
  int capacity() const { return options_.capacity; }
  int RowOf(int position) const { return position % options_.capacity; }

 private:
  explicit QueryWindow(const Options& options) : options_(options) {}

  const Options options_;
  std::unique_ptr<kernels::DeviceMemory> memory_;
  kernels::Tensor queries_;  // [num_layers · capacity, query_cols]
};

}  // namespace kvec::worker::cache

#endif  // KVEC_WORKER_CACHE_QUERY_WINDOW_H_
