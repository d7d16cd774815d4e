// DenseProduct on the host simulator, in place of cuBLASLt.

#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/dense_product.h"
#include "kernels/cuda/launch.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 64;

// A thread per number of y. Grid [out_features / kThreads, rows].
__global__ void PlainProductKernel(DenseOperands o) {
  const int row = static_cast<int>(blockIdx.y);
  const int col = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (col >= o.y.cols) return;
  const __nv_bfloat16* const x = o.x + static_cast<size_t>(row) * o.in_features;
  const __nv_bfloat16* const weight = o.weight + static_cast<size_t>(col) * o.in_features;
  float sum = o.bias == nullptr ? 0.0f : o.bias[col];
  for (int i = 0; i < o.in_features; ++i) {
    sum += __bfloat162float(x[i]) * __bfloat162float(weight[i]);
  }
  float& y = o.y.data[row * o.y.stride + col];
  y = o.mode == MatMulMode::kAccumulate ? y + sum : sum;
}

__device__ int32_t ToSum(int8_t number) { return number; }
__device__ float ToSum(__nv_fp8_e4m3 number) { return static_cast<float>(number); }

// The same of sums.
template <typename Number, typename Sum>
__global__ void PlainEightBitKernel(EightBitOperands o) {
  const int row = static_cast<int>(blockIdx.y);
  const int col = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (col >= o.out_features) return;
  const auto* const x = static_cast<const Number*>(o.x) + static_cast<size_t>(row) * o.in_features;
  const auto* const weight =
      static_cast<const Number*>(o.weight) + static_cast<size_t>(col) * o.in_features;
  Sum sum = 0;
  for (int i = 0; i < o.in_features; ++i) sum += ToSum(x[i]) * ToSum(weight[i]);
  static_cast<Sum*>(o.sums)[static_cast<size_t>(row) * o.out_features + col] = sum;
}

class PlainProduct : public DenseProduct {
 public:
  explicit PlainProduct(cudaStream_t stream) : stream_(stream) {}

  absl::Status Multiply(const DenseOperands& operands) override {
    const dim3 grid(static_cast<unsigned>(DivideUp(operands.y.cols, kThreads)),
                    static_cast<unsigned>(operands.y.rows));
    return ToStatus(Launch(stream_, {grid, kThreads}, PlainProductKernel, operands), "matmul");
  }

  absl::Status MultiplyEightBit(const EightBitOperands& operands) override {
    if (operands.num_rows % kEightBitRows != 0 || operands.in_features % kEightBitFeatures != 0 ||
        operands.out_features % kEightBitFeatures != 0) {
      return absl::InternalError("matmul: rows or features that cuBLASLt would not take");
    }
    const dim3 grid(static_cast<unsigned>(DivideUp(operands.out_features, kThreads)),
                    static_cast<unsigned>(operands.num_rows));
    const auto kernel = operands.type == WeightType::kInt8
                            ? PlainEightBitKernel<int8_t, int32_t>
                            : PlainEightBitKernel<__nv_fp8_e4m3, float>;
    return ToStatus(Launch(stream_, {grid, kThreads}, kernel, operands), "matmul");
  }

 private:
  const cudaStream_t stream_;
};

}  // namespace

// Every number is one thread's, whatever the mode.
absl::StatusOr<std::unique_ptr<DenseProduct>> CreateDenseProduct(cudaStream_t stream,
                                                                 ProductMode mode) {
  return std::make_unique<PlainProduct>(stream);
}

}  // namespace kvec::kernels::cuda
