// Prefill attention over per-head page tables on tensor cores: libraries that have it share one
// page table between all heads.
//
// A block takes some tokens with all query heads of a KV head, up to 128 rows, so that it reads
// keys and values once for all of them. It walks over the head's entries in tiles; while one is
// multiplied, the next is copied. Each warp has rows of its own for all entries: their scores,
// weights and outputs stay in its registers, and a fragment of keys or values serves both of its 16
// rows.
//
// Tiles begin at multiples of their size, and what a row is scaled by hangs on its own scores
// alone, so that a row's bits depend on its role and place only.

#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include "kernels/cuda/group_task.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/prefill_tile.h"
#include "kernels/cuda/tensor_core.h"
#include "kernels/cuda/tensor_prefill.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpThreads;
constexpr int kTile = 16;  // rows, entries or columns of a fragment of queries, keys or values
constexpr int kHalf = kTile / 2;  // columns of a fragment of scores or outputs

// What a block of heads of up to kDim numbers takes on: as much as registers hold. With 256 numbers
// 64 rows and 32 entries, which fit into smaller cards' shared memory, too.
template <int kDim>
struct BlockShape {
  static constexpr int kRowFragments = kDim <= 128 ? 2 : 1;  // of a warp
  static constexpr int kWarpRows = kRowFragments * kTile;
  static constexpr int kRows = kWarps * kWarpRows;
  static constexpr int kEntries = kDim <= 128 ? 64 : 32;
  // Of queries, keys and values: neighbouring rows begin in different banks.
  static constexpr int kStride = kDim + 8;
};

// A block's shared memory.
template <typename Stored, int kDim>
struct TensorMemory {
  using Shape = BlockShape<kDim>;

  Stored queries[Shape::kRows][Shape::kStride];
  Stored keys[Shape::kEntries][Shape::kStride];
  Stored values[Shape::kEntries][Shape::kStride];
  int num_visible[Shape::kRows];
};

// Begins to copy the keys or values of the tile from `begin` on; zeros for entries that no row
// sees, whose pages may be gone, and behind head_dim.
template <typename Stored, int kDim>
__device__ void CopyEntries(const GroupTask& task, const Entries<Stored>& entries, bool values,
                            int begin, int head_dim,
                            Stored (&to)[BlockShape<kDim>::kEntries][BlockShape<kDim>::kStride]) {
  constexpr int kVectors = kDim / kVectorSize<Stored>;
  for (int i = static_cast<int>(threadIdx.x); i < BlockShape<kDim>::kEntries * kVectors;
       i += static_cast<int>(blockDim.x)) {
    const int entry = begin + i / kVectors;
    const int col = i % kVectors * kVectorSize<Stored>;
    Stored* const place = &to[i / kVectors][col];
    if (entry >= task.begin && entry < task.end && col < head_dim) {
      const Stored* const from =
          values ? entries.Value(task.pages, entry) : entries.Key(task.pages, entry);
      __pipeline_memcpy_async(place, from + col, sizeof(uint4));
    } else {
      *reinterpret_cast<uint4*>(place) = uint4{0, 0, 0, 0};
    }
  }
  __pipeline_commit();
}

// A warp for each row at a time.
template <typename Stored, int kDim>
__device__ void LoadRows(const AttentionArguments& a, const GroupTask& task,
                         TensorMemory<Stored, kDim>& memory) {
  const int head_dim = a.shape.head_dim;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int num_warps = static_cast<int>(blockDim.x) / kWarpThreads;
  const int num_rows = num_warps * BlockShape<kDim>::kWarpRows;
  for (int row = static_cast<int>(threadIdx.x) / kWarpThreads; row < num_rows; row += num_warps) {
    const int token = row / task.group.count;
    const int head = task.group.first + row - token * task.group.count;
    const float* const query =
        a.qkv.data + (task.first_row + token) * a.qkv.stride + head * head_dim;
#pragma unroll
    for (int col = lane; col < kDim; col += kWarpThreads) {
      const bool is_there = row < task.num_rows && col < head_dim;
      memory.queries[row][col] = FromFloat<Stored>(is_there ? query[col] : 0.0f);
    }
    if (lane == 0) memory.num_visible[row] = task.VisibleTo(row);
  }
}

// A warp's rows. Of each row fragment a lane shares two rows, kRowsApart apart, with its quad.
template <typename Stored, int kDim>
class WarpRows {
 public:
  using Shape = BlockShape<kDim>;
  using Memory = TensorMemory<Stored, kDim>;

  __device__ __forceinline__ WarpRows(const GroupTask& task, int sliding_window,
                                      const Memory& memory)
      : memory_(memory),
        first_row_(static_cast<int>(threadIdx.x) / kWarpThreads * Shape::kWarpRows),
        sliding_window_(sliding_window),
        visible_to_first_(task.VisibleTo(first_row_)) {
    const int last_row = first_row_ + Shape::kWarpRows - 1;
    visible_to_last_ = task.VisibleTo(last_row < task.num_rows ? last_row : task.num_rows - 1);
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
      if (RowOf(i) < task.num_rows) without_base_ |= 1u << i;
    }
  }

  // Whether any of the rows sees an entry of the tile from `begin` on.
  __device__ __forceinline__ bool Sees(int begin) const {
    return visible_to_first_ > 0 && begin < visible_to_last_ &&
           begin + Shape::kEntries > FirstVisible(visible_to_first_, sliding_window_);
  }

  // scores = queries · keysᵀ.
  __device__ __forceinline__ void MultiplyKeys() {
#pragma unroll
    for (int i = 0; i < Shape::kRowFragments; ++i) {
#pragma unroll
      for (int j = 0; j < kScoreFragments; ++j) scores_[i][j] = {};
    }
    // More at once would be loaded ahead, for which no registers are left.
#pragma unroll 2
    for (int col = 0; col < kDim; col += kTile) {
      FragmentA queries[Shape::kRowFragments];
#pragma unroll
      for (int i = 0; i < Shape::kRowFragments; ++i) {
        queries[i] = LoadA(&memory_.queries[first_row_ + i * kTile][col], Shape::kStride);
      }
#pragma unroll
      for (int j = 0; j < kScoreFragments; j += 2) {
        FragmentB keys[2];
        LoadColumnsB(&memory_.keys[j * kHalf][col], Shape::kStride, keys);
#pragma unroll
        for (int i = 0; i < Shape::kRowFragments; ++i) {
          MultiplyAdd<Stored>(scores_[i][j], queries[i], keys[0]);
          MultiplyAdd<Stored>(scores_[i][j + 1], queries[i], keys[1]);
        }
      }
    }
  }

  // Scales the scores and subtracts the rows' bases, after moving them where they must.
  __device__ __forceinline__ void Normalize(int begin, float log2_scale) {
    const bool all_visible = begin + Shape::kEntries <= visible_to_first_ &&
                             begin >= FirstVisible(visible_to_last_, sliding_window_);
    if (!all_visible) Hide(begin);
    bool must_move = without_base_ != 0;
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
#pragma unroll
      for (int i = 0; i < kLaneScores; ++i) {
        float& score = ScoreOf(row, i);
        score = fmaf(score, log2_scale, -bases_[row]);
        must_move |= score > kHeadroom;
      }
    }
    if (__ballot_sync(kAllLanes, must_move) != 0) MoveBases();
  }

  // out += weights · values.
  __device__ __forceinline__ void MultiplyValues() {
#pragma unroll
    for (int j = 0; j < kScoreFragments; j += 2) {
      FragmentA weights[Shape::kRowFragments];
#pragma unroll
      for (int i = 0; i < Shape::kRowFragments; ++i) {
        TakeWeights(i, scores_[i][j]);
        TakeWeights(i, scores_[i][j + 1]);
        weights[i] = RoundToA<Stored>(scores_[i][j], scores_[i][j + 1]);
      }
#pragma unroll
      for (int col = 0; col < kDim; col += kTile) {
        FragmentB values[2];
        LoadRowsB(&memory_.values[j * kHalf][col], Shape::kStride, values);
#pragma unroll
        for (int i = 0; i < Shape::kRowFragments; ++i) {
          MultiplyAdd<Stored>(out_[i][col / kHalf], weights[i], values[0]);
          MultiplyAdd<Stored>(out_[i][col / kHalf + 1], weights[i], values[1]);
        }
      }
    }
  }

  __device__ __forceinline__ void Store(const AttentionArguments& a, const GroupTask& task) {
    const int head_dim = a.shape.head_dim;
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
      const float scale = 1.0f / WarpSum<4>(sums_[row]);
      if (RowOf(row) >= task.num_rows) continue;
      const int token = RowOf(row) / task.group.count;
      const int head = task.group.first + RowOf(row) - token * task.group.count;
      float* const to = a.out.data + (task.first_row + token) * a.out.stride + head * head_dim;
#pragma unroll
      for (int i = 0; i < kLaneCols; ++i) {
        if (ColOf(i) < head_dim) to[ColOf(i)] = OutOf(row, i) * scale;
      }
    }
  }

 private:
  static constexpr int kScoreFragments = Shape::kEntries / kHalf;
  static constexpr int kOutFragments = kDim / kHalf;
  // What a lane holds: rows, and of each of them so many scores and columns.
  static constexpr int kLaneRows = 2 * Shape::kRowFragments;
  static constexpr int kLaneScores = 2 * kScoreFragments;
  static constexpr int kLaneCols = 2 * kOutFragments;

  // The lane's row-th row, of the block's.
  __device__ __forceinline__ int RowOf(int row) const {
    return first_row_ + row / 2 * kTile + row % 2 * kRowsApart + QuadOfLane();
  }
  // The entry of the tile, or the column, of the i-th number that a lane holds of a row.
  __device__ __forceinline__ static int ColOf(int i) {
    return i / 2 * kHalf + LaneOfQuad() * 2 + i % 2;
  }
  __device__ __forceinline__ float& ScoreOf(int row, int i) {
    return scores_[row / 2][i / 2].numbers[row % 2 * 2 + i % 2];
  }
  __device__ __forceinline__ float& OutOf(int row, int i) {
    return out_[row / 2][i / 2].numbers[row % 2 * 2 + i % 2];
  }

  // Scores that a row does not see, of the tile from `begin` on.
  __device__ __forceinline__ void Hide(int begin) {
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
      const int num_visible = memory_.num_visible[RowOf(row)];
      const int end = num_visible - begin;
      const int first = FirstVisible(num_visible, sliding_window_) - begin;
#pragma unroll
      for (int i = 0; i < kLaneScores; ++i) {
        if (ColOf(i) < first || ColOf(i) >= end) ScoreOf(row, i) = kNegativeInfinity;
      }
    }
  }

  // A row that needs nothing is moved by exactly 0 and multiplied by exactly 1.
  __device__ __forceinline__ void MoveBases() {
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
      float max = kNegativeInfinity;
#pragma unroll
      for (int i = 0; i < kLaneScores; ++i) max = fmaxf(max, ScoreOf(row, i));
      max = WarpMax<4>(max);
      float shift = 0;
      float factor = 1;
      const bool has_base = (without_base_ >> row & 1) == 0;
      if (max > (has_base ? kHeadroom : kNegativeInfinity)) {
        shift = max;
        if (has_base) factor = exp2f(-max);  // else there is nothing to multiply
        without_base_ &= ~(1u << row);
      }
      bases_[row] += shift;
      sums_[row] *= factor;
#pragma unroll
      for (int i = 0; i < kLaneScores; ++i) ScoreOf(row, i) -= shift;
#pragma unroll
      for (int i = 0; i < kLaneCols; ++i) OutOf(row, i) *= factor;
    }
  }

  // Turns scores of row fragment i into weights.
  __device__ __forceinline__ void TakeWeights(int i, FragmentD& scores) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      scores.numbers[j] = FastExp2(scores.numbers[j]);
      sums_[i * 2 + j / 2] += scores.numbers[j];
    }
  }

  const Memory& memory_;
  const int first_row_;  // of the block's
  const int sliding_window_;
  const int visible_to_first_;
  int visible_to_last_;
  unsigned without_base_ = 0;  // a bit for each row that has seen nothing yet
  float bases_[kLaneRows] = {};
  float sums_[kLaneRows] = {};  // of the lane's own weights
  FragmentD scores_[Shape::kRowFragments][kScoreFragments];
  FragmentD out_[Shape::kRowFragments][kOutFragments] = {};  // not yet divided by the sums
};

// Grid [tiles · parts, num_kv_heads].
template <typename Stored, int kDim>
__global__ void __launch_bounds__(kThreads)
    TensorPrefillKernel(AttentionArguments a, int block_tokens) {
  using Shape = BlockShape<kDim>;
  const GroupTask task(a, block_tokens);
  if (task.num_rows == 0) return;
  KVEC_DYNAMIC_SHARED_ARRAY(unsigned char, shared);
  auto& memory = *reinterpret_cast<TensorMemory<Stored, kDim>*>(shared);
  const Entries<Stored> entries(a.kv);
  const int head_dim = a.shape.head_dim;
  int begin = task.begin / Shape::kEntries * Shape::kEntries;
  CopyEntries<Stored, kDim>(task, entries, /*values=*/false, begin, head_dim, memory.keys);
  LoadRows(a, task, memory);
  WarpRows<Stored, kDim> rows(task, a.sliding_window, memory);
  for (; begin < task.end; begin += Shape::kEntries) {
    const bool sees = rows.Sees(begin);
    __pipeline_wait_prior(0);
    __syncthreads();
    CopyEntries<Stored, kDim>(task, entries, /*values=*/true, begin, head_dim, memory.values);
    if (sees) {
      rows.MultiplyKeys();
      rows.Normalize(begin, a.log2_scale);
    }
    __pipeline_wait_prior(0);
    __syncthreads();
    if (begin + Shape::kEntries < task.end) {
      CopyEntries<Stored, kDim>(task, entries, /*values=*/false, begin + Shape::kEntries, head_dim,
                                memory.keys);
    }
    if (sees) rows.MultiplyValues();
  }
  rows.Store(a, task);
}

template <typename Stored, int kDim>
cudaError_t LaunchTensorPrefill(cudaStream_t stream, const AttentionArguments& a) {
  const int block_tokens = BlockTokens(a.shape.group_size, BlockShape<kDim>::kRows);
  const int parts = block_tokens < kTileRows ? kTileRows / block_tokens : 1;
  const int warps = DivideUp(block_tokens * a.shape.group_size, BlockShape<kDim>::kWarpRows);
  const dim3 grid(static_cast<unsigned>(a.batch.num_prefill_tiles * parts),
                  static_cast<unsigned>(a.shape.num_kv_heads));
  const dim3 block(static_cast<unsigned>(warps * kWarpThreads));
  return Launch(stream, {grid, block, sizeof(TensorMemory<Stored, kDim>)},
                TensorPrefillKernel<Stored, kDim>, a, block_tokens);
}

template <typename Stored>
cudaError_t LaunchForHead(cudaStream_t stream, const AttentionArguments& a) {
  const int head_dim = a.shape.head_dim;
  const auto launch = head_dim <= 64    ? LaunchTensorPrefill<Stored, 64>
                      : head_dim <= 80  ? LaunchTensorPrefill<Stored, 80>
                      : head_dim <= 96  ? LaunchTensorPrefill<Stored, 96>
                      : head_dim <= 128 ? LaunchTensorPrefill<Stored, 128>
                                        : LaunchTensorPrefill<Stored, 256>;
  return launch(stream, a);
}

}  // namespace

cudaError_t TensorPrefill(cudaStream_t stream, const AttentionArguments& arguments) {
  return arguments.kv.type == KvType::kBF16 ? LaunchForHead<__nv_bfloat16>(stream, arguments)
                                            : LaunchForHead<__half>(stream, arguments);
}

}  // namespace kvec::kernels::cuda
