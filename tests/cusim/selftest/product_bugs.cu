#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/swizzled_matrix.h"
#include "kernels/cuda/tensor_core.h"
#include "kernels/cuda/warpgroup.h"
#include "kernels/cuda/wgmma.h"
#include "tests/cusim/selftest/product_bugs.h"

namespace kvec::cusim {
namespace {

using kernels::cuda::BeginProduct;
using kernels::cuda::CommitProducts;
using kernels::cuda::FenceRegisters;
using kernels::cuda::kDepth;
using kernels::cuda::kWarpgroupThreads;
using kernels::cuda::LaneOfQuad;
using kernels::cuda::Launch;
using kernels::cuda::PackPair;
using kernels::cuda::QuadOfLane;
using kernels::cuda::ShowToProducts;
using kernels::cuda::SwizzledMatrix;
using kernels::cuda::WaitForProducts;

using Tile = SwizzledMatrix<kDepth, kProductCols>;

// The thread's part of A.
__device__ void MakeFactors(uint32_t (&a)[4]) {
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 + QuadOfLane();
  for (int i = 0; i < 4; ++i) {
    const int k = LaneOfQuad() * 2 + i / 2 * 8;
    const int of_row = row + i % 2 * 8;
    a[i] = PackPair(__nv_bfloat16(), static_cast<float>(AOf(of_row, k)),
                    static_cast<float>(AOf(of_row, k + 1)));
  }
}

__device__ void CopyTile(const __nv_bfloat16* b, unsigned char* tile) {
  const int row = static_cast<int>(threadIdx.x) / 8;
  const int vector = static_cast<int>(threadIdx.x) % 8;
  __pipeline_memcpy_async(tile + Tile::Offset(row, vector), b + row * kProductCols + vector * 8,
                          16);
  __pipeline_commit();
  __pipeline_wait_prior(0);
}

__device__ void Store(const float (&d)[32], float* out) {
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 + QuadOfLane();
  for (int i = 0; i < 32; ++i) {
    const int col = i / 4 * 8 + LaneOfQuad() * 2 + i % 2;
    out[(row + i % 4 / 2 * 8) * kProductCols + col] = d[i];
  }
}

// Barriers' bugs, which end the kernel.
template <ProductBug kBug>
__device__ void MisuseBarrier(unsigned char* memory) {
  auto* const barrier = reinterpret_cast<kernels::cuda::PhaseBarrier*>(memory);
  if (kBug == ProductBug::kBarrierNobodyOpens) {
    if (threadIdx.x == 0) barrier->Init(2);
    __syncthreads();
    if (threadIdx.x == 1) barrier->Arrive();
    barrier->Wait(0);
  }
  if (kBug == ProductBug::kBarrierWithoutInit) barrier->Arrive();
}

template <ProductBug kBug>
__global__ void ProductKernel(const __nv_bfloat16* b, float* out) {
  KVEC_DYNAMIC_SHARED_ARRAY(unsigned char, shared);
  const uint32_t behind = KVEC_SHARED_ADDRESS(shared) % Tile::kPatternBytes;
  unsigned char* const tile = shared + (Tile::kPatternBytes - behind) % Tile::kPatternBytes;
  MisuseBarrier<kBug>(tile);
  CopyTile(b, tile);
  if (kBug != ProductBug::kNoProxyFence) ShowToProducts();
  if (kBug != ProductBug::kBeginsBeforeTile) __syncthreads();

  float d[32] = {};
  uint32_t a[4];
  MakeFactors(a);
  if (kBug != ProductBug::kNoFence) FenceRegisters();
  uint32_t address = KVEC_SHARED_ADDRESS(tile);
  if (kBug == ProductBug::kReadsBeyondArray) address += Tile::kPatternBytes;
  if (kBug == ProductBug::kDiverges && threadIdx.x / 32 == 2) address += 16;
  BeginProduct<__nv_bfloat16>(d, a, Tile::AcrossRows(address, 0));
  if (kBug != ProductBug::kWaitsWithoutCommit) CommitProducts();

  if (kBug == ProductBug::kReadsBeforeWaiting) Store(d, out);
  if (kBug == ProductBug::kOverwritesTile) tile[threadIdx.x * 2 + 1] = 0;
  if (kBug == ProductBug::kSumsWrittenMeanwhile) d[31] = 0;
  if (kBug == ProductBug::kFactorsWrittenMeanwhile) a[3] = 0;
  WaitForProducts<0>(d);
  if (kBug != ProductBug::kReadsBeforeWaiting) Store(d, out);
}

template <ProductBug kBug>
cudaError_t Queue(cudaStream_t stream, const __nv_bfloat16* b, float* out) {
  constexpr int kBytes = Tile::kBytes + Tile::kPatternBytes;  // the tile begins half of it later
  return Launch(stream, {1, kWarpgroupThreads, kBytes}, ProductKernel<kBug>, b, out);
}

}  // namespace

cudaError_t RunProduct(cudaStream_t stream, ProductBug bug, const __nv_bfloat16* b, float* out) {
  switch (bug) {
    case ProductBug::kNone:
      return Queue<ProductBug::kNone>(stream, b, out);
    case ProductBug::kReadsBeforeWaiting:
      return Queue<ProductBug::kReadsBeforeWaiting>(stream, b, out);
    case ProductBug::kWaitsWithoutCommit:
      return Queue<ProductBug::kWaitsWithoutCommit>(stream, b, out);
    case ProductBug::kOverwritesTile:
      return Queue<ProductBug::kOverwritesTile>(stream, b, out);
    case ProductBug::kBeginsBeforeTile:
      return Queue<ProductBug::kBeginsBeforeTile>(stream, b, out);
    case ProductBug::kSumsWrittenMeanwhile:
      return Queue<ProductBug::kSumsWrittenMeanwhile>(stream, b, out);
    case ProductBug::kFactorsWrittenMeanwhile:
      return Queue<ProductBug::kFactorsWrittenMeanwhile>(stream, b, out);
    case ProductBug::kNoFence:
      return Queue<ProductBug::kNoFence>(stream, b, out);
    case ProductBug::kNoProxyFence:
      return Queue<ProductBug::kNoProxyFence>(stream, b, out);
    case ProductBug::kDiverges:
      return Queue<ProductBug::kDiverges>(stream, b, out);
    case ProductBug::kReadsBeyondArray:
      return Queue<ProductBug::kReadsBeyondArray>(stream, b, out);
    case ProductBug::kBarrierWithoutInit:
      return Queue<ProductBug::kBarrierWithoutInit>(stream, b, out);
    case ProductBug::kBarrierNobodyOpens:
      return Queue<ProductBug::kBarrierNobodyOpens>(stream, b, out);
  }
  return cudaErrorInvalidValue;
}

}  // namespace kvec::cusim
