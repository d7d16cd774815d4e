#ifndef KVEC_KERNELS_CUDA_DENSE_PRODUCT_H_
#define KVEC_KERNELS_CUDA_DENSE_PRODUCT_H_

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/weight_type.h"
#include "kernels/device.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cuda {

// One product with a weight, all in the GPU's memory.
struct DenseOperands {
  const __nv_bfloat16* weight = nullptr;  // [out_features, in_features]
  const __nv_bfloat16* x = nullptr;       // [y.rows, in_features]
  int in_features = 0;
  const float* bias = nullptr;  // [y.cols], may be null
  MatMulMode mode = MatMulMode::kOverwrite;
  Tensor y;  // [m, out_features]
};

// The same of numbers of 8 bits, whose scales are left out.
struct EightBitOperands {
  WeightType type = WeightType::kInt8;  // or kFp8
  const void* weight = nullptr;         // [out_features, in_features]
  const void* x = nullptr;              // [num_rows, in_features]
  void* sums = nullptr;                 // [num_rows, out_features], int32_t or, of kFp8, float
  int num_rows = 0;                     // a multiple of kEightBitRows
  int in_features = 0;                  // like out_features, a multiple of kEightBitFeatures
  int out_features = 0;
};

// Products on a stream. Called by one thread.
class DenseProduct {
 public:
  virtual ~DenseProduct() = default;

  // y (+)= x · weightᵀ (+ bias) in bfloat16, added up in float32.
  virtual absl::Status Multiply(const DenseOperands& operands) = 0;

  // sums = x · weightᵀ, added up in sums' type.
  virtual absl::Status MultiplyEightBit(const EightBitOperands& operands) = 0;
};

// How a library's algorithm is chosen.
enum class ProductMode {
  kFastest,       // for every number of rows the one that is thought best
  kDeterministic  // one per weight, whatever the number of rows, that adds along K in one piece
};

// cuBLASLt; on the host simulator, a kernel of a few lines (tests/kernels/cuda/plain_product.cu).
// UNAVAILABLE when the library is not installed. `stream` outlives the product.
absl::StatusOr<std::unique_ptr<DenseProduct>> CreateDenseProduct(cudaStream_t stream,
                                                                 ProductMode mode);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_DENSE_PRODUCT_H_
