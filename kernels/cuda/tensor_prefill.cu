// Prefill attention over per-head page tables on tensor cores, by CUDA's own WMMA, whose tiles of
// 16 are the pages' and the row tiles': libraries that have it share one page table between all
// heads.
//
// A block takes some tokens with all query heads of a KV head, up to 128 rows, so that it reads
// keys and values once for all of them. It walks over the head's entries in tiles; while one is
// multiplied, the next is copied. Each warp has rows of its own for all entries: it keeps their
// scores and outputs in registers, and a fragment of keys or values serves both of its 16 rows.
//
// Tiles begin at multiples of their size, and what a row is scaled by hangs on its own scores
// alone, so that a row's bits depend on its role and place only.

#include <cuda_pipeline.h>
#include <cuda_runtime.h>
#include <mma.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/prefill_tile.h"
#include "kernels/cuda/tensor_prefill.h"

namespace kvec::kernels::cuda {
namespace {

namespace wmma = nvcuda::wmma;

constexpr int kTile = 16;  // of WMMA, in every direction
static_assert(kTileRows == kTile);
constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpThreads;
constexpr int kWeightEntries = 32;  // whose weights a warp has in shared memory at once
constexpr int kWeightStride = kWeightEntries + 8;
constexpr int kScratchStride = kTile + 4;
constexpr int kPlaces = 8;  // numbers of a row fragment's 256 that a lane holds

// Weights are 2^(score - base). A row's base moves only to a score above it by more than this,
// which is rare after the first tile: the row's sum and output need rescaling then.
constexpr float kHeadroom = 8.0f;

template <typename Stored>
using RowMajorA = wmma::fragment<wmma::matrix_a, kTile, kTile, kTile, Stored, wmma::row_major>;
template <typename Stored, typename Layout>
using FragmentB = wmma::fragment<wmma::matrix_b, kTile, kTile, kTile, Stored, Layout>;
using Accumulator = wmma::fragment<wmma::accumulator, kTile, kTile, kTile, float>;
static_assert(Accumulator::num_elements == kPlaces);

// What a block of heads of up to kDim numbers takes on: as much as registers hold. With 256 numbers
// 64 rows and 32 entries, so that two blocks fit into a multiprocessor's shared memory, and one
// into that of smaller cards.
template <int kDim>
struct BlockShape {
  static constexpr int kRowFragments = kDim <= 128 ? 2 : 1;  // of a warp
  static constexpr int kWarpRows = kRowFragments * kTile;
  static constexpr int kRows = kWarps * kWarpRows;
  static constexpr int kEntries = kDim <= 128 ? 64 : 32;
  static constexpr int kEntryFragments = kEntries / kTile;
  static constexpr int kColFragments = kDim / kTile;
  // Of queries, keys and values: neighbouring rows begin in different banks.
  static constexpr int kStride = kDim + 8;
};

// A block's shared memory. All tiles begin at multiples of 32 bytes, as WMMA wants it.
template <typename Stored, int kDim>
struct TensorMemory {
  using Shape = BlockShape<kDim>;

  Stored queries[Shape::kRows][Shape::kStride];
  Stored keys[Shape::kEntries][Shape::kStride];
  Stored values[Shape::kEntries][Shape::kStride];
  union Warp {
    Stored weights[Shape::kWarpRows][kWeightStride];
    float scratch[Shape::kWarpRows][kScratchStride];
  } warps[kWarps];
  // Of each row.
  float bases[Shape::kRows];
  float shifts[Shape::kRows];   // what the base has just moved by
  float factors[Shape::kRows];  // what all earlier weights are multiplied with
  int num_visible[Shape::kRows];
};

// What a block works on. Row r is query head group.first + r % group.count of token r /
// group.count.
struct GroupTask {
  QueryGroup group;
  const int32_t* pages;
  int first_row;         // of the qkv tensor
  int num_rows;          // of the block; 0: another block has them
  int visible_to_first;  // entries that the first token sees
  int begin;             // the first entry that any token sees
  int end;               // behind the last

  // Blocks of 16 tokens and more take neighbouring tiles of a sequence, counted from its end, and
  // the tile's own block has nothing to do unless it is the first of them. Smaller ones share a
  // tile.
  __device__ GroupTask(const AttentionArguments& a, int block_tokens)
      : group(QueryGroupOf(a.shape, static_cast<int>(blockIdx.y))), num_rows(0) {
    const int parts = block_tokens < kTileRows ? kTileRows / block_tokens : 1;
    const int tiles = block_tokens < kTileRows ? 1 : block_tokens / kTileRows;
    const int index = static_cast<int>(blockIdx.x) / parts;
    const int skipped = static_cast<int>(blockIdx.x) % parts * block_tokens;
    const RowTile tile = a.batch.prefill_tiles[index];
    const int part_of_block = tile.first.num_after / kTileRows % tiles;
    const bool leads = part_of_block == tiles - 1 || index == 0 ||
                       a.batch.prefill_tiles[index - 1].first.sequence != tile.first.sequence;
    const int num_after = tile.first.num_after - skipped;
    const int rows_of_tiles = parts > 1 ? tile.num_rows - skipped : num_after + 1;
    const int most = parts > 1 ? block_tokens : (part_of_block + 1) * kTileRows;
    const int num_tokens = rows_of_tiles < most ? rows_of_tiles : most;
    if (!leads || num_tokens <= 0) return;

    const int kv_head = static_cast<int>(blockIdx.y);
    const HeadTable table = a.batch.tables[tile.first.sequence * a.shape.num_kv_heads + kv_head];
    pages = a.batch.page_ids + table.first_page;
    first_row = tile.first.row + skipped;
    num_rows = num_tokens * group.count;
    visible_to_first = table.num_entries - num_after;
    begin = FirstVisible(visible_to_first, a.sliding_window);
    end = visible_to_first + num_tokens - 1;
  }

  __device__ int VisibleTo(int row) const {
    return row < num_rows ? visible_to_first + row / group.count : 0;
  }
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
    if (lane == 0) {
      memory.num_visible[row] = task.VisibleTo(row);
      memory.bases[row] = 0;
    }
  }
}

// A warp's rows. Lane l keeps the softmax of row l % kWarpRows; scores and outputs are spread over
// the warp by fragments.
template <typename Stored, int kDim>
class WarpRows {
 public:
  using Shape = BlockShape<kDim>;
  using Memory = TensorMemory<Stored, kDim>;

  __device__ __forceinline__ WarpRows(const GroupTask& task, int sliding_window, Memory& memory)
      : memory_(memory),
        warp_(memory.warps[threadIdx.x / kWarpThreads]),
        lane_(static_cast<int>(threadIdx.x) % kWarpThreads),
        first_row_(static_cast<int>(threadIdx.x) / kWarpThreads * Shape::kWarpRows),
        sliding_window_(sliding_window),
        visible_to_first_(task.VisibleTo(first_row_)),
        has_no_base_(first_row_ + lane_ % Shape::kWarpRows < task.num_rows) {
    const int last_row = first_row_ + Shape::kWarpRows - 1;
    visible_to_last_ = task.VisibleTo(last_row < task.num_rows ? last_row : task.num_rows - 1);
#pragma unroll
    for (int i = 0; i < Shape::kRowFragments; ++i) {
#pragma unroll
      for (int j = 0; j < Shape::kColFragments; ++j) wmma::fill_fragment(out_[i][j], 0.0f);
    }
    FindPlaces();
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
      for (int j = 0; j < Shape::kEntryFragments; ++j) wmma::fill_fragment(scores_[i][j], 0.0f);
    }
#pragma unroll
    for (int col = 0; col < kDim; col += kTile) {
      RowMajorA<Stored> queries[Shape::kRowFragments];
#pragma unroll
      for (int i = 0; i < Shape::kRowFragments; ++i) {
        wmma::load_matrix_sync(queries[i], &memory_.queries[first_row_ + i * kTile][col],
                               Shape::kStride);
      }
#pragma unroll
      for (int j = 0; j < Shape::kEntryFragments; ++j) {
        FragmentB<Stored, wmma::col_major> keys;
        wmma::load_matrix_sync(keys, &memory_.keys[j * kTile][col], Shape::kStride);
#pragma unroll
        for (int i = 0; i < Shape::kRowFragments; ++i) {
          wmma::mma_sync(scores_[i][j], queries[i], keys, scores_[i][j]);
        }
      }
    }
  }

  // Scales the scores and subtracts the rows' bases, after moving them where they must.
  __device__ __forceinline__ void Normalize(int begin, float log2_scale) {
    const bool all_visible = begin + Shape::kEntries <= visible_to_first_ &&
                             begin >= FirstVisible(visible_to_last_, sliding_window_);
    bool must_move = has_no_base_;
#pragma unroll
    for (int i = 0; i < Shape::kRowFragments; ++i) {
#pragma unroll
      for (int p = 0; p < kPlaces; ++p) {
        const int row = first_row_ + i * kTile + RowOf(p);
        const float base = memory_.bases[row];
        const int end = all_visible ? 0 : memory_.num_visible[row] - begin;
        const int first = all_visible ? 0 : FirstVisible(end + begin, sliding_window_) - begin;
#pragma unroll
        for (int j = 0; j < Shape::kEntryFragments; ++j) {
          float& score = scores_[i][j].x[p];
          const int entry = j * kTile + ColOf(p);
          score = fmaf(score, log2_scale, -base);
          if (!all_visible && (entry < first || entry >= end)) score = kNegativeInfinity;
          must_move |= score > kHeadroom;
        }
      }
    }
    if (__ballot_sync(kAllLanes, must_move) != 0) MoveBases();
  }

  // out += weights · values.
  __device__ __forceinline__ void MultiplyValues() {
#pragma unroll
    for (int begin = 0; begin < Shape::kEntries; begin += kWeightEntries) {
      WriteWeights(begin / kTile);
      __syncwarp();
      AddWeights();
#pragma unroll
      for (int k = 0; k < kWeightEntries; k += kTile) {
        RowMajorA<Stored> weights[Shape::kRowFragments];
#pragma unroll
        for (int i = 0; i < Shape::kRowFragments; ++i) {
          wmma::load_matrix_sync(weights[i], &warp_.weights[i * kTile][k], kWeightStride);
        }
#pragma unroll
        for (int j = 0; j < Shape::kColFragments; ++j) {
          FragmentB<Stored, wmma::row_major> values;
          wmma::load_matrix_sync(values, &memory_.values[begin + k][j * kTile], Shape::kStride);
#pragma unroll
          for (int i = 0; i < Shape::kRowFragments; ++i) {
            wmma::mma_sync(out_[i][j], weights[i], values, out_[i][j]);
          }
        }
      }
      __syncwarp();
    }
  }

  __device__ __forceinline__ void Store(const AttentionArguments& a, const GroupTask& task) {
    const int head_dim = a.shape.head_dim;
    if (lane_ < Shape::kWarpRows) memory_.factors[first_row_ + lane_] = sum_;
#pragma unroll
    for (int j = 0; j < Shape::kColFragments; ++j) {
#pragma unroll
      for (int i = 0; i < Shape::kRowFragments; ++i) {
        wmma::store_matrix_sync(&warp_.scratch[i * kTile][0], out_[i][j], kScratchStride,
                                wmma::mem_row_major);
      }
      __syncwarp();
      const int col = j * kTile + lane_ % kTile;
      for (int i = lane_ / kTile; i < Shape::kWarpRows; i += kWarpThreads / kTile) {
        const int row = first_row_ + i;
        if (row >= task.num_rows || col >= head_dim) continue;
        const int token = row / task.group.count;
        const int head = task.group.first + row - token * task.group.count;
        a.out.data[(task.first_row + token) * a.out.stride + head * head_dim + col] =
            warp_.scratch[i][lane_ % kTile] / memory_.factors[row];
      }
      __syncwarp();
    }
  }

 private:
  // WMMA does not tell which numbers of a fragment a lane holds: a fragment of their own places
  // does.
  __device__ __forceinline__ void FindPlaces() {
    float* const places = &warp_.scratch[0][0];
    for (int i = lane_; i < kTile * kTile; i += kWarpThreads) places[i] = static_cast<float>(i);
    __syncwarp();
    Accumulator own;
    wmma::load_matrix_sync(own, places, kTile, wmma::mem_row_major);
#pragma unroll
    for (int p = 0; p < kPlaces; ++p) {
      places_[p / 4] |= static_cast<unsigned>(own.x[p]) << (p % 4 * 8);
    }
  }
  __device__ __forceinline__ int RowOf(int place) const {
    return static_cast<int>(places_[place / 4] >> (place % 4 * 8 + 4) & 15);
  }
  __device__ __forceinline__ int ColOf(int place) const {
    return static_cast<int>(places_[place / 4] >> (place % 4 * 8) & 15);
  }

  // The lane's row's largest score above its base.
  __device__ __forceinline__ float RowMax() {
    float max = kNegativeInfinity;
#pragma unroll
    for (int j = 0; j < Shape::kEntryFragments; ++j) {
#pragma unroll
      for (int i = 0; i < Shape::kRowFragments; ++i) {
        wmma::store_matrix_sync(&warp_.scratch[i * kTile][0], scores_[i][j], kScratchStride,
                                wmma::mem_row_major);
      }
      __syncwarp();
      for (int i = 0; i < kTile; ++i) {
        max = fmaxf(max, warp_.scratch[lane_ % Shape::kWarpRows][i]);
      }
      __syncwarp();
    }
    return max;
  }

  // A row that needs nothing is moved by exactly 0 and multiplied by exactly 1.
  __device__ __forceinline__ void MoveBases() {
    const float max = RowMax();
    float shift = 0;
    float factor = 1;
    if (has_no_base_ ? max > kNegativeInfinity : max > kHeadroom) {
      shift = max;
      if (!has_no_base_) factor = exp2f(-max);  // else there is nothing to multiply
      has_no_base_ = false;
    }
    sum_ *= factor;
    if (lane_ < Shape::kWarpRows) {
      memory_.bases[first_row_ + lane_] += shift;
      memory_.shifts[first_row_ + lane_] = shift;
      memory_.factors[first_row_ + lane_] = factor;
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < Shape::kRowFragments; ++i) {
#pragma unroll
      for (int p = 0; p < kPlaces; ++p) {
        const int row = first_row_ + i * kTile + RowOf(p);
        const float shift_of_row = memory_.shifts[row];
        const float factor_of_row = memory_.factors[row];
#pragma unroll
        for (int j = 0; j < Shape::kEntryFragments; ++j) scores_[i][j].x[p] -= shift_of_row;
#pragma unroll
        for (int j = 0; j < Shape::kColFragments; ++j) out_[i][j].x[p] *= factor_of_row;
      }
    }
    __syncwarp();
  }

  // Of kWeightEntries entries from fragment `first` on.
  __device__ __forceinline__ void WriteWeights(int first) {
#pragma unroll
    for (int i = 0; i < Shape::kRowFragments; ++i) {
#pragma unroll
      for (int p = 0; p < kPlaces; ++p) {
        Stored* const to = &warp_.weights[i * kTile + RowOf(p)][ColOf(p)];
#pragma unroll
        for (int j = 0; j < kWeightEntries / kTile; ++j) {
          to[j * kTile] = FromFloat<Stored>(exp2f(scores_[i][first + j].x[p]));
        }
      }
    }
  }

  // To the lane's row's sum, as rounded as the values will see them.
  __device__ __forceinline__ void AddWeights() {
    const Stored* const weights = warp_.weights[lane_ % Shape::kWarpRows];
#pragma unroll
    for (int i = 0; i < kWeightEntries; i += kVectorSize<Stored>) {
      float numbers[kVectorSize<Stored>];
      LoadVector(weights + i, numbers);
#pragma unroll
      for (int j = 0; j < kVectorSize<Stored>; ++j) sum_ += numbers[j];
    }
  }

  Memory& memory_;
  typename Memory::Warp& warp_;
  const int lane_;
  const int first_row_;  // of the block's
  const int sliding_window_;
  const int visible_to_first_;
  int visible_to_last_;
  bool has_no_base_;  // the lane's row has seen nothing yet
  float sum_ = 0;
  unsigned places_[kPlaces / 4] = {};  // row and column, 4 bits each
  Accumulator scores_[Shape::kRowFragments][Shape::kEntryFragments];
  Accumulator out_[Shape::kRowFragments][Shape::kColFragments];  // not yet divided by the sums
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

// The largest power of two whose rows fit into a block.
template <int kDim>
int BlockTokens(int group_size) {
  int tokens = BlockShape<kDim>::kRows;
  while (tokens > 1 && tokens * group_size > BlockShape<kDim>::kRows) tokens /= 2;
  return tokens;
}

template <typename Stored, int kDim>
cudaError_t LaunchTensorPrefill(cudaStream_t stream, const AttentionArguments& a) {
  const int block_tokens = BlockTokens<kDim>(a.shape.group_size);
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
