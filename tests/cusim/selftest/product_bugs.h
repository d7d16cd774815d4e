#ifndef KVEC_TESTS_CUSIM_SELFTEST_PRODUCT_BUGS_H_
#define KVEC_TESTS_CUSIM_SELFTEST_PRODUCT_BUGS_H_

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace kvec::cusim {

// What a warpgroup's product can do wrong.
enum class ProductBug {
  kNone,
  kReadsBeforeWaiting,
  kWaitsWithoutCommit,
  kOverwritesTile,           // before the product that reads it was waited for
  kBeginsBeforeTile,         // which other warps have not filled
  kSumsWrittenMeanwhile,     // registers of D
  kFactorsWrittenMeanwhile,  // registers of A
  kNoFence,
  kNoProxyFence,
  kDiverges,  // other operands in one of the warps
  kReadsBeyondArray,
  kBarrierWithoutInit,
  kBarrierNobodyOpens
};

inline constexpr int kProductRows = 64;
inline constexpr int kProductCols = 64;

// Queues a kernel of one warpgroup: out[64][64] = a · b with a[i][k] = AOf(i, k) and b[16][64].
cudaError_t RunProduct(cudaStream_t stream, ProductBug bug, const __nv_bfloat16* b, float* out);

inline int AOf(int row, int k) { return (row + 2 * k) % 7 - 3; }

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_SELFTEST_PRODUCT_BUGS_H_
