#ifndef KVEC_KERNELS_CUDA_NUMBERS_H_
#define KVEC_KERNELS_CUDA_NUMBERS_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/tensor.h"

// Numbers as they are stored, and as they are computed with. Device code, but for WithNumber.
namespace kvec::kernels::cuda {

__device__ __forceinline__ float ToFloat(int8_t value) { return static_cast<float>(value); }
__device__ __forceinline__ float ToFloat(float value) { return value; }
__device__ __forceinline__ float ToFloat(__half value) { return __half2float(value); }
__device__ __forceinline__ float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }

// Rounded to nearest.
template <typename Stored>
__device__ __forceinline__ Stored FromFloat(float value);
template <>
__device__ __forceinline__ float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ __half FromFloat<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ __forceinline__ __nv_bfloat16 FromFloat<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// A row of a product's input, to be written.
template <typename Number>
__device__ __forceinline__ Number* RowOf(const ProductInput& input, int row) {
  return static_cast<Number*>(input.data) + row * input.stride;
}

// Calls function(Number()) with the type that a product's input has.
template <typename Function>
cudaError_t WithNumber(NumberType type, const Function& function) {
  return type == NumberType::kF32 ? function(float()) : function(__nv_bfloat16());
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_NUMBERS_H_
