// Of our own: attention libraries keep no probabilities, and these are reduced over queries and
// heads as they arise.
//
// Scores are a product of matrices, of a KV head's entries with the queries that read it, in
// float32 on the ordinary cores. A thread keeps scores of kQueries queries of a head with a few
// entries in registers, so that each number that it loads serves several multiply-adds: for 8
// numbers of a dot product 4 entries' loads of 16 bytes and 8 queries' of 32 to 256 multiply-adds.
// Scores are computed twice, once for the softmax's maxima and sums and once for what they add up
// to: to keep them would move more bytes than the keys have.

#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include <type_traits>

#include "kernels/cuda/hadamard.h"
#include "kernels/cuda/kv_access.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp_math.h"
#include "kernels/cuda/window_scores.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kQueries = 8;  // of a head, that a thread scores at once
// Of a multiprocessor: what shared memory allows. Fewer registers would spill.
constexpr int kSoftmaxBlocks = 4;
constexpr int kReduceBlocks = 3;

// Of a thread at once: fewer where a tile's keys would not fit into a small GPU's shared memory.
template <typename Stored>
constexpr int kThreadEntries = sizeof(Stored) == 4 ? 2 : 4;
// Of a block.
template <typename Stored>
constexpr int kTileEntries = kWarpThreads* kThreadEntries<Stored>;

// A row's softmax over some entries, or over all.
struct SoftmaxState {
  float max;  // to base 2
  float sum;
};

__device__ SoftmaxState Merge(const SoftmaxState& a, const SoftmaxState& b) {
  if (b.sum == 0) return a;  // the row sees nothing of it
  const float max = fmaxf(a.max, b.max);
  return {max, a.sum * exp2f(a.max - max) + b.sum * exp2f(b.max - max)};
}

// Lanes of a warp that have a query head each, of the same KV head; the others have other entries.
int HeadLanes(const HeadShape& shape) {
  const int heads = shape.group_size < shape.num_heads ? shape.group_size : shape.num_heads;
  return heads >= 3 ? 4 : heads;
}

// The states of all rows, [num_heads, num_queries] over all entries, then [rows, parts] of the
// parts that warps look at.
struct Workspace {
  SoftmaxState* merged;
  SoftmaxState* parts;
  int num_rows;

  __host__ __device__ explicit Workspace(const WindowScoreArguments& a)
      : merged(reinterpret_cast<SoftmaxState*>(a.workspace)),
        num_rows(a.shape.num_heads * a.num_queries) {
    parts = merged + num_rows;
  }
};

// A tile of a KV head's entries in shared memory, and queries of some of its heads at a time. The
// first kHeadLanes warps score, each its part of the tile with every query.
template <typename Stored, int kHeadLanes>
class ScoreTile {
 public:
  static constexpr int kEntryLanes = kWarpThreads / kHeadLanes;
  static constexpr int kOwnEntries = kThreadEntries<Stored>;
  static constexpr int kParts = kHeadLanes;
  static_assert(kParts <= kWarps && kParts * kEntryLanes * kOwnEntries == kTileEntries<Stored>);

  using Scores = float[kQueries][kOwnEntries];

  static size_t SharedBytes(int head_dim) {
    return static_cast<size_t>(kQueryRows * QueryStride(head_dim)) * sizeof(float) +
           static_cast<size_t>(kTileEntries<Stored> * KeyStride(head_dim)) * sizeof(Stored);
  }

  // Begins to copy the keys. All threads of the block call it.
  __device__ ScoreTile(const WindowScoreArguments& a, float* shared)
      : a_(a),
        begin_(static_cast<int>(blockIdx.x) * kTileEntries<Stored>),
        kv_head_(static_cast<int>(blockIdx.y)),
        group_(QueryGroupOf(a.shape, kv_head_)),
        queries_(shared),
        keys_(reinterpret_cast<Stored*>(shared + kQueryRows * QueryStride(a.shape.head_dim))) {
    const HeadTable table = a.batch.tables[kv_head_];
    const int32_t* const pages = a.batch.page_ids + table.first_page;
    const Entries<Stored> entries(a.kv);
    const int num_vectors = a.shape.head_dim / kVectorSize<Stored>;
    for (int i = static_cast<int>(threadIdx.x); i < kTileEntries<Stored> * num_vectors;
         i += kThreads) {
      const int entry = begin_ + i / num_vectors;
      const int col = i % num_vectors * kVectorSize<Stored>;
      Stored* const place = keys_ + i / num_vectors * KeyStride(a.shape.head_dim) + col;
      if (entry < table.num_entries) {
        __pipeline_memcpy_async(place, entries.Key(pages, entry) + col, sizeof(uint4));
      } else {
        *reinterpret_cast<uint4*>(place) = uint4{0, 0, 0, 0};
      }
    }
    __pipeline_commit();
#pragma unroll
    for (int i = 0; i < kOwnEntries; ++i) {
      const bool is_held = Warp() < kParts && Entry(i) < table.num_entries;
      scales_[i] = is_held ? entries.KeyScale(pages, Entry(i)) * a.log2_scale : 0.0f;
    }
  }

  __device__ const QueryGroup& group() const { return group_; }
  __device__ int kv_head() const { return kv_head_; }
  // Whether the thread's warp has a part of the tile.
  __device__ bool has_part() const { return Warp() < kParts; }
  // Of the sequence's.
  __device__ int part() const { return static_cast<int>(blockIdx.x) * kParts + Warp(); }
  __device__ int HeadLane() const { return Lane() / kEntryLanes; }
  __device__ bool IsFirstEntryLane() const { return Lane() % kEntryLanes == 0; }
  // One of the thread's entries.
  __device__ int Entry(int i) const {
    return begin_ + (Warp() * kOwnEntries + i) * kEntryLanes + Lane() % kEntryLanes;
  }
  __device__ bool Sees(int query, int i) const {
    return Entry(i) < a_.num_visible[kv_head_ * a_.num_queries + query];
  }

  // Of the thread's head, first_head + HeadLane(), kQueries queries with its entries; what is
  // beyond the group's heads and the window's queries is no score. All threads of the block call
  // it.
  __device__ void Score(int first_head, int first_query, Scores& scores) {
    LoadQueries(first_head, first_query);
    if (!has_part()) return;
    const int head_dim = a_.shape.head_dim;
    const float* const queries = queries_ + HeadLane() * kQueries * QueryStride(head_dim);
    const Stored* const keys = keys_ + (Entry(0) - begin_) * KeyStride(head_dim);
#pragma unroll
    for (auto& of_query : scores) {
#pragma unroll
      for (float& score : of_query) score = 0;
    }
    for (int col = 0; col < head_dim; col += kStep) {
      float key[kOwnEntries][kStep];
#pragma unroll
      for (int i = 0; i < kOwnEntries; ++i) {
        LoadVector(keys + i * kEntryLanes * KeyStride(head_dim) + col, key[i]);
      }
#pragma unroll
      for (int q = 0; q < kQueries; ++q) {
        float query[kStep];
#pragma unroll
        for (int j = 0; j < kStep; j += 4) {
          const float4 four =
              *reinterpret_cast<const float4*>(queries + q * QueryStride(head_dim) + col + j);
          query[j] = four.x;
          query[j + 1] = four.y;
          query[j + 2] = four.z;
          query[j + 3] = four.w;
        }
#pragma unroll
        for (int i = 0; i < kOwnEntries; ++i) {
#pragma unroll
          for (int j = 0; j < kStep; ++j) scores[q][i] += query[j] * key[i][j];
        }
      }
    }
#pragma unroll
    for (auto& of_query : scores) {
#pragma unroll
      for (int i = 0; i < kOwnEntries; ++i) of_query[i] *= scales_[i];
    }
  }

 private:
  static constexpr int kQueryRows = kHeadLanes * kQueries;
  // Numbers of a dot product that a thread loads at once.
  static constexpr int kStep = sizeof(Stored) == 4 ? 4 : 8;

  // Rows are 16 bytes longer than they are read, so that lanes find theirs in different banks.
  __host__ __device__ static int QueryStride(int head_dim) { return head_dim + 4; }
  __host__ __device__ static int KeyStride(int head_dim) { return head_dim + kVectorSize<Stored>; }

  __device__ static int Warp() { return static_cast<int>(threadIdx.x) / kWarpThreads; }
  __device__ static int Lane() { return static_cast<int>(threadIdx.x) % kWarpThreads; }

  __device__ void LoadQueries(int first_head, int first_query) {
    const int head_dim = a_.shape.head_dim;
    __syncthreads();  // who still reads earlier ones
    for (int i = static_cast<int>(threadIdx.x); i < kQueryRows * head_dim; i += kThreads) {
      const int row = i / head_dim;
      const int col = i % head_dim;
      const int head = first_head + row / kQueries;
      const int query = first_query + row % kQueries;
      const bool exists = head < group_.first + group_.count && query < a_.num_queries;
      const int ring_row = (a_.first_query + query) % a_.queries.rows;
      queries_[row * QueryStride(head_dim) + col] =
          exists ? a_.queries.data[ring_row * a_.queries.stride + head * head_dim + col] : 0.0f;
    }
    // As the keys are.
    if constexpr (Entries<Stored>::kScaled) {
      RotateRows<kThreads>(queries_, kQueryRows, QueryStride(head_dim), head_dim);
    }
    __pipeline_wait_prior(0);
    __syncthreads();
  }

  const WindowScoreArguments& a_;
  const int begin_;
  const int kv_head_;
  const QueryGroup group_;
  float* const queries_;  // [kHeadLanes, kQueries] rows
  Stored* const keys_;    // [kTileEntries] rows
  float scales_[kOwnEntries];
};

// Grid [tiles, num_kv_heads]: states of the parts of one tile.
template <typename Stored, int kHeadLanes>
__global__ void __launch_bounds__(kThreads, kSoftmaxBlocks)
    PartSoftmaxKernel(WindowScoreArguments a, int num_parts) {
  using Tile = ScoreTile<Stored, kHeadLanes>;
  KVEC_DYNAMIC_SHARED_ARRAY(float, shared);
  Tile tile(a, shared);
  const Workspace workspace(a);
  const int end_head = tile.group().first + tile.group().count;
  for (int first_head = tile.group().first; first_head < end_head; first_head += kHeadLanes) {
    for (int first_query = 0; first_query < a.num_queries; first_query += kQueries) {
      typename Tile::Scores scores;
      tile.Score(first_head, first_query, scores);
      if (!tile.has_part()) continue;
      const int head = first_head + tile.HeadLane();
#pragma unroll
      for (int q = 0; q < kQueries; ++q) {
        const int query = first_query + q;
        if (query >= a.num_queries) continue;
        float max = kNegativeInfinity;
#pragma unroll
        for (int i = 0; i < Tile::kOwnEntries; ++i) {
          if (tile.Sees(query, i)) max = fmaxf(max, scores[q][i]);
        }
        max = WarpMax<Tile::kEntryLanes>(max);
        float sum = 0;
#pragma unroll
        for (int i = 0; i < Tile::kOwnEntries; ++i) {
          if (tile.Sees(query, i)) sum += exp2f(scores[q][i] - max);
        }
        sum = WarpSum<Tile::kEntryLanes>(sum);
        if (!tile.IsFirstEntryLane() || head >= end_head) continue;
        const size_t row = static_cast<size_t>(head * a.num_queries + query);
        workspace.parts[row * static_cast<size_t>(num_parts) + static_cast<size_t>(tile.part())] = {
            max, sum};
      }
    }
  }
}

// A warp per row, in an order that only the number of its part gives.
__global__ void __launch_bounds__(kThreads)
    MergeSoftmaxKernel(WindowScoreArguments a, int num_parts) {
  const Workspace workspace(a);
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int row = static_cast<int>(blockIdx.x * kThreads + threadIdx.x) / kWarpThreads;
  if (row >= workspace.num_rows) return;
  const SoftmaxState* const parts =
      workspace.parts + static_cast<size_t>(row) * static_cast<size_t>(num_parts);
  SoftmaxState merged{kNegativeInfinity, 0};
#pragma unroll 4
  for (int part = lane; part < num_parts; part += kWarpThreads) merged = Merge(merged, parts[part]);
  for (int offset = kWarpThreads / 2; offset > 0; offset /= 2) {
    const SoftmaxState other{__shfl_xor_sync(kAllLanes, merged.max, offset),
                             __shfl_xor_sync(kAllLanes, merged.sum, offset)};
    merged = Merge(merged, other);
  }
  if (lane == 0) workspace.merged[row] = merged;
}

// In the place of the scores of a tile, the probabilities.
template <typename Tile>
__device__ void TakeSoftmax(const WindowScoreArguments& a, const Tile& tile, int head,
                            int first_query, typename Tile::Scores& scores) {
  const Workspace workspace(a);
  const bool has_head = head < tile.group().first + tile.group().count;
#pragma unroll
  for (int q = 0; q < kQueries; ++q) {
    const int query = first_query + q;
    const bool exists = has_head && query < a.num_queries;
    const SoftmaxState state =
        exists ? workspace.merged[head * a.num_queries + query] : SoftmaxState{0, 1};
#pragma unroll
    for (int i = 0; i < Tile::kOwnEntries; ++i) {
      const bool sees = exists && tile.Sees(query, i);
      scores[q][i] = sees ? exp2f(scores[q][i] - state.max) / state.sum : 0.0f;
    }
  }
}

// The windows that a pass over the queries sums up.
constexpr int kPassWindows = 2;

struct PassWindows {
  int sizes[kPassWindows];  // 0: none
  int longest;

  __device__ PassWindows(const WindowScoreArguments& a, int first) : longest(0) {
    for (int i = 0; i < kPassWindows; ++i) {
      sizes[i] = first + i < a.num_windows ? a.windows[first + i] : 0;
      longest = max(longest, sizes[i]);
    }
  }
};

// Means of one query head for each head lane, over its queries from oldest to newest.
template <typename Tile>
__device__ void ReduceMeans(const WindowScoreArguments& a, Tile& tile, int first_window,
                            int first_head) {
  const PassWindows windows(a, first_window);
  const int head = first_head + tile.HeadLane();
  float sums[kPassWindows][Tile::kOwnEntries] = {};
  for (int first_query = a.num_queries - windows.longest; first_query < a.num_queries;
       first_query += kQueries) {
    typename Tile::Scores scores;
    tile.Score(first_head, first_query, scores);
    if (!tile.has_part()) continue;
    TakeSoftmax(a, tile, head, first_query, scores);
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
#pragma unroll
      for (int w = 0; w < kPassWindows; ++w) {
        const bool is_in = first_query + q >= a.num_queries - windows.sizes[w];
#pragma unroll
        for (int i = 0; i < Tile::kOwnEntries; ++i) sums[w][i] += is_in ? scores[q][i] : 0.0f;
      }
    }
  }
  if (!tile.has_part() || head >= tile.group().first + tile.group().count) return;
#pragma unroll
  for (int w = 0; w < kPassWindows; ++w) {
    if (windows.sizes[w] == 0) continue;
    float* const means =
        a.means + (static_cast<size_t>(first_window + w) * static_cast<size_t>(a.shape.num_heads) +
                   static_cast<size_t>(head)) *
                      static_cast<size_t>(a.stride);
#pragma unroll
    for (int i = 0; i < Tile::kOwnEntries; ++i) {
      if (tile.Entry(i) >= a.num_candidates[tile.kv_head()]) continue;
      means[tile.Entry(i)] = sums[w][i] / static_cast<float>(windows.sizes[w]);
    }
  }
}

// Of each of kQueries queries the maximum over the KV head's query heads.
template <typename Tile>
__device__ void ReduceMaxima(const WindowScoreArguments& a, Tile& tile, int first_query) {
  const QueryGroup& group = tile.group();
  typename Tile::Scores maxima = {};
  constexpr int kHeadLanes = kWarpThreads / Tile::kEntryLanes;
  for (int first_head = group.first; first_head < group.first + group.count;
       first_head += kHeadLanes) {
    typename Tile::Scores scores;
    tile.Score(first_head, first_query, scores);
    if (!tile.has_part()) continue;
    TakeSoftmax(a, tile, first_head + tile.HeadLane(), first_query, scores);
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
#pragma unroll
      for (int i = 0; i < Tile::kOwnEntries; ++i) maxima[q][i] = fmaxf(maxima[q][i], scores[q][i]);
    }
  }
  if (!tile.has_part()) return;
  const int first_focus = first_query - (a.num_queries - a.focus_window);
#pragma unroll
  for (int q = 0; q < kQueries; ++q) {
    const size_t row = static_cast<size_t>(tile.kv_head()) * static_cast<size_t>(a.focus_window) +
                       static_cast<size_t>(first_focus + q);
#pragma unroll
    for (int i = 0; i < Tile::kOwnEntries; ++i) {
      float max = maxima[q][i];
      for (int offset = Tile::kEntryLanes; offset < kWarpThreads; offset *= 2) {
        max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, offset));
      }
      const bool is_wanted = first_query + q < a.num_queries && tile.HeadLane() == 0 &&
                             tile.Entry(i) < a.num_candidates[tile.kv_head()];
      if (is_wanted) {
        a.maxima[row * static_cast<size_t>(a.stride) + static_cast<size_t>(tile.Entry(i))] = max;
      }
    }
  }
}

// Grid [tiles of candidates, num_kv_heads].
template <typename Stored, int kHeadLanes>
__global__ void __launch_bounds__(kThreads, kReduceBlocks)
    ReduceProbabilitiesKernel(WindowScoreArguments a) {
  const int begin = static_cast<int>(blockIdx.x) * kTileEntries<Stored>;
  if (begin >= a.num_candidates[blockIdx.y]) return;
  KVEC_DYNAMIC_SHARED_ARRAY(float, shared);
  ScoreTile<Stored, kHeadLanes> tile(a, shared);
  const QueryGroup group = tile.group();
  for (int window = 0; window < a.num_windows; window += kPassWindows) {
    for (int head = group.first; head < group.first + group.count; head += kHeadLanes) {
      ReduceMeans(a, tile, window, head);
    }
  }
  if (a.maxima == nullptr) return;
  for (int query = a.num_queries - a.focus_window; query < a.num_queries; query += kQueries) {
    ReduceMaxima(a, tile, query);
  }
}

template <typename Stored, int kHeadLanes>
cudaError_t LaunchWindowScores(cudaStream_t stream, const WindowScoreArguments& a) {
  using Tile = ScoreTile<Stored, kHeadLanes>;
  const unsigned num_kv_heads = static_cast<unsigned>(a.shape.num_kv_heads);
  const size_t shared_bytes = Tile::SharedBytes(a.shape.head_dim);
  const int num_tiles = DivideUp(a.max_entries, kTileEntries<Stored>);
  const int num_parts = num_tiles * Tile::kParts;
  const dim3 entry_grid(static_cast<unsigned>(num_tiles), num_kv_heads);
  cudaError_t error = Launch(stream, {entry_grid, kThreads, shared_bytes},
                             PartSoftmaxKernel<Stored, kHeadLanes>, a, num_parts);
  if (error != cudaSuccess) return error;
  const int num_rows = a.shape.num_heads * a.num_queries;
  error = Launch(stream, {static_cast<unsigned>(DivideUp(num_rows, kWarps)), kThreads},
                 MergeSoftmaxKernel, a, num_parts);
  if (error != cudaSuccess) return error;
  const dim3 candidate_grid(static_cast<unsigned>(DivideUp(a.max_candidates, kTileEntries<Stored>)),
                            num_kv_heads);
  return Launch(stream, {candidate_grid, kThreads, shared_bytes},
                ReduceProbabilitiesKernel<Stored, kHeadLanes>, a);
}

}  // namespace

size_t WindowWorkspaceFloats(const HeadShape& shape, int num_queries, int max_entries) {
  constexpr size_t kStateFloats = sizeof(SoftmaxState) / sizeof(float);
  const int most_parts = DivideUp(max_entries, kTileEntries<float>) * HeadLanes(shape);
  return kStateFloats * static_cast<size_t>(shape.num_heads) * static_cast<size_t>(num_queries) *
         static_cast<size_t>(1 + most_parts);
}

cudaError_t WindowScores(cudaStream_t stream, const WindowScoreArguments& arguments) {
  return WithStored(arguments.kv.type, [&](auto stored) {
    using Stored = decltype(stored);
    switch (HeadLanes(arguments.shape)) {
      case 1:
        return LaunchWindowScores<Stored, 1>(stream, arguments);
      case 2:
        return LaunchWindowScores<Stored, 2>(stream, arguments);
      default:
        return LaunchWindowScores<Stored, 4>(stream, arguments);
    }
  });
}

}  // namespace kvec::kernels::cuda
