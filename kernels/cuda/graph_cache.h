#ifndef KVEC_KERNELS_CUDA_GRAPH_CACHE_H_
#define KVEC_KERNELS_CUDA_GRAPH_CACHE_H_

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "kernels/work_replayer.h"

namespace kvec::kernels::cuda {

// What became of work that comes again.
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
class GraphCache {
 public:
  // All that work depends on, its tensors included.
  using Key = std::array<int64_t, 6>;

  // `counts` outlives the cache.
  GraphCache(cudaStream_t stream, bool use_graphs, GraphCounts& counts)
      : stream_(stream), use_graphs_(use_graphs), counts_(counts) {}
  ~GraphCache() { Clear(); }
  GraphCache(const GraphCache&) = delete;
  GraphCache& operator=(const GraphCache&) = delete;

  static constexpr int kMaxGraphs = 64;

  // See WorkReplayer::Run.
  absl::Status Run(const Key& key, absl::FunctionRef<absl::Status()> work);
  // The same with peers. What it does follows from its arguments, which are alike on all devices,
  // and from earlier calls: they all capture, or launch graphs of the same capture, or neither, as
  // NCCL asks. A capture that fails is therefore an error. `buffer_moves` are NumBufferMoves() of
  // all devices.
  absl::Status RunWithPeers(const Key& key, absl::FunctionRef<absl::Status()> work,
                            const std::vector<int64_t>& buffer_moves, WorkPeers& peers);

  // Whether a capture may succeed: graphs are wanted, and none has failed on this device.
  bool CanCapture() const { return use_graphs_ && counts_.failed_captures == 0; }

  // Queues work that cannot be captured on all devices.
  absl::Status RunAsItComes(absl::FunctionRef<absl::Status()> work);

  // Drops all graphs, and forgets what has come before.
  void Clear();

  // 1, 2, 4 … 64, and multiples of 64: numbers of rows for which there are graphs.
  static int PaddedRows(int num_rows);

 private:
  struct Entry {
    cudaGraphExec_t graph = nullptr;    // null: not captured yet, or gone
    std::vector<int64_t> buffer_moves;  // when it was captured
    int64_t last_use = 0;
    bool can_be_captured = true;
  };

  // Sees to it that there is a graph. False: the work cannot be captured.
  bool HasGraph(Entry& entry, absl::FunctionRef<absl::Status()> work,
                const std::vector<int64_t>& buffer_moves);

  // Null when the work cannot be captured.
  cudaGraphExec_t Capture(absl::FunctionRef<absl::Status()> work);
  void Drop(Entry& entry);
  void DropLeastUsed();

  const cudaStream_t stream_;
  const bool use_graphs_;
  GraphCounts& counts_;
  std::map<Key, Entry> entries_;
  int num_graphs_ = 0;
  int64_t num_uses_ = 0;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_GRAPH_CACHE_H_
