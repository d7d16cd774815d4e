#ifndef KVEC_KERNELS_CUDA_GRAPH_REPLAYER_H_
#define KVEC_KERNELS_CUDA_GRAPH_REPLAYER_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <tuple>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "kernels/cuda/step_tables.h"
#include "kernels/work_replayer.h"

namespace kvec::kernels::cuda {

// What became of the work that replayers were given.
struct GraphCounts {
  int64_t runs = 0;      // without a graph
  int64_t captures = 0;  // each of which is replayed at once
  int64_t replays = 0;
  int64_t failed_captures = 0;
};

// Work as CUDA graphs: one launch in place of hundreds. Work is queued as it comes the first time,
// which makes room for everything; the second time it is captured. Graphs go when memory that
// operations work in has moved, and the least used when there are many; what cannot be captured is
// queued as it comes. One thread uses it.
class GraphReplayer : public WorkReplayer {
 public:
  // Without `use_graphs` rows are padded all the same, so that they do not depend on it. `tables`
  // and `counts` outlive the replayer.
  GraphReplayer(cudaStream_t stream, bool use_graphs, const StepTables& tables, GraphCounts& counts)
      : stream_(stream), use_graphs_(use_graphs), tables_(tables), counts_(counts) {}
  ~GraphReplayer() override;

  static constexpr int kMaxGraphs = 64;

  // 1, 2, 4 … 64, and multiples of 64.
  int PaddedRows(int num_rows) const override;
  absl::Status Run(const Key& key, absl::FunctionRef<absl::Status()> work) override;

 private:
  // Part, first row, rows; for layers, the entries that attention is to reckon with and the rows
  // that are kept.
  using FullKey = std::tuple<Key::Part, int, int, int, int>;

  struct Entry {
    cudaGraphExec_t graph = nullptr;  // null: not captured yet, or gone
    int64_t buffer_moves = 0;         // when it was captured
    int64_t last_use = 0;
    bool can_be_captured = true;
  };

  // Null when the work cannot be captured.
  cudaGraphExec_t Capture(absl::FunctionRef<absl::Status()> work);
  void Drop(Entry& entry);
  void DropLeastUsed();

  const cudaStream_t stream_;
  const bool use_graphs_;
  const StepTables& tables_;
  GraphCounts& counts_;
  std::map<FullKey, Entry> entries_;
  int num_graphs_ = 0;
  int64_t num_uses_ = 0;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_GRAPH_REPLAYER_H_
