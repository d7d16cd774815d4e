#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/append_kv.h"
#include "kernels/cuda/hadamard.h"
#include "kernels/cuda/kv_access.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp_math.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 128;

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

// k and v of [head_dim] as an entry. `shared` [head_dim].
__device__ void Store(const float* k, const float* v, int head_dim, const Entries<int8_t>& entries,
                      const int32_t* pages, int entry, float* shared) {
  __half* const scales = entries.Scales(pages, entry);
  for (int i = static_cast<int>(threadIdx.x); i < head_dim; i += kThreads) shared[i] = k[i];
  RotateRows<kThreads>(shared, 1, head_dim, head_dim);
  RoundToInt8(shared, head_dim, entries.Key(pages, entry), scales);
  for (int i = static_cast<int>(threadIdx.x); i < head_dim; i += kThreads) shared[i] = v[i];
  __syncthreads();
  RoundToInt8(shared, head_dim, entries.Value(pages, entry), scales + kPageTokens);
}

template <typename Stored>
__device__ void Store(const float* k, const float* v, int head_dim, const Entries<Stored>& entries,
                      const int32_t* pages, int entry, float* /*shared*/) {
  Stored* const key = entries.Key(pages, entry);
  Stored* const value = entries.Value(pages, entry);
  for (int i = static_cast<int>(threadIdx.x); i < head_dim; i += kThreads) {
    key[i] = FromFloat<Stored>(k[i]);
    value[i] = FromFloat<Stored>(v[i]);
  }
}

// A block per row and KV head.
template <typename Stored>
__global__ void __launch_bounds__(kThreads)
    AppendKvKernel(Tensor qkv, HeadShape shape, const int32_t* positions, PagedBatch batch,
                   KvPages kv) {
  const BatchRow row = batch.rows[blockIdx.x];
  if (row.row < 0) return;
  const int kv_head = static_cast<int>(blockIdx.y);
  const HeadTable table = batch.tables[row.sequence * shape.num_kv_heads + kv_head];
  const int32_t* const pages = batch.page_ids + table.first_page;
  const int entry = table.num_entries - row.num_after - 1;
  const Entries<Stored> entries(kv);
  const float* const k =
      qkv.data + row.row * qkv.stride + (shape.num_heads + kv_head) * shape.head_dim;
  const float* const v = k + shape.num_kv_heads * shape.head_dim;
  KVEC_DYNAMIC_SHARED_ARRAY(float, shared);
  Store(k, v, shape.head_dim, entries, pages, entry, shared);
  if (threadIdx.x == 0) entries.Position(pages, entry) = positions[row.row];
}

}  // namespace

cudaError_t AppendKv(cudaStream_t stream, Tensor qkv, const HeadShape& shape,
                     const int32_t* positions, const PagedBatch& batch, const KvPages& kv) {
  if (batch.num_rows == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(batch.num_rows), static_cast<unsigned>(shape.num_kv_heads));
  return WithStored(kv.type, [&](auto stored) {
    using Stored = decltype(stored);
    const size_t shared_floats = Entries<Stored>::kScaled ? static_cast<size_t>(shape.head_dim) : 0;
    return Launch(stream, {grid, kThreads, shared_floats * sizeof(float)}, AppendKvKernel<Stored>,
                  qkv, shape, positions, batch, kv);
  });
}

}  // namespace kvec::kernels::cuda
