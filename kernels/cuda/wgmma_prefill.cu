// Prefill attention over per-head page tables by the products of sm_90a, which read keys and values
// from shared memory by themselves for 64 rows at once, and run beside the softmax.
//
// A block takes some tokens with all query heads of a KV head, up to 128 rows, and divides its work
// between three warpgroups: one copies tiles of keys and values, two have 64 rows each. These work
// on their own: nothing but the rings of tiles makes one wait for another. Each begins a tile's
// scores together with the output of the tile before, and takes the softmax of the former while the
// latter is under way. Such an order is known from FlashAttention-3.
//
// Tiles begin at multiples of their size, and what a row is scaled by hangs on its own scores
// alone, so that a row's bits depend on its role and place only.

#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include "kernels/cuda/group_task.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/swizzled_matrix.h"
#include "kernels/cuda/tensor_core.h"
#include "kernels/cuda/wgmma.h"
#include "kernels/cuda/wgmma_prefill.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kMaxConsumers = 2;  // warpgroups with rows; the one behind them copies
constexpr int kRows = kMaxConsumers * kWarpgroupRows;
constexpr int kThreads = (kMaxConsumers + 1) * kWarpgroupThreads;
constexpr int kTileEntries = 128;
constexpr int kStages = 2;  // tiles of keys, and as many of values
// So one of a block's warpgroups begins, or ends, at most one tile before the other.
static_assert(kRows <= kTileEntries);

// Tiles of keys or of values, which are filled and emptied in turn.
template <int kDim>
class TileRing {
 public:
  using Tile = SwizzledMatrix<kTileEntries, kDim>;

  __device__ void Init(int num_consumers) {
    for (int i = 0; i < kStages; ++i) {
      full_[i].Init(kWarpgroupThreads);
      empty_[i].Init(static_cast<unsigned>(num_consumers * kWarpgroupThreads / kWarpThreads));
    }
  }

  __device__ __forceinline__ unsigned char* At(int tile) { return tiles_[tile % kStages]; }
  __device__ __forceinline__ uint32_t AddressOf(int tile) { return KVEC_SHARED_ADDRESS(At(tile)); }

  // Until no product reads what lay in the tile's place.
  __device__ __forceinline__ void WaitUntilEmpty(int tile) {
    if (tile >= kStages) empty_[tile % kStages].Wait(tile / kStages - 1);
  }
  __device__ __forceinline__ void WaitUntilFull(int tile) {
    full_[tile % kStages].Wait(tile / kStages);
  }
  // By every thread that has copied, with its part.
  __device__ __forceinline__ void Filled(int tile) {
    ShowToProducts();
    full_[tile % kStages].Arrive();
  }
  // By every warp of rows, with its products.
  __device__ __forceinline__ void Emptied(int tile) {
    if (threadIdx.x % kWarpThreads == 0) empty_[tile % kStages].Arrive();
  }

 private:
  alignas(Tile::kPatternBytes) unsigned char tiles_[kStages][Tile::kBytes];
  PhaseBarrier full_[kStages];
  PhaseBarrier empty_[kStages];
};

// A block's shared memory.
template <int kDim>
struct WgmmaMemory {
  using Queries = SwizzledMatrix<kRows, kDim>;

  alignas(Queries::kPatternBytes) unsigned char queries[Queries::kBytes];
  TileRing<kDim> keys;
  TileRing<kDim> values;

  // With room to begin at a multiple of its alignment.
  static constexpr size_t kBytesToAsk =
      sizeof(queries) + 2 * sizeof(TileRing<kDim>) + Queries::kPatternBytes;

  __device__ static WgmmaMemory& In(unsigned char* shared) {
    const uint32_t behind = KVEC_SHARED_ADDRESS(shared) % Queries::kPatternBytes;
    return *reinterpret_cast<WgmmaMemory*>(shared + (Queries::kPatternBytes - behind) %
                                                        Queries::kPatternBytes);
  }
};

// The warpgroup that copies.
template <typename Stored, int kDim>
class TileCopier {
 public:
  using Tile = typename TileRing<kDim>::Tile;
  // Of a thread, which has 168 at first: the warpgroups with rows get what is left.
  static constexpr int kRegisters = 40;

  __device__ __forceinline__ TileCopier(const AttentionArguments& a, const GroupTask& task,
                                        WgmmaMemory<kDim>& memory)
      : task_(task),
        first_tile_(task.begin / kTileEntries),
        num_tiles_((task.end + kTileEntries - 1) / kTileEntries - first_tile_),
        entries_(a.kv),
        memory_(memory) {}

  // Keys of tiles 0 and 1, values of 0, keys of 2, values of 1, …: keys are free, and wanted,
  // first. Copies are marked as done one late, so that the next is under way meanwhile.
  __device__ __forceinline__ void CopyAll() {
    const int num_steps = 2 * num_tiles_ + 1;
    Begin(0);
    for (int step = 1; step < num_steps; ++step) {
      Begin(step);
      __pipeline_wait_prior(1);
      Finish(step - 1);
    }
    __pipeline_wait_prior(0);
    Finish(num_steps - 1);
  }

 private:
  static constexpr int kTilePages = kTileEntries / kPageTokens;

  __device__ __forceinline__ static bool IsOfValues(int step) { return step > 0 && step % 2 == 0; }
  __device__ __forceinline__ static int TileOf(int step) {
    return IsOfValues(step) ? step / 2 - 1 : (step + 1) / 2;
  }
  __device__ __forceinline__ TileRing<kDim>& RingOf(int step) const {
    return IsOfValues(step) ? memory_.values : memory_.keys;
  }

  // The keys behind the last tile are none.
  __device__ __forceinline__ void Begin(int step) const {
    const int tile = TileOf(step);
    if (tile < num_tiles_) {
      const int begin = (first_tile_ + tile) * kTileEntries;
      const int32_t page = PageOfLane(begin);
      RingOf(step).WaitUntilEmpty(tile);
      Copy(begin, page, IsOfValues(step), RingOf(step).At(tile));
    }
    __pipeline_commit();
  }
  __device__ __forceinline__ void Finish(int step) const {
    if (TileOf(step) < num_tiles_) RingOf(step).Filled(TileOf(step));
  }

  // The lane-th page of the tile from `begin` on.
  __device__ __forceinline__ int32_t PageOfLane(int begin) const {
    const int index = begin / kPageTokens + static_cast<int>(threadIdx.x) % kTilePages;
    return index * kPageTokens < task_.end ? task_.pages[index] : 0;
  }

  // Begins to copy; zeros for entries that no row sees, whose pages may be gone.
  __device__ __forceinline__ void Copy(int begin, int32_t page_of_lane, bool values,
                                       unsigned char* to) const {
    constexpr int kVectors = kDim / kVectorSize<Stored>;
    constexpr int kEntriesAtOnce = kWarpgroupThreads / kVectors;
    static_assert(kEntriesAtOnce % 8 == 0);  // all of a thread's entries have the same places
    const int thread = static_cast<int>(threadIdx.x) % kWarpgroupThreads;
    const int vector = thread % kVectors;
    unsigned char* place = to + Tile::Offset(thread / kVectors, vector);
// More at once would need more registers than the warpgroup has.
#pragma unroll 2
    for (int row = thread / kVectors; row < kTileEntries; row += kEntriesAtOnce) {
      const int32_t page = __shfl_sync(kAllLanes, page_of_lane, row / kPageTokens);
      if (begin + row >= task_.begin && begin + row < task_.end) {
        const Stored* const from = values ? entries_.Value(&page, row % kPageTokens)
                                          : entries_.Key(&page, row % kPageTokens);
        __pipeline_memcpy_async(place, from + vector * kVectorSize<Stored>, sizeof(uint4));
      } else {
        *reinterpret_cast<uint4*>(place) = uint4{0, 0, 0, 0};
      }
      place += kEntriesAtOnce * Tile::kRowBytes;
    }
  }

  const GroupTask& task_;
  const int first_tile_;
  const int num_tiles_;
  const Entries<Stored> entries_;
  WgmmaMemory<kDim>& memory_;
};

// A warpgroup's rows. A thread shares two of them, kRowsApart apart, with its quad.
template <typename Stored, int kDim>
class WarpgroupRows {
 public:
  using Memory = WgmmaMemory<kDim>;
  using Queries = typename Memory::Queries;
  static constexpr int kRegisters = 232;  // of a thread

  __device__ __forceinline__ WarpgroupRows(const AttentionArguments& a, const GroupTask& task,
                                           Memory& memory)
      : memory_(memory),
        first_row_(WarpgroupOfBlock() * kWarpgroupRows),
        sliding_window_(a.sliding_window),
        log2_scale_(a.log2_scale),
        visible_to_first_(task.VisibleTo(first_row_)) {
    const int last_row = first_row_ + kWarpgroupRows - 1;
    visible_to_last_ = task.VisibleTo(last_row < task.num_rows ? last_row : task.num_rows - 1);
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
      num_visible_[row] = task.VisibleTo(RowOf(row));
      if (num_visible_[row] > 0) without_base_ |= 1u << row;
    }
  }

  __device__ __forceinline__ void LoadQueries(const AttentionArguments& a, const GroupTask& task) {
    constexpr int kVectors = kDim / kVectorSize<Stored>;
    const int thread = static_cast<int>(threadIdx.x) % kWarpgroupThreads;
    for (int i = thread; i < kWarpgroupRows * kVectors; i += kWarpgroupThreads) {
      const int row = first_row_ + i / kVectors;
      const int vector = i % kVectors;
      uint4 numbers{0, 0, 0, 0};
      if (row < task.num_rows) {
        const float* const query = RowOfTensor(a.qkv, a, task, row) + vector * kVectorSize<Stored>;
        numbers = {PackPair(Stored(), query[0], query[1]), PackPair(Stored(), query[2], query[3]),
                   PackPair(Stored(), query[4], query[5]), PackPair(Stored(), query[6], query[7])};
      }
      *reinterpret_cast<uint4*>(memory_.queries + Queries::Offset(row, vector)) = numbers;
    }
    ShowToProducts();
    SyncWarpgroup();
  }

  // All tiles, counted from the one that the entry `begin` is in.
  __device__ __forceinline__ void Attend(int begin) {
    const int origin = begin / kTileEntries;
    const int first = FirstVisible(visible_to_first_, sliding_window_) / kTileEntries - origin;
    const int end = (visible_to_last_ + kTileEntries - 1) / kTileEntries - origin;
    for (int tile = 0; tile < first; ++tile) {
      memory_.keys.Emptied(tile);
      memory_.values.Emptied(tile);
    }
    memory_.keys.WaitUntilFull(first);
    BeginScores(first);
    WaitForProducts<0>(scores_);
    memory_.keys.Emptied(first);
    (void)TakeWeights((origin + first) * kTileEntries);
    RoundWeights();
    for (int tile = first + 1; tile < end; ++tile) {
      memory_.keys.WaitUntilFull(tile);
      BeginScores(tile);
      memory_.values.WaitUntilFull(tile - 1);
      BeginOut(tile - 1);
      WaitForProducts<1>(scores_);
      memory_.keys.Emptied(tile);
      const bool rescales = TakeWeights((origin + tile) * kTileEntries);
      WaitForProducts<0>(out_, scores_);
      memory_.values.Emptied(tile - 1);
      if (rescales) RescaleOut();
      RoundWeights();
    }
    memory_.values.WaitUntilFull(end - 1);
    BeginOut(end - 1);
    WaitForProducts<0>(out_);
  }

  __device__ __forceinline__ void Store(const AttentionArguments& a, const GroupTask& task) {
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
      const float scale = 1.0f / WarpSum<4>(sums_[row]);
      if (RowOf(row) >= task.num_rows) continue;
      float* const to = RowOfTensor(a.out, a, task, RowOf(row));
#pragma unroll
      for (int i = 0; i < kDim / 4; ++i) to[ColOf(i)] = Of(out_, row, i) * scale;
    }
  }

 private:
  static constexpr int kLaneRows = 2;
  static constexpr int kLaneScores = kTileEntries / 4;  // of a row

  // The lane's row-th row, of the block's.
  __device__ __forceinline__ int RowOf(int row) const {
    const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
    return warp * (kWarpgroupRows / 4) + row * kRowsApart + QuadOfLane();
  }
  // The entry of the tile, or the column, of the i-th number that a lane holds of a row.
  __device__ __forceinline__ static int ColOf(int i) {
    return i / 2 * 8 + LaneOfQuad() * 2 + i % 2;
  }
  template <int kSize>
  __device__ __forceinline__ static float& Of(float (&numbers)[kSize], int row, int i) {
    return numbers[i / 2 * 4 + row * 2 + i % 2];
  }
  // Of qkv its query, of out all.
  __device__ __forceinline__ static float* RowOfTensor(const Tensor& tensor,
                                                       const AttentionArguments& a,
                                                       const GroupTask& task, int row) {
    const int token = row / task.group.count;
    const int head = task.group.first + row - token * task.group.count;
    return tensor.data + (task.first_row + token) * tensor.stride + head * kDim;
  }

  // Begins scores = queries · keysᵀ.
  __device__ __forceinline__ void BeginScores(int tile) {
    const uint32_t queries = KVEC_SHARED_ADDRESS(memory_.queries);
    const uint32_t keys = memory_.keys.AddressOf(tile);
    FenceRegisters();
#pragma unroll
    for (int col = 0; col < kDim; col += kDepth) {
      BeginProduct<Stored>(scores_, Queries::AlongRows(queries, first_row_, col),
                           TileRing<kDim>::Tile::AlongRows(keys, 0, col), /*adds=*/col > 0);
    }
    CommitProducts();
  }

  // Begins out += weights · values.
  __device__ __forceinline__ void BeginOut(int tile) {
    const uint32_t values = memory_.values.AddressOf(tile);
    FenceRegisters();
#pragma unroll
    for (int entry = 0; entry < kTileEntries; entry += kDepth) {
      BeginProduct<Stored>(out_, weights_[entry / kDepth],
                           TileRing<kDim>::Tile::AcrossRows(values, entry));
    }
    CommitProducts();
  }

  // Turns the scores of the tile from `begin` on into weights. Returns whether `out` is to be
  // multiplied with factors_.
  __device__ __forceinline__ bool TakeWeights(int begin) {
    const bool all_visible = begin + kTileEntries <= visible_to_first_ &&
                             begin >= FirstVisible(visible_to_last_, sliding_window_);
    if (!all_visible) Hide(begin);
    bool must_move = without_base_ != 0;
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
#pragma unroll
      for (int i = 0; i < kLaneScores; ++i) {
        float& score = Of(scores_, row, i);
        score = fmaf(score, log2_scale_, -bases_[row]);
        must_move |= score > kHeadroom;
      }
    }
    const bool moves = __ballot_sync(kAllLanes, must_move) != 0;
    if (moves) MoveBases();
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
#pragma unroll
      for (int i = 0; i < kLaneScores; ++i) {
        float& score = Of(scores_, row, i);
        score = FastExp2(score);
        sums_[row] += score;
      }
    }
    return moves;
  }

  // Scores that a row does not see, of the tile from `begin` on.
  __device__ __forceinline__ void Hide(int begin) {
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
      const int end = num_visible_[row] - begin;
      const int first = FirstVisible(num_visible_[row], sliding_window_) - begin;
#pragma unroll
      for (int i = 0; i < kLaneScores; ++i) {
        if (ColOf(i) < first || ColOf(i) >= end) Of(scores_, row, i) = kNegativeInfinity;
      }
    }
  }

  // A row that needs nothing is moved by exactly 0 and multiplied by exactly 1.
  __device__ __forceinline__ void MoveBases() {
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
      float max = kNegativeInfinity;
#pragma unroll
      for (int i = 0; i < kLaneScores; ++i) max = fmaxf(max, Of(scores_, row, i));
      max = WarpMax<4>(max);
      float shift = 0;
      factors_[row] = 1;
      const bool has_base = (without_base_ >> row & 1) == 0;
      if (max > (has_base ? kHeadroom : kNegativeInfinity)) {
        shift = max;
        if (has_base) factors_[row] = exp2f(-max);  // else there is nothing to multiply
        without_base_ &= ~(1u << row);
      }
      bases_[row] += shift;
      sums_[row] *= factors_[row];
#pragma unroll
      for (int i = 0; i < kLaneScores; ++i) Of(scores_, row, i) -= shift;
    }
  }

  __device__ __forceinline__ void RescaleOut() {
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
#pragma unroll
      for (int i = 0; i < kDim / 4; ++i) Of(out_, row, i) *= factors_[row];
    }
  }

  // As an A for each kDepth entries.
  __device__ __forceinline__ void RoundWeights() {
#pragma unroll
    for (int i = 0; i < kTileEntries / kDepth * 4; ++i) {
      weights_[i / 4][i % 4] = PackPair(Stored(), scores_[2 * i], scores_[2 * i + 1]);
    }
  }

  Memory& memory_;
  const int first_row_;  // of the block's
  const int sliding_window_;
  const float log2_scale_;
  const int visible_to_first_;
  int visible_to_last_;
  int num_visible_[kLaneRows];
  unsigned without_base_ = 0;  // a bit for each row that has seen nothing yet
  float bases_[kLaneRows] = {};
  float sums_[kLaneRows] = {};  // of the lane's own weights
  float factors_[kLaneRows] = {};
  float scores_[kTileEntries / 2];              // [64 rows][kTileEntries] of the warpgroup
  uint32_t weights_[kTileEntries / kDepth][4];  // [64 rows][kTileEntries]
  float out_[kDim / 2] = {};                    // [64 rows][kDim], not yet divided by the sums
};

// Grid [tiles · parts, num_kv_heads].
template <typename Stored, int kDim>
__global__ void __launch_bounds__(kThreads, 1)
    WgmmaPrefillKernel(AttentionArguments a, int block_tokens) {
#ifdef KVEC_HAS_WGMMA
  const GroupTask task(a, block_tokens);
  if (task.num_rows == 0) return;
  KVEC_DYNAMIC_SHARED_ARRAY(unsigned char, shared);
  auto& memory = WgmmaMemory<kDim>::In(shared);
  const int num_consumers = (task.num_rows + kWarpgroupRows - 1) / kWarpgroupRows;
  if (threadIdx.x == 0) {
    memory.keys.Init(num_consumers);
    memory.values.Init(num_consumers);
  }
  __syncthreads();
  if (WarpgroupOfBlock() == kMaxConsumers) {
    using Copier = TileCopier<Stored, kDim>;
    KVEC_LOWER_REGISTERS(Copier::kRegisters);
    Copier(a, task, memory).CopyAll();
  } else if (WarpgroupOfBlock() < num_consumers) {
    using Rows = WarpgroupRows<Stored, kDim>;
    KVEC_RAISE_REGISTERS(Rows::kRegisters);
    Rows rows(a, task, memory);
    rows.LoadQueries(a, task);
    rows.Attend(task.begin);
    rows.Store(a, task);
  }
#endif
}

template <typename Stored, int kDim>
cudaError_t LaunchWgmmaPrefill(cudaStream_t stream, const AttentionArguments& a) {
  const int block_tokens = BlockTokens(a.shape.group_size, kRows);
  const int parts = block_tokens < kTileRows ? kTileRows / block_tokens : 1;
  const dim3 grid(static_cast<unsigned>(a.batch.num_prefill_tiles * parts),
                  static_cast<unsigned>(a.shape.num_kv_heads));
  return Launch(stream, {grid, kThreads, WgmmaMemory<kDim>::kBytesToAsk},
                WgmmaPrefillKernel<Stored, kDim>, a, block_tokens);
}

template <typename Stored>
cudaError_t LaunchForHead(cudaStream_t stream, const AttentionArguments& a) {
  return a.shape.head_dim == 64 ? LaunchWgmmaPrefill<Stored, 64>(stream, a)
                                : LaunchWgmmaPrefill<Stored, 128>(stream, a);
}

}  // namespace

cudaError_t WgmmaPrefill(cudaStream_t stream, const AttentionArguments& arguments) {
  return arguments.kv.type == KvType::kBF16 ? LaunchForHead<__nv_bfloat16>(stream, arguments)
                                            : LaunchForHead<__half>(stream, arguments);
}

}  // namespace kvec::kernels::cuda
