// Norms over per-head page tables, which no library has.

#include <cuda_runtime.h>

#include "kernels/cuda/kv_access.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/value_norms.h"
#include "kernels/cuda/warp_math.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kLanes = 8;  // share a value: a block takes one page

// Grid [pages, heads].
template <typename Stored>
__global__ void __launch_bounds__(kThreads)
    ValueNormsKernel(PagedBatch batch, int stride, KvPages kv, float* norms) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int entry =
      static_cast<int>(blockIdx.x) * kPageTokens + static_cast<int>(threadIdx.x) / kLanes;
  const int head = static_cast<int>(blockIdx.y);
  const HeadTable table = batch.tables[head];
  float squares = 0;
  float scale = 1.0f;
  if (entry < table.num_entries) {
    const Entries<Stored> entries(kv);
    const int32_t* const pages = batch.page_ids + table.first_page;
    const Stored* const value = entries.Value(pages, entry);
    scale = entries.ValueScale(pages, entry);
    for (int i = lane * kVectorSize<Stored>; i < kv.head_dim; i += kLanes * kVectorSize<Stored>) {
      float v[kVectorSize<Stored>];
      LoadVector(value + i, v);
#pragma unroll
      for (int j = 0; j < kVectorSize<Stored>; ++j) squares += v[j] * v[j];
    }
  }
  squares = WarpSum<kLanes>(squares);
  if (lane == 0 && entry < table.num_entries) {
    norms[static_cast<size_t>(head) * static_cast<size_t>(stride) + static_cast<size_t>(entry)] =
        sqrtf(squares) * scale;
  }
}

}  // namespace

cudaError_t ValueNorms(cudaStream_t stream, const PagedBatch& batch, int num_heads, int stride,
                       const KvPages& kv, float* norms) {
  static_assert(kThreads / kLanes == kPageTokens);
  const dim3 grid(static_cast<unsigned>(DivideUp(stride, kPageTokens)),
                  static_cast<unsigned>(num_heads));
  return WithStored(kv.type, [&](auto stored) {
    return Launch(stream, {grid, kThreads}, ValueNormsKernel<decltype(stored)>, batch, stride, kv,
                  norms);
  });
}

}  // namespace kvec::kernels::cuda
