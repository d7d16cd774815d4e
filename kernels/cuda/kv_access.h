#ifndef KVEC_KERNELS_CUDA_KV_ACCESS_H_
#define KVEC_KERNELS_CUDA_KV_ACCESS_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstring>

#include "kernels/cuda/kv_pages.h"

// How kernels read and write entries of the arena. Device code, but for WithStored.
namespace kvec::kernels::cuda {

__device__ __forceinline__ float ToFloat(float value) { return value; }
__device__ __forceinline__ float ToFloat(__half value) { return __half2float(value); }
__device__ __forceinline__ float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }

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

// Numbers of a 16-byte load.
template <typename Stored>
inline constexpr int kVectorSize = 16 / static_cast<int>(sizeof(Stored));

// `from` is a multiple of 16 bytes.
template <typename Stored>
__device__ __forceinline__ void LoadVector(const Stored* from, float (&to)[kVectorSize<Stored>]) {
  const uint4 bits = *reinterpret_cast<const uint4*>(from);
  Stored values[kVectorSize<Stored>];
  memcpy(static_cast<void*>(values), &bits, sizeof(values));
#pragma unroll
  for (int i = 0; i < kVectorSize<Stored>; ++i) to[i] = ToFloat(values[i]);
}

// An arena whose pages hold numbers of type Stored.
template <typename Stored>
class Entries {
 public:
  __device__ explicit Entries(const KvPages& kv)
      : pages_(static_cast<Stored*>(kv.pages)),
        positions_(kv.positions),
        head_dim_(static_cast<size_t>(kv.head_dim)) {}

  // [head_dim], of entry `entry` of a head with these pages.
  __device__ __forceinline__ Stored* Key(const int32_t* pages, int entry) const {
    const size_t page = static_cast<size_t>(pages[entry / kPageTokens]);
    return pages_ + (page * 2 * kPageTokens + static_cast<size_t>(entry % kPageTokens)) * head_dim_;
  }
  __device__ __forceinline__ Stored* Value(const int32_t* pages, int entry) const {
    return Key(pages, entry) + kPageTokens * head_dim_;
  }
  __device__ __forceinline__ int32_t& Position(const int32_t* pages, int entry) const {
    return positions_[static_cast<size_t>(pages[entry / kPageTokens]) * kPageTokens +
                      static_cast<size_t>(entry % kPageTokens)];
  }

 private:
  Stored* const pages_;
  int32_t* const positions_;
  const size_t head_dim_;
};

// The query heads of a KV head, which a rank may hold a part of.
struct QueryGroup {
  int first;
  int count;
};

__host__ __device__ inline QueryGroup QueryGroupOf(const HeadShape& shape, int kv_head) {
  int first = kv_head * shape.group_size - shape.group_offset;
  int end = first + shape.group_size;
  if (first < 0) first = 0;
  if (end > shape.num_heads) end = shape.num_heads;
  return {first, end - first};
}

// Calls function(Stored()) with the type that the arena's numbers have; cudaErrorInvalidValue for
// int8.
template <typename Function>
cudaError_t WithStored(KvType type, const Function& function) {
  switch (type) {
    case KvType::kBF16:
      return function(__nv_bfloat16());
    case KvType::kF16:
      return function(__half());
    case KvType::kF32:
      return function(float());
    case KvType::kInt8:
      break;  // the CPU's only
  }
  return cudaErrorInvalidValue;
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_KV_ACCESS_H_
