#ifndef KVEC_KERNELS_CUDA_SCORE_SPANS_H_
#define KVEC_KERNELS_CUDA_SCORE_SPANS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace kvec::kernels::cuda {

struct SpanScoreArguments {
  int num_kv_heads = 0;
  int num_candidates = 0;                // n
  const float* weights = nullptr;        // a[num_kv_heads, n], none negative
  const int32_t* span_begins = nullptr;  // [n], see kernels::SpanRules
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
