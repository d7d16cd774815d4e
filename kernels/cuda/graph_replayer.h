#ifndef KVEC_KERNELS_CUDA_GRAPH_REPLAYER_H_
#define KVEC_KERNELS_CUDA_GRAPH_REPLAYER_H_

#include <cuda_runtime_api.h>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "kernels/cuda/graph_cache.h"
#include "kernels/cuda/step_tables.h"
#include "kernels/work_replayer.h"

namespace kvec::kernels::cuda {

// A model's work as graphs. One thread uses it.
class GraphReplayer : public WorkReplayer {
 public:
  // Without `use_graphs` rows are padded all the same, so that they do not depend on it. `tables`
  // and `counts` outlive the replayer.
  GraphReplayer(cudaStream_t stream, bool use_graphs, StepTables& tables, GraphCounts& counts)
      : tables_(tables), graphs_(stream, use_graphs, counts) {}

  int PaddedRows(int num_rows) const override { return GraphCache::PaddedRows(num_rows); }
  absl::Status Run(const Key& key, absl::FunctionRef<absl::Status()> work,
                   WorkPeers* peers) override;
  void Forget() override { graphs_.Clear(); }

 private:
  // Of layers also the entries that attention is to reckon with, and the rows that are kept.
  GraphCache::Key FullKey(const Key& key) const;
  absl::Status RunWithPeers(const Key& key, absl::FunctionRef<absl::Status()> work,
                            WorkPeers& peers);

  StepTables& tables_;
  GraphCache graphs_;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_GRAPH_REPLAYER_H_
