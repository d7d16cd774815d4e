// What ranks exchange of policies' scores, which no library has.
//
// Each reads its rows once and writes others: WeighCandidates 4 n (num_heads + 2 num_kv_heads)
// bytes, SumRows 4 n (num_heads + num_kv_heads) of a window, LargestRows 4 n (num_groups + 1)
// num_rows, JoinRows 4 n (num_rows + num_joined). A thread per number that is written.

#include <cuda_runtime.h>

#include "kernels/cuda/kv_access.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/score_rows.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 256;

dim3 GridOf(int n, int num_rows) {
  return {static_cast<unsigned>(DivideUp(n, kThreads)), static_cast<unsigned>(num_rows)};
}

__device__ int CandidateOf() {
  return static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
}

__device__ size_t PlaceOf(int row, int n, int t) {
  return static_cast<size_t>(row) * static_cast<size_t>(n) + static_cast<size_t>(t);
}

// Grid [n / kThreads, num_kv_heads].
__global__ void __launch_bounds__(kThreads)
    WeighCandidatesKernel(HeadShape shape, const float* means, int n, float* weights) {
  const int t = CandidateOf();
  if (t >= n) return;
  const int kv_head = static_cast<int>(blockIdx.y);
  const QueryGroup group = QueryGroupOf(shape, kv_head);
  float max = 0;
  for (int head = group.first; head < group.first + group.count; ++head) {
    max = fmaxf(max, means[PlaceOf(head, n, t)]);
  }
  float& weight = weights[PlaceOf(kv_head, n, t)];
  weight = __fmul_rn(max, weight);
}

// Grid [n / kThreads, num_runs].
__global__ void __launch_bounds__(kThreads)
    SumRowsKernel(const float* rows, const RowRun* runs, int n, float* sums) {
  const int t = CandidateOf();
  if (t >= n) return;
  const RowRun run = runs[blockIdx.y];
  float sum = 0;
  for (int row = run.first; row < run.first + run.count; ++row) sum += rows[PlaceOf(row, n, t)];
  sums[PlaceOf(static_cast<int>(blockIdx.y), n, t)] = sum;
}

// Grid [n / kThreads, num_rows].
__global__ void __launch_bounds__(kThreads)
    LargestRowsKernel(const float* maxima, int num_groups, int n, float* largest) {
  const int t = CandidateOf();
  if (t >= n) return;
  const int row = static_cast<int>(blockIdx.y);
  const int num_rows = static_cast<int>(gridDim.y);
  float max = 0;
  for (int group = 0; group < num_groups; ++group) {
    max = fmaxf(max, maxima[PlaceOf(group * num_rows + row, n, t)]);
  }
  largest[PlaceOf(row, n, t)] = max;
}

// Grid [n / kThreads, num_joined].
__global__ void __launch_bounds__(kThreads) JoinRowsKernel(JoinArguments a) {
  const int t = CandidateOf();
  if (t >= a.num_candidates) return;
  const int joined = static_cast<int>(blockIdx.y);
  float number = 0;
  for (int row = 0; row < a.num_rows; ++row) {
    if (a.joined_by[row] != joined) continue;
    const float next = a.rows[PlaceOf(row, a.num_candidates, t)];
    number = joined < a.num_summed ? number + next : fmaxf(number, next);
  }
  a.joined[PlaceOf(joined, a.num_candidates, t)] = number;
}

}  // namespace

cudaError_t WeighCandidates(cudaStream_t stream, const HeadShape& shape, const float* means, int n,
                            float* weights) {
  return Launch(stream, {GridOf(n, shape.num_kv_heads), kThreads}, WeighCandidatesKernel, shape,
                means, n, weights);
}

cudaError_t SumRows(cudaStream_t stream, const float* rows, const RowRun* runs, int num_runs, int n,
                    float* sums) {
  return Launch(stream, {GridOf(n, num_runs), kThreads}, SumRowsKernel, rows, runs, n, sums);
}

cudaError_t LargestRows(cudaStream_t stream, const float* maxima, int num_groups, int num_rows,
                        int n, float* largest) {
  return Launch(stream, {GridOf(n, num_rows), kThreads}, LargestRowsKernel, maxima, num_groups, n,
                largest);
}

cudaError_t JoinRows(cudaStream_t stream, const JoinArguments& arguments) {
  return Launch(stream, {GridOf(arguments.num_candidates, arguments.num_joined), kThreads},
                JoinRowsKernel, arguments);
}

}  // namespace kvec::kernels::cuda
