#ifndef KVEC_KERNELS_CUDA_DENSE_PRODUCT_H_
#define KVEC_KERNELS_CUDA_DENSE_PRODUCT_H_

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
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

// Products in bfloat16 with sums in float32. Called by one thread.
class DenseProduct {
 public:
  virtual ~DenseProduct() = default;

  // y (+)= x · weightᵀ (+ bias), on the stream.
  virtual absl::Status Multiply(const DenseOperands& operands) = 0;
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
