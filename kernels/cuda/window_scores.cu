#include <cuda_runtime.h>

#include "kernels/cuda/hadamard.h"
#include "kernels/cuda/kv_access.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp_math.h"
#include "kernels/cuda/window_scores.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kTileEntries = kWarpThreads;  // a lane per entry

// A row's softmax over one tile of entries, or over all.
struct SoftmaxState {
  float max;  // to base 2
  float sum;
};

__host__ __device__ int NumTiles(int num_entries) {
  return (num_entries + kTileEntries - 1) / kTileEntries;
}

// The states of all rows, [num_heads, num_queries] over all entries, then [tiles] of the same.
struct Workspace {
  SoftmaxState* merged;
  SoftmaxState* tiles;
  int num_rows;

  __host__ __device__ explicit Workspace(const WindowScoreArguments& a)
      : merged(reinterpret_cast<SoftmaxState*>(a.workspace)),
        num_rows(a.shape.num_heads * a.num_queries) {
    tiles = merged + num_rows;
  }
};

// The keys of one tile of a KV head's entries, in shared memory. Rows are one float longer than
// they are read: lanes read down a column.
class KeyTile {
 public:
  static size_t SharedBytes(int head_dim) {
    return static_cast<size_t>(kTileEntries * (head_dim + 1)) * sizeof(float);
  }

  // All threads of the block call it. Entries from num_entries on are zeros.
  template <typename Stored>
  __device__ void Load(const WindowScoreArguments& a, int kv_head, int begin, float* shared) {
    keys_ = shared;
    head_dim_ = a.shape.head_dim;
    const HeadTable table = a.batch.tables[kv_head];
    const int32_t* const pages = a.batch.page_ids + table.first_page;
    const Entries<Stored> entries(a.kv);
    const int num_vectors = head_dim_ / kVectorSize<Stored>;
    for (int i = static_cast<int>(threadIdx.x); i < kTileEntries * num_vectors; i += kThreads) {
      const int entry = begin + i / num_vectors;
      const int col = i % num_vectors * kVectorSize<Stored>;
      float numbers[kVectorSize<Stored>] = {};
      float scale = 1.0f;
      if (entry < table.num_entries) {
        LoadVector(entries.Key(pages, entry) + col, numbers);
        scale = entries.KeyScale(pages, entry);
      }
      float* const row = shared + (entry - begin) * (head_dim_ + 1) + col;
#pragma unroll
      for (int j = 0; j < kVectorSize<Stored>; ++j) row[j] = numbers[j] * scale;
    }
    // Turned back: the queries of a window are as they came.
    if constexpr (Entries<Stored>::kScaled) {
      RotateRows<kThreads>(shared, kTileEntries, head_dim_ + 1, head_dim_);
    }
    __syncthreads();
  }

  // Of the lane's entry with one query.
  __device__ float Score(const WindowScoreArguments& a, int head, int query) const {
    const int row = (a.first_query + query) % a.queries.rows;
    const float* const q = a.queries.data + row * a.queries.stride + head * head_dim_;
    const float* const key = keys_ + static_cast<int>(threadIdx.x) % kWarpThreads * (head_dim_ + 1);
    float sum = 0;
    for (int i = 0; i < head_dim_; ++i) sum += q[i] * key[i];
    return sum * a.log2_scale;
  }

 private:
  const float* keys_;
  int head_dim_;
};

// Grid [tiles, num_kv_heads]: states of one tile, a warp per row.
template <typename Stored>
__global__ void __launch_bounds__(kThreads) TileSoftmaxKernel(WindowScoreArguments a) {
  const int tile_index = static_cast<int>(blockIdx.x);
  const int kv_head = static_cast<int>(blockIdx.y);
  const int begin = tile_index * kTileEntries;
  KVEC_DYNAMIC_SHARED_ARRAY(float, shared);
  KeyTile tile;
  tile.Load<Stored>(a, kv_head, begin, shared);
  const QueryGroup group = QueryGroupOf(a.shape, kv_head);
  const Workspace workspace(a);
  SoftmaxState* const states = workspace.tiles + tile_index * workspace.num_rows;
  const int entry = begin + static_cast<int>(threadIdx.x) % kWarpThreads;
  const int num_rows = group.count * a.num_queries;
  for (int row = static_cast<int>(threadIdx.x) / kWarpThreads; row < num_rows; row += kWarps) {
    const int head = group.first + row / a.num_queries;
    const int query = row % a.num_queries;
    const bool visible = entry < a.num_visible[kv_head * a.num_queries + query];
    const float score = visible ? tile.Score(a, head, query) : kNegativeInfinity;
    const float max = WarpMax(score);
    const float sum = WarpSum(visible ? exp2f(score - max) : 0.0f);
    if (threadIdx.x % kWarpThreads == 0) states[head * a.num_queries + query] = {max, sum};
  }
}

// Merges the tiles of every row in ascending order, a thread per row.
__global__ void __launch_bounds__(kThreads) MergeSoftmaxKernel(WindowScoreArguments a) {
  const Workspace workspace(a);
  const int row = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (row >= workspace.num_rows) return;
  SoftmaxState merged{kNegativeInfinity, 0};
  for (int tile = 0; tile < NumTiles(a.max_entries); ++tile) {
    const SoftmaxState next = workspace.tiles[tile * workspace.num_rows + row];
    if (next.sum == 0) continue;  // the row sees nothing of the tile
    const float max = fmaxf(merged.max, next.max);
    merged.sum = merged.sum * exp2f(merged.max - max) + next.sum * exp2f(next.max - max);
    merged.max = max;
  }
  workspace.merged[row] = merged;
}

// Grid [tiles of candidates, num_kv_heads]. A warp takes a query head at a time and walks over its
// queries from oldest to newest.
template <typename Stored>
__global__ void __launch_bounds__(kThreads) ReduceProbabilitiesKernel(WindowScoreArguments a) {
  const int kv_head = static_cast<int>(blockIdx.y);
  const int begin = static_cast<int>(blockIdx.x) * kTileEntries;
  const int num_candidates = a.num_candidates[kv_head];
  if (begin >= num_candidates) return;
  KVEC_DYNAMIC_SHARED_ARRAY(float, shared);
  KeyTile tile;
  tile.Load<Stored>(a, kv_head, begin, shared);
  const QueryGroup group = QueryGroupOf(a.shape, kv_head);
  const Workspace workspace(a);
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int entry = begin + static_cast<int>(threadIdx.x) % kWarpThreads;
  const bool is_candidate = entry < num_candidates;

  const auto probability = [&](int head, int query) {
    if (entry >= a.num_visible[kv_head * a.num_queries + query]) return 0.0f;
    const SoftmaxState state = workspace.merged[head * a.num_queries + query];
    return exp2f(tile.Score(a, head, query) - state.max) / state.sum;
  };
  for (int head = group.first + warp; head < group.first + group.count; head += kWarps) {
    for (int window = 0; window < a.num_windows; ++window) {
      const int size = a.windows[window];
      float sum = 0;
      for (int query = a.num_queries - size; query < a.num_queries; ++query) {
        sum += probability(head, query);
      }
      float* const means =
          a.means + (static_cast<size_t>(window) * static_cast<size_t>(a.shape.num_heads) +
                     static_cast<size_t>(head)) *
                        static_cast<size_t>(a.stride);
      if (is_candidate) means[entry] = sum / static_cast<float>(size);
    }
  }
  if (a.maxima == nullptr) return;
  for (int focus = warp; focus < a.focus_window; focus += kWarps) {
    const int query = a.num_queries - a.focus_window + focus;
    float max = 0;
    for (int head = group.first; head < group.first + group.count; ++head) {
      max = fmaxf(max, probability(head, query));
    }
    float* const maxima =
        a.maxima + (static_cast<size_t>(kv_head) * static_cast<size_t>(a.focus_window) +
                    static_cast<size_t>(focus)) *
                       static_cast<size_t>(a.stride);
    if (is_candidate) maxima[entry] = max;
  }
}

template <typename Stored>
cudaError_t LaunchWindowScores(cudaStream_t stream, const WindowScoreArguments& a) {
  const unsigned num_kv_heads = static_cast<unsigned>(a.shape.num_kv_heads);
  const size_t shared_bytes = KeyTile::SharedBytes(a.shape.head_dim);
  const dim3 entry_grid(static_cast<unsigned>(NumTiles(a.max_entries)), num_kv_heads);
  cudaError_t error =
      Launch(stream, {entry_grid, kThreads, shared_bytes}, TileSoftmaxKernel<Stored>, a);
  if (error != cudaSuccess) return error;
  const int num_rows = a.shape.num_heads * a.num_queries;
  error = Launch(stream, {static_cast<unsigned>(DivideUp(num_rows, kThreads)), kThreads},
                 MergeSoftmaxKernel, a);
  if (error != cudaSuccess) return error;
  const dim3 candidate_grid(static_cast<unsigned>(NumTiles(a.max_candidates)), num_kv_heads);
  return Launch(stream, {candidate_grid, kThreads, shared_bytes}, ReduceProbabilitiesKernel<Stored>,
                a);
}

}  // namespace

size_t WindowWorkspaceFloats(const HeadShape& shape, int num_queries, int max_entries) {
  constexpr size_t kStateFloats = sizeof(SoftmaxState) / sizeof(float);
  return kStateFloats * static_cast<size_t>(shape.num_heads) * static_cast<size_t>(num_queries) *
         static_cast<size_t>(1 + NumTiles(max_entries));
}

cudaError_t WindowScores(cudaStream_t stream, const WindowScoreArguments& arguments) {
  return WithStored(arguments.kv.type, [&](auto stored) {
    return LaunchWindowScores<decltype(stored)>(stream, arguments);
  });
}

}  // namespace kvec::kernels::cuda
