#ifndef KVEC_KERNELS_CUDA_KV_ACCESS_H_
#define KVEC_KERNELS_CUDA_KV_ACCESS_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/kv_pages.h"
#include "kernels/cuda/numbers.h"

// How kernels read and write entries of the arena. Device code, but for WithStored.
namespace kvec::kernels::cuda {

// Numbers of a 16-byte load.
template <typename Stored>
inline constexpr int kVectorSize = 16 / static_cast<int>(sizeof(Stored));

// kSize numbers of 16 bytes, or 8; `from` is a multiple of as many.
template <typename Stored, int kSize>
__device__ __forceinline__ void LoadVector(const Stored* from, float (&to)[kSize]) {
  using Bits = std::conditional_t<kSize == kVectorSize<Stored>, uint4, uint2>;
  const Bits bits = *reinterpret_cast<const Bits*>(from);
  Stored values[kSize];
  static_assert(sizeof(values) == sizeof(bits));
  memcpy(static_cast<void*>(values), &bits, sizeof(values));
#pragma unroll
  for (int i = 0; i < kSize; ++i) to[i] = ToFloat(values[i]);
}

// An arena whose pages hold numbers of type Stored.
template <typename Stored>
class Entries {
 public:
  // Whether entries have scales, and keys are rotated.
  static constexpr bool kScaled = std::is_same_v<Stored, int8_t>;

  __device__ explicit Entries(const KvPages& kv)
      : pages_(static_cast<Stored*>(kv.pages)),
        positions_(kv.positions),
        head_dim_(static_cast<size_t>(kv.head_dim)) {}

  // [head_dim], of entry `entry` of a head with these pages.
  __device__ __forceinline__ Stored* Key(const int32_t* pages, int entry) const {
    return Page(pages, entry) + static_cast<size_t>(entry % kPageTokens) * head_dim_;
  }
  __device__ __forceinline__ Stored* Value(const int32_t* pages, int entry) const {
    return Key(pages, entry) + kPageTokens * head_dim_;
  }
  // What an entry's numbers are to be multiplied with.
  __device__ __forceinline__ float KeyScale(const int32_t* pages, int entry) const {
    if constexpr (kScaled) {
      return __half2float(Scales(pages, entry)[0]);
    } else {
      return 1.0f;
    }
  }
  __device__ __forceinline__ float ValueScale(const int32_t* pages, int entry) const {
    if constexpr (kScaled) {
      return __half2float(Scales(pages, entry)[kPageTokens]);
    } else {
      return 1.0f;
    }
  }
  // The key's; the value's is kPageTokens behind. Only where there are scales.
  __device__ __forceinline__ __half* Scales(const int32_t* pages, int entry) const {
    static_assert(kScaled);
    return reinterpret_cast<__half*>(Page(pages, entry) + 2 * kPageTokens * head_dim_) +
           entry % kPageTokens;
  }
  __device__ __forceinline__ int32_t& Position(const int32_t* pages, int entry) const {
    return positions_[static_cast<size_t>(pages[entry / kPageTokens]) * kPageTokens +
                      static_cast<size_t>(entry % kPageTokens)];
  }

 private:
  __device__ __forceinline__ Stored* Page(const int32_t* pages, int entry) const {
    constexpr size_t kScaleBytes = kScaled ? 2 * kPageTokens * sizeof(__half) : 0;
    return pages_ + static_cast<size_t>(pages[entry / kPageTokens]) *
                        (2 * kPageTokens * head_dim_ + kScaleBytes / sizeof(Stored));
  }

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

// Calls function(Stored()) with the type that the arena's numbers have.
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
      return function(int8_t());
  }
  return cudaErrorInvalidValue;
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_KV_ACCESS_H_
