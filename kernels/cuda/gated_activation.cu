// Of our own: FlashInfer's reads and writes one type of 16 bits; this reads a product's float32 and
// writes what the next product takes.

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/cuda/gated_activation.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/warp_math.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxGridY = 65535;

// silu(x) = x · sigmoid(x); gelu_tanh(x) = x · sigmoid(2 u), u = sqrt(2/π) · (x + 0.044715 x³).
template <Activation kActivation>
__device__ float Activate(float gate) {
  float argument = gate;
  if (kActivation == Activation::kGeluTanh) {
    constexpr float kTwoSqrtTwoOverPi = 1.5957691216057308f;
    argument = kTwoSqrtTwoOverPi * gate * (1.0f + 0.044715f * gate * gate);
  }
  return gate / (1.0f + exp2f(-kLog2E * argument));
}

template <typename Number, Activation kActivation>
__global__ void __launch_bounds__(kThreads)
    GatedActivationKernel(Tensor gate_up, ProductInput out) {
  const int col = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (col >= out.cols) return;
  for (int row = static_cast<int>(blockIdx.y); row < out.rows; row += static_cast<int>(gridDim.y)) {
    const float* const gates = gate_up.data + row * gate_up.stride;
    const float activated = Activate<kActivation>(gates[col]) * gates[out.cols + col];
    RowOf<Number>(out, row)[col] = FromFloat<Number>(activated);
  }
}

}  // namespace

cudaError_t GatedActivation(cudaStream_t stream, Tensor gate_up, Activation activation,
                            ProductInput out) {
  const dim3 grid(static_cast<unsigned>(DivideUp(out.cols, kThreads)),
                  static_cast<unsigned>(std::min(out.rows, kMaxGridY)));
  return WithNumber(out.type, [&](auto number) {
    using Number = decltype(number);
    const auto kernel = activation == Activation::kSilu
                            ? GatedActivationKernel<Number, Activation::kSilu>
                            : GatedActivationKernel<Number, Activation::kGeluTanh>;
    return Launch(stream, {grid, kThreads}, kernel, gate_up, out);
  });
}

}  // namespace kvec::kernels::cuda
