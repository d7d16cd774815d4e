#include <cuda_runtime.h>

#include "kernels/cuda/append_kv.h"
#include "kernels/cuda/kv_access.h"
#include "kernels/cuda/launch.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 128;

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
  Stored* const key = entries.Key(pages, entry);
  Stored* const value = entries.Value(pages, entry);
  const float* const k =
      qkv.data + row.row * qkv.stride + (shape.num_heads + kv_head) * shape.head_dim;
  const float* const v = k + shape.num_kv_heads * shape.head_dim;
  for (int i = static_cast<int>(threadIdx.x); i < shape.head_dim; i += kThreads) {
    key[i] = FromFloat<Stored>(k[i]);
    value[i] = FromFloat<Stored>(v[i]);
  }
  if (threadIdx.x == 0) entries.Position(pages, entry) = positions[row.row];
}

}  // namespace

cudaError_t AppendKv(cudaStream_t stream, Tensor qkv, const HeadShape& shape,
                     const int32_t* positions, const PagedBatch& batch, const KvPages& kv) {
  if (batch.num_rows == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(batch.num_rows), static_cast<unsigned>(shape.num_kv_heads));
  return WithStored(kv.type, [&](auto stored) {
    return Launch(stream, {grid, kThreads}, AppendKvKernel<decltype(stored)>, qkv, shape, positions,
                  batch, kv);
  });
}

}  // namespace kvec::kernels::cuda
