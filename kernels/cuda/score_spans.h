#ifndef KVEC_KERNELS_CUDA_SCORE_SPANS_H_
#define KVEC_KERNELS_CUDA_SCORE_SPANS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/tensor.h"

namespace kvec::kernels::cuda {

// weights[num_kv_heads, n], ‖v‖₂ of every candidate, times the largest of means[num_heads, n] among
// the query heads that read the KV head.
cudaError_t WeighCandidates(cudaStream_t stream, const HeadShape& shape, const float* means, int n,
                            float* weights);

// joined[num_kv_heads, n]: the largest of the rows of `weights`, [num_rows, n], that belong to each
// KV head; kv_heads[num_rows] tells whose each is, or -1.
cudaError_t JoinWeights(cudaStream_t stream, const float* weights, const int32_t* kv_heads,
                        int num_rows, int num_kv_heads, int n, float* joined);

struct SpanScoreArguments {
  int num_kv_heads = 0;
  int num_candidates = 0;                // n
  const float* weights = nullptr;        // a[num_kv_heads, n], none negative
  const int32_t* span_begins = nullptr;  // [n], see kernels::ChoiceRules
  float span_floor = 0;
  float tie_break = 0;
  float decay = 0;
  float* scores = nullptr;  // P[num_kv_heads, n]
};

// P = max(a, span_floor · M) + tie_break · D; M[t] = the largest a in t's span, D[t] = the largest
// over u of a[u] · decay^|t - u|. Rounded as the host does, which multiplies by `decay` token by
// token.
cudaError_t ScoreSpans(cudaStream_t stream, const SpanScoreArguments& arguments);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_SCORE_SPANS_H_
