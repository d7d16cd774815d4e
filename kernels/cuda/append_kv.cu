// Of our own: every KV head has pages of its own, where libraries that append (FlashInfer) have one
// table for all heads of a token; and keys are turned, and rotated for int8, on their way there.

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/append_kv.h"
#include "kernels/cuda/hadamard.h"
#include "kernels/cuda/kv_access.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rotate_head.h"
#include "kernels/cuda/warp_math.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpThreads;

// numbers[head_dim], whole numbers up to 127 in magnitude, times the scale are nearest to
// from[head_dim] in shared memory. All threads of the block call it; `from` may be written
// afterwards. The scale is not finite where a number is not, so that it shows in what is computed.
__device__ void RoundToInt8(const float* from, int head_dim, int8_t* numbers, __half* scale) {
  constexpr float kLargest = 127;
  float largest = 0;
  for (int i = static_cast<int>(threadIdx.x); i < head_dim; i += kThreads) {
    const float magnitude = fabsf(from[i]);
    largest = fmaxf(largest, magnitude == magnitude ? magnitude : -kNegativeInfinity);
  }
  const __half rounded = __float2half_rn(BlockMax<kThreads>(largest) / kLargest);
  const float inverse = __half2float(rounded) > 0 ? 1.0f / __half2float(rounded) : 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < head_dim; i += kThreads) {
    numbers[i] = static_cast<int8_t>(rintf(fminf(fmaxf(from[i] * inverse, -kLargest), kLargest)));
  }
  if (threadIdx.x == 0) *scale = rounded;
  __syncthreads();
}

// key[head_dim], in shared memory, and v as an entry; `key` is room to work in, too.
__device__ void Store(float* key, const float* v, int head_dim, const Entries<int8_t>& entries,
                      const int32_t* pages, int entry) {
  __half* const scales = entries.Scales(pages, entry);
  RotateRows<kThreads>(key, 1, head_dim, head_dim);
  RoundToInt8(key, head_dim, entries.Key(pages, entry), scales);
  for (int i = static_cast<int>(threadIdx.x); i < head_dim; i += kThreads) key[i] = v[i];
  __syncthreads();
  RoundToInt8(key, head_dim, entries.Value(pages, entry), scales + kPageTokens);
}

template <typename Stored>
__device__ void Store(float* key, const float* v, int head_dim, const Entries<Stored>& entries,
                      const int32_t* pages, int entry) {
  Stored* const to_key = entries.Key(pages, entry);
  Stored* const to_value = entries.Value(pages, entry);
  for (int i = static_cast<int>(threadIdx.x); i < head_dim; i += kThreads) {
    to_key[i] = FromFloat<Stored>(key[i]);
    to_value[i] = FromFloat<Stored>(v[i]);
  }
}

// A block per row, and KV head or kWarps query heads: grid [rows, num_kv_heads + num_heads /
// kWarps].
template <typename Stored, RopePairing kPairing>
__global__ void __launch_bounds__(kThreads)
    RotateAndAppendKernel(Tensor qkv, HeadShape shape, HeadRotation rotation,
                          const int32_t* positions, PagedBatch batch, KvPages kv) {
  const BatchRow row = batch.rows[blockIdx.x];
  if (row.row < 0) return;
  const int head_dim = shape.head_dim;
  float* const heads = qkv.data + row.row * qkv.stride;
  const float* const cosines = rotation.angles.data + row.row * rotation.angles.stride;
  const float eps = rotation.norm.eps;
  const int kv_head = static_cast<int>(blockIdx.y);
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  if (kv_head >= shape.num_kv_heads) {
    const int head = (kv_head - shape.num_kv_heads) * kWarps + warp;
    if (head >= shape.num_heads) return;
    float* const q = heads + head * head_dim;
    RotateHead<kPairing>(q, head_dim, rotation.norm.q_weight, eps, cosines, q);
    return;
  }
  KVEC_DYNAMIC_SHARED_ARRAY(float, key);
  const float* const k = heads + (shape.num_heads + kv_head) * head_dim;
  if (warp == 0) RotateHead<kPairing>(k, head_dim, rotation.norm.k_weight, eps, cosines, key);
  __syncthreads();
  const HeadTable table = batch.tables[row.sequence * shape.num_kv_heads + kv_head];
  const int32_t* const pages = batch.page_ids + table.first_page;
  const int entry = table.num_entries - row.num_after - 1;
  const Entries<Stored> entries(kv);
  Store(key, k + shape.num_kv_heads * head_dim, head_dim, entries, pages, entry);
  if (threadIdx.x == 0) entries.Position(pages, entry) = positions[row.row];
}

}  // namespace

cudaError_t RotateAndAppendKv(cudaStream_t stream, Tensor qkv, const HeadShape& shape,
                              const HeadRotation& rotation, const int32_t* positions,
                              const PagedBatch& batch, const KvPages& kv) {
  if (batch.num_rows == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(batch.num_rows),
                  static_cast<unsigned>(shape.num_kv_heads + DivideUp(shape.num_heads, kWarps)));
  const size_t shared_bytes = static_cast<size_t>(shape.head_dim) * sizeof(float);
  return WithStored(kv.type, [&](auto stored) {
    using Stored = decltype(stored);
    const auto kernel = rotation.pairing == RopePairing::kHalves
                            ? RotateAndAppendKernel<Stored, RopePairing::kHalves>
                            : RotateAndAppendKernel<Stored, RopePairing::kInterleaved>;
    return Launch(stream, {grid, kThreads, shared_bytes}, kernel, qkv, shape, rotation, positions,
                  batch, kv);
  });
}

}  // namespace kvec::kernels::cuda
