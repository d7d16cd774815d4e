#include "kernels/cuda/graph_cache.h"

#include <utility>

#include "common/status_macros.h"
#include "kernels/cuda/cuda_buffer.h"
#include "kernels/cuda/cuda_status.h"

namespace kvec::kernels::cuda {

void GraphCache::Clear() {
  for (auto& [key, entry] : entries_) Drop(entry);
  entries_.clear();
}

int GraphCache::PaddedRows(int num_rows) {
  constexpr int kLargestPower = 64;
  if (num_rows > kLargestPower) {
    return (num_rows + kLargestPower - 1) / kLargestPower * kLargestPower;
  }
  int padded = 1;
  while (padded < num_rows) padded *= 2;
  return padded;
}

absl::Status GraphCache::RunAsItComes(absl::FunctionRef<absl::Status()> work) {
  ++counts_.runs;
  return work();
}

absl::Status GraphCache::Run(const Key& key, absl::FunctionRef<absl::Status()> work) {
  const auto [found, is_new] = entries_.try_emplace(key);
  Entry& entry = found->second;
  if (!use_graphs_ || is_new || !entry.can_be_captured) return RunAsItComes(work);
  if (!HasGraph(entry, work, {NumBufferMoves()})) {
    entry.can_be_captured = false;
    ++counts_.failed_captures;
    return work();
  }
  return ToStatus(cudaGraphLaunch(entry.graph, stream_), "graph");
}

absl::Status GraphCache::RunWithPeers(const Key& key, absl::FunctionRef<absl::Status()> work,
                                      const std::vector<int64_t>& buffer_moves, WorkPeers& peers) {
  const auto [found, is_new] = entries_.try_emplace(key);
  Entry& entry = found->second;
  if (is_new) return RunAsItComes(work);
  if (!HasGraph(entry, work, buffer_moves)) {
    // That one of them is lost says nothing of the next time.
    KVEC_RETURN_IF_ERROR(peers.Launch([] { return absl::OkStatus(); }));
    ++counts_.failed_captures;
    return absl::InternalError("graph: work that is done with peers cannot be captured");
  }
  return peers.Launch([&] { return ToStatus(cudaGraphLaunch(entry.graph, stream_), "graph"); });
}

bool GraphCache::HasGraph(Entry& entry, absl::FunctionRef<absl::Status()> work,
                          const std::vector<int64_t>& buffer_moves) {
  if (entry.graph != nullptr && entry.buffer_moves != buffer_moves) Drop(entry);
  entry.last_use = ++num_uses_;
  if (entry.graph != nullptr) {
    ++counts_.replays;
    return true;
  }
  entry.graph = Capture(work);
  if (entry.graph == nullptr) return false;
  ++counts_.captures;
  ++num_graphs_;
  entry.buffer_moves = buffer_moves;
  if (num_graphs_ > kMaxGraphs) DropLeastUsed();
  return true;
}

cudaGraphExec_t GraphCache::Capture(absl::FunctionRef<absl::Status()> work) {
  // Other threads' calls do not matter: they have streams of their own.
  if (cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
    (void)cudaGetLastError();
    return nullptr;
  }
  const absl::Status status = work();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaError_t error = cudaStreamEndCapture(stream_, &graph);
  if (error == cudaSuccess && status.ok()) error = cudaGraphInstantiate(&executable, graph, 0);
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  if (error != cudaSuccess) (void)cudaGetLastError();  // the work's next attempt is another one
  return error == cudaSuccess ? executable : nullptr;
}

void GraphCache::Drop(Entry& entry) {
  if (entry.graph == nullptr) return;
  (void)cudaGraphExecDestroy(std::exchange(entry.graph, nullptr));
  --num_graphs_;
}

void GraphCache::DropLeastUsed() {
  Entry* least = nullptr;
  for (auto& [key, entry] : entries_) {
    const bool is_less = least == nullptr || entry.last_use < least->last_use;
    if (entry.graph != nullptr && is_less) least = &entry;
  }
  Drop(*least);
}

}  // namespace kvec::kernels::cuda
