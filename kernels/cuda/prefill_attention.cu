// Prefill attention over per-head page tables in float32, on the ordinary cores: for arenas of
// float32 and for heads that tensor cores can't cut; see tensor_prefill.cu for the others. A row's
// bits depend on its role and place only.
//
// A block walks over the head's entries in tiles of 32 with a running softmax.

#include <cuda_runtime.h>

#include "kernels/cuda/hadamard.h"
#include "kernels/cuda/kv_access.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/prefill_attention.h"
#include "kernels/cuda/prefill_tile.h"
#include "kernels/cuda/tensor_prefill.h"
#include "kernels/cuda/wgmma_prefill.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = kPrefillThreads;
constexpr int kTileEntries = 32;
constexpr int kScoresPerLane = kTileEntries / kRowLanes;
constexpr int kMaxHeadDim = 256;

// A block's shared memory. Rows are one float longer than they are read, so that the lanes of a
// warp, which read down a column, find it in different banks.
struct TileMemory {
  float* queries;  // [kTileRows][head_dim + 1], times the scale
  float* entries;  // [kTileEntries][head_dim + 1], keys and then values
  float* weights;  // [kTileRows][kTileEntries + 1]

  static __host__ __device__ int Floats(int head_dim) {
    return (kTileRows + kTileEntries) * (head_dim + 1) + kTileRows * (kTileEntries + 1);
  }
  __device__ TileMemory(float* shared, int head_dim)
      : queries(shared),
        entries(queries + kTileRows * (head_dim + 1)),
        weights(entries + kTileEntries * (head_dim + 1)) {}
};

// Widens the keys or values of entries [begin, begin + kTileEntries) to `to`; zeros for those that
// no row of the tile sees, whose pages may be gone.
template <typename Stored>
__device__ void LoadEntries(const RowTask& task, const Entries<Stored>& entries, bool values,
                            int begin, int head_dim, float* to) {
  const int num_vectors = head_dim / kVectorSize<Stored>;
  for (int i = static_cast<int>(threadIdx.x); i < kTileEntries * num_vectors; i += kThreads) {
    const int entry = begin + i / num_vectors;
    const int col = i % num_vectors * kVectorSize<Stored>;
    float numbers[kVectorSize<Stored>] = {};
    float scale = 1.0f;
    if (entry >= task.tile_begin && entry < task.tile_end) {
      LoadVector((values ? entries.Value(task.pages, entry) : entries.Key(task.pages, entry)) + col,
                 numbers);
      scale = values ? entries.ValueScale(task.pages, entry) : entries.KeyScale(task.pages, entry);
    }
    float* const row = to + (entry - begin) * (head_dim + 1) + col;
#pragma unroll
    for (int j = 0; j < kVectorSize<Stored>; ++j) row[j] = numbers[j] * scale;
  }
}

// Zeros for rows that the tile lacks.
template <typename Stored>
__device__ void LoadQueries(const AttentionArguments& a, const RowTask& task, float* to) {
  const int head_dim = a.shape.head_dim;
  const int stride = head_dim + 1;
  for (int i = static_cast<int>(threadIdx.x); i < kTileRows * head_dim; i += kThreads) {
    const int query = i / head_dim;
    const int col = i % head_dim;
    const float* const q =
        a.qkv.data + (task.tile.first.row + query) * a.qkv.stride + task.head * head_dim;
    to[query * stride + col] = query < task.tile.num_rows ? q[col] * a.log2_scale : 0.0f;
  }
  if constexpr (Entries<Stored>::kScaled) {
    RotateRows<kThreads>(to, kTileRows, stride, head_dim);
  }
}

// kDims: numbers of the output row that a thread keeps. Grid [tiles, num_heads].
template <typename Stored, int kDims>
__global__ void __launch_bounds__(kThreads) PrefillKernel(AttentionArguments a) {
  const int head_dim = a.shape.head_dim;
  const int stride = head_dim + 1;
  const int row = static_cast<int>(threadIdx.x) / kRowLanes;
  const int lane = static_cast<int>(threadIdx.x) % kRowLanes;
  const RowTask task(a, row);
  KVEC_DYNAMIC_SHARED_ARRAY(float, shared);
  const TileMemory memory(shared, head_dim);
  LoadQueries<Stored>(a, task, memory.queries);
  const Entries<Stored> entries(a.kv);
  const float* const query = memory.queries + row * stride;
  float* const weights = memory.weights + row * (kTileEntries + 1);
  RunningSoftmax softmax;
  float out[kDims] = {};
  for (int begin = task.tile_begin / kTileEntries * kTileEntries; begin < task.tile_end;
       begin += kTileEntries) {
    LoadEntries(task, entries, /*values=*/false, begin, head_dim, memory.entries);
    __syncthreads();
    float scores[kScoresPerLane] = {};
    for (int i = 0; i < head_dim; ++i) {
#pragma unroll
      for (int j = 0; j < kScoresPerLane; ++j) {
        scores[j] += query[i] * memory.entries[(lane + j * kRowLanes) * stride + i];
      }
    }
    const float rescale = softmax.Update(task, begin + lane, scores);
#pragma unroll
    for (int j = 0; j < kScoresPerLane; ++j) weights[lane + j * kRowLanes] = scores[j];
    __syncthreads();
    LoadEntries(task, entries, /*values=*/true, begin, head_dim, memory.entries);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kDims; ++j) out[j] *= rescale;
    for (int entry = 0; entry < kTileEntries; ++entry) {
      const float weight = weights[entry];
#pragma unroll
      for (int j = 0; j < kDims; ++j) {
        const int col = lane + j * kRowLanes;
        if (col < head_dim) out[j] += weight * memory.entries[entry * stride + col];
      }
    }
    __syncthreads();
  }
  if (row >= task.tile.num_rows) return;
  float* const to = a.out.data + (task.tile.first.row + row) * a.out.stride + task.head * head_dim;
#pragma unroll
  for (int j = 0; j < kDims; ++j) {
    const int col = lane + j * kRowLanes;
    if (col < head_dim) to[col] = out[j] / softmax.sum;
  }
}

template <typename Stored>
cudaError_t LaunchPrefill(cudaStream_t stream, const AttentionArguments& a) {
  const dim3 grid(static_cast<unsigned>(a.batch.num_prefill_tiles),
                  static_cast<unsigned>(a.shape.num_heads));
  const size_t shared_bytes =
      static_cast<size_t>(TileMemory::Floats(a.shape.head_dim)) * sizeof(float);
  const int dims = DivideUp(a.shape.head_dim, kRowLanes);
  const auto kernel = dims <= 8    ? PrefillKernel<Stored, 8>
                      : dims <= 16 ? PrefillKernel<Stored, 16>
                                   : PrefillKernel<Stored, kMaxHeadDim / kRowLanes>;
  return Launch(stream, {grid, kThreads, shared_bytes}, kernel, a);
}

}  // namespace

cudaError_t PrefillAttention(cudaStream_t stream, const AttentionArguments& arguments) {
  if (arguments.batch.num_prefill_tiles == 0) return cudaSuccess;
  if (CanPrefillOnTensorCores(arguments)) {
    const bool by_wgmma =
        arguments.use_wgmma && CanPrefillByWgmma(arguments.kv.type, arguments.shape.head_dim);
    return by_wgmma ? WgmmaPrefill(stream, arguments) : TensorPrefill(stream, arguments);
  }
  return WithStored(arguments.kv.type, [&](auto stored) {
    return LaunchPrefill<decltype(stored)>(stream, arguments);
  });
}

}  // namespace kvec::kernels::cuda
