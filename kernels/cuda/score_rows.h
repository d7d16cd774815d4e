#ifndef KVEC_KERNELS_CUDA_SCORE_ROWS_H_
#define KVEC_KERNELS_CUDA_SCORE_ROWS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/tensor.h"

// What ranks make of the candidates, in rows of n numbers that are not negative, on the way from
// window scores to the scores of a policy. Sums are float32, in the order of the rows.
namespace kvec::kernels::cuda {

// Neighbouring rows.
struct RowRun {
  int32_t first;
  int32_t count;
};

// weights[num_kv_heads, n], ‖v‖₂ of every candidate, times the largest of means[num_heads, n] among
// the query heads that read the KV head.
cudaError_t WeighCandidates(cudaStream_t stream, const HeadShape& shape, const float* means, int n,
                            float* weights);

// sums[num_runs, n]: of runs[num_runs] of rows.
cudaError_t SumRows(cudaStream_t stream, const float* rows, const RowRun* runs, int num_runs, int n,
                    float* sums);

// largest[num_rows, n]: of `maxima`, [num_groups, num_rows, n], the largest among the groups.
cudaError_t LargestRows(cudaStream_t stream, const float* maxima, int num_groups, int num_rows,
                        int n, float* largest);

// joined[num_joined, n] of rows[num_rows, n]: the sum, from num_summed on the largest, of those
// with its number in joined_by[num_rows].
struct JoinArguments {
  const float* rows = nullptr;
  const int32_t* joined_by = nullptr;
  int num_rows = 0;
  int num_candidates = 0;  // n
  int num_summed = 0;
  int num_joined = 0;
  float* joined = nullptr;
};
cudaError_t JoinRows(cudaStream_t stream, const JoinArguments& arguments);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_SCORE_ROWS_H_
