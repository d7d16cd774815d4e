// Prefill attention over per-head page tables on tensor cores, by CUDA's own WMMA, whose tiles of
// 16 are the pages' and the row tiles': libraries that have it share one page table between all
// heads.
//
// A block walks over the head's entries in tiles of 64 with a running softmax. Its four warps
// divide the entries for the scores, and the columns for the output, which is kept in shared
// memory: what a fragment's registers hold of a row is not told, so rows are rescaled there. Tiles
// begin at multiples of 64, so that a row's bits depend on its role and place only.

#include <cuda_runtime.h>
#include <mma.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/prefill_tile.h"
#include "kernels/cuda/tensor_prefill.h"

namespace kvec::kernels::cuda {
namespace {

namespace wmma = nvcuda::wmma;

constexpr int kTile = 16;  // of WMMA, in every direction
constexpr int kWarps = kPrefillThreads / kWarpThreads;
constexpr int kTileEntries = kWarps * kTile;
constexpr int kScoresPerLane = kTileEntries / kRowLanes;
static_assert(kTileRows == kTile);

template <typename Stored>
using RowMajorA = wmma::fragment<wmma::matrix_a, kTile, kTile, kTile, Stored, wmma::row_major>;
template <typename Stored, typename Layout>
using FragmentB = wmma::fragment<wmma::matrix_b, kTile, kTile, kTile, Stored, Layout>;
using Accumulator = wmma::fragment<wmma::accumulator, kTile, kTile, kTile, float>;

// A block's shared memory. Rows are 16 bytes longer than they are read, so that neighbouring rows
// begin in different banks; tiles begin at multiples of 32 bytes, as WMMA wants it.
template <typename Stored>
struct TensorMemory {
  static constexpr int kScoreStride = kTileEntries + 4;
  static constexpr int kWeightStride = kTileEntries + 8;

  float* out;       // [kTileRows][out_stride], not yet divided by the sums
  float* scores;    // [kTileRows][kScoreStride]
  Stored* weights;  // [kTileRows][kWeightStride]
  Stored* queries;  // [kTileRows][stride]
  Stored* entries;  // [kTileEntries][stride], keys and then values
  int stride;
  int out_stride;

  static __host__ __device__ size_t Bytes(int head_dim) {
    const size_t floats = kTileRows * static_cast<size_t>(head_dim + 4 + kScoreStride);
    const size_t numbers =
        static_cast<size_t>(kTileRows) * kWeightStride +
        static_cast<size_t>(kTileRows + kTileEntries) * static_cast<size_t>(head_dim + 8);
    return floats * sizeof(float) + numbers * sizeof(Stored);
  }
  __device__ TensorMemory(unsigned char* shared, int head_dim)
      : out(reinterpret_cast<float*>(shared)),
        scores(out + kTileRows * (head_dim + 4)),
        weights(reinterpret_cast<Stored*>(scores + kTileRows * kScoreStride)),
        queries(weights + kTileRows * kWeightStride),
        entries(queries + kTileRows * (head_dim + 8)),
        stride(head_dim + 8),
        out_stride(head_dim + 4) {}
};

// Copies the keys or values of entries [begin, begin + kTileEntries); zeros for those that no row
// of the tile sees, whose pages may be gone.
template <typename Stored>
__device__ void CopyEntries(const RowTask& task, const Entries<Stored>& entries, bool values,
                            int begin, int head_dim, const TensorMemory<Stored>& memory) {
  const int num_vectors = head_dim / kVectorSize<Stored>;
  for (int i = static_cast<int>(threadIdx.x); i < kTileEntries * num_vectors;
       i += kPrefillThreads) {
    const int entry = begin + i / num_vectors;
    const int col = i % num_vectors * kVectorSize<Stored>;
    uint4 bits = {0, 0, 0, 0};
    if (entry >= task.tile_begin && entry < task.tile_end) {
      const Stored* const row =
          values ? entries.Value(task.pages, entry) : entries.Key(task.pages, entry);
      bits = *reinterpret_cast<const uint4*>(row + col);
    }
    *reinterpret_cast<uint4*>(memory.entries + (entry - begin) * memory.stride + col) = bits;
  }
}

template <typename Stored>
__device__ void LoadQueries(const AttentionArguments& a, const RowTask& task,
                            const TensorMemory<Stored>& memory) {
  const int head_dim = a.shape.head_dim;
  for (int i = static_cast<int>(threadIdx.x); i < kTileRows * head_dim; i += kPrefillThreads) {
    const int row = i / head_dim;
    const int col = i % head_dim;
    const float* const q =
        a.qkv.data + (task.tile.first.row + row) * a.qkv.stride + task.head * head_dim;
    memory.queries[row * memory.stride + col] =
        FromFloat<Stored>(row < task.tile.num_rows ? q[col] : 0.0f);
    memory.out[row * memory.out_stride + col] = 0.0f;
  }
}

// scores = queries · keysᵀ, a warp's 16 entries.
template <typename Stored>
__device__ void MultiplyKeys(int warp, int head_dim, const TensorMemory<Stored>& memory) {
  Accumulator scores;
  wmma::fill_fragment(scores, 0.0f);
  for (int col = 0; col < head_dim; col += kTile) {
    RowMajorA<Stored> queries;
    FragmentB<Stored, wmma::col_major> keys;
    wmma::load_matrix_sync(queries, memory.queries + col, static_cast<unsigned>(memory.stride));
    wmma::load_matrix_sync(keys, memory.entries + warp * kTile * memory.stride + col,
                           static_cast<unsigned>(memory.stride));
    wmma::mma_sync(scores, queries, keys, scores);
  }
  wmma::store_matrix_sync(memory.scores + warp * kTile, scores, TensorMemory<Stored>::kScoreStride,
                          wmma::mem_row_major);
}

// out += weights · values, every kWarps-th 16 columns.
template <typename Stored>
__device__ void MultiplyValues(int warp, int head_dim, const TensorMemory<Stored>& memory) {
  for (int col = warp * kTile; col < head_dim; col += kWarps * kTile) {
    Accumulator out;
    wmma::load_matrix_sync(out, memory.out + col, static_cast<unsigned>(memory.out_stride),
                           wmma::mem_row_major);
    for (int entry = 0; entry < kTileEntries; entry += kTile) {
      RowMajorA<Stored> weights;
      FragmentB<Stored, wmma::row_major> values;
      wmma::load_matrix_sync(weights, memory.weights + entry, TensorMemory<Stored>::kWeightStride);
      wmma::load_matrix_sync(values, memory.entries + entry * memory.stride + col,
                             static_cast<unsigned>(memory.stride));
      wmma::mma_sync(out, weights, values, out);
    }
    wmma::store_matrix_sync(memory.out + col, out, static_cast<unsigned>(memory.out_stride),
                            wmma::mem_row_major);
  }
}

// Grid [tiles, num_heads].
template <typename Stored>
__global__ void __launch_bounds__(kPrefillThreads) TensorPrefillKernel(AttentionArguments a) {
  const int head_dim = a.shape.head_dim;
  const int row = static_cast<int>(threadIdx.x) / kRowLanes;
  const int lane = static_cast<int>(threadIdx.x) % kRowLanes;
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const RowTask task(a, row);
  KVEC_DYNAMIC_SHARED_ARRAY(unsigned char, shared);
  const TensorMemory<Stored> memory(shared, head_dim);
  LoadQueries(a, task, memory);

  const Entries<Stored> entries(a.kv);
  const float* const row_scores = memory.scores + row * TensorMemory<Stored>::kScoreStride;
  Stored* const row_weights = memory.weights + row * TensorMemory<Stored>::kWeightStride;
  float* const row_out = memory.out + row * memory.out_stride;
  RunningSoftmax softmax;
  for (int begin = task.tile_begin / kTileEntries * kTileEntries; begin < task.tile_end;
       begin += kTileEntries) {
    CopyEntries(task, entries, /*values=*/false, begin, head_dim, memory);
    __syncthreads();
    MultiplyKeys(warp, head_dim, memory);
    __syncthreads();
    CopyEntries(task, entries, /*values=*/true, begin, head_dim, memory);
    float scores[kScoresPerLane];
#pragma unroll
    for (int i = 0; i < kScoresPerLane; ++i) {
      scores[i] = row_scores[lane + i * kRowLanes] * a.log2_scale;
    }
    const float rescale = softmax.Update(task, begin + lane, scores);
#pragma unroll
    for (int i = 0; i < kScoresPerLane; ++i) {
      row_weights[lane + i * kRowLanes] = FromFloat<Stored>(scores[i]);
    }
    for (int col = lane; col < head_dim; col += kRowLanes) row_out[col] *= rescale;
    __syncthreads();
    MultiplyValues(warp, head_dim, memory);
    __syncthreads();
  }
  if (row >= task.tile.num_rows) return;
  float* const to = a.out.data + (task.tile.first.row + row) * a.out.stride + task.head * head_dim;
  for (int col = lane; col < head_dim; col += kRowLanes) to[col] = row_out[col] / softmax.sum;
}

template <typename Stored>
cudaError_t LaunchTensorPrefill(cudaStream_t stream, const AttentionArguments& a) {
  const dim3 grid(static_cast<unsigned>(a.batch.num_prefill_tiles),
                  static_cast<unsigned>(a.shape.num_heads));
  return Launch(stream, {grid, kPrefillThreads, TensorMemory<Stored>::Bytes(a.shape.head_dim)},
                TensorPrefillKernel<Stored>, a);
}

}  // namespace

cudaError_t TensorPrefill(cudaStream_t stream, const AttentionArguments& arguments) {
  return arguments.kv.type == KvType::kBF16 ? LaunchTensorPrefill<__nv_bfloat16>(stream, arguments)
                                            : LaunchTensorPrefill<__half>(stream, arguments);
}

}  // namespace kvec::kernels::cuda
