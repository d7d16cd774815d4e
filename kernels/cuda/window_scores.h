#ifndef KVEC_KERNELS_CUDA_WINDOW_SCORES_H_
#define KVEC_KERNELS_CUDA_WINDOW_SCORES_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/kv_pages.h"

namespace kvec::kernels::cuda {

// kernels::WindowScoreRequest with everything in the device's memory.
struct WindowScoreArguments {
  Tensor queries;  // a ring [num_rows, num_heads · head_dim]
  int first_query = 0;
  int num_queries = 0;
  HeadShape shape;
  float log2_scale = 1.0f;  // of q·k, times log2(e)
  KvPages kv;
  PagedBatch batch;                         // one sequence
  int max_entries = 0;                      // of any of its heads
  const int32_t* num_visible = nullptr;     // [num_kv_heads, num_queries]
  const int32_t* num_candidates = nullptr;  // [num_kv_heads]
  int max_candidates = 0;
  int stride = 0;
  const int32_t* windows = nullptr;  // [num_windows]
  int num_windows = 0;
  float* means = nullptr;  // [num_windows, num_heads, stride]
  int focus_window = 0;
  float* maxima = nullptr;     // [num_kv_heads, focus_window, stride]; null: not wanted
  float* workspace = nullptr;  // WindowWorkspaceFloats
};

size_t WindowWorkspaceFloats(const HeadShape& shape, int num_queries, int max_entries);

// Two passes over the keys: the softmax's maxima and sums first, then the probabilities, which are
// reduced as they arise. Nothing of the size queries × entries is kept. A row's bits depend on its
// own query and keys alone.
cudaError_t WindowScores(cudaStream_t stream, const WindowScoreArguments& arguments);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_WINDOW_SCORES_H_
