#ifndef KVEC_KERNELS_CUDA_PREFILL_TILE_H_
#define KVEC_KERNELS_CUDA_PREFILL_TILE_H_

#include <cuda_runtime.h>

#include "kernels/cuda/kv_access.h"
#include "kernels/cuda/warp_math.h"

// What a block of prefill attention on the ordinary cores works on: a tile of up to kTileRows rows
// and one query head; kRowLanes neighbouring threads share a row. Device code.
namespace kvec::kernels::cuda {

// The first entry of a row that sees all before entry num_visible.
__device__ __forceinline__ int FirstVisible(int num_visible, int sliding_window) {
  return sliding_window > 0 && num_visible > sliding_window ? num_visible - sliding_window : 0;
}

inline constexpr int kRowLanes = 8;
inline constexpr int kPrefillThreads = kTileRows * kRowLanes;

// What a block works on: rows of a prompt, for one query head.
struct RowTask {
  RowTile tile;
  int head;
  const int32_t* pages;
  int num_visible;    // of the thread's row; 0: it has none
  int first_visible;  // that the thread's row sees
  int tile_begin;     // the first entry that any row sees
  int tile_end;       // behind the last

  __device__ RowTask(const AttentionArguments& a, int row)
      : tile(a.batch.prefill_tiles[blockIdx.x]), head(static_cast<int>(blockIdx.y)) {
    const int kv_head = (head + a.shape.group_offset) / a.shape.group_size;
    const HeadTable table = a.batch.tables[tile.first.sequence * a.shape.num_kv_heads + kv_head];
    pages = a.batch.page_ids + table.first_page;
    const int visible_to_first = table.num_entries - tile.first.num_after;
    num_visible = row < tile.num_rows ? visible_to_first + row : 0;
    first_visible = FirstVisible(num_visible, a.sliding_window);
    tile_begin = FirstVisible(visible_to_first, a.sliding_window);
    tile_end = visible_to_first + tile.num_rows - 1;
  }
};

// A row's softmax so far.
struct RunningSoftmax {
  float max = kNegativeInfinity;
  float sum = 0;

  // Turns the thread's scores, those of its row's entries first_entry + kRowLanes · i, into
  // weights. Returns what all earlier weights are to be multiplied with.
  template <int kScores>
  __device__ float Update(const RowTask& task, int first_entry, float (&scores)[kScores]) {
    float tile_max = kNegativeInfinity;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      const int entry = first_entry + i * kRowLanes;
      if (entry < task.first_visible || entry >= task.num_visible) scores[i] = kNegativeInfinity;
      tile_max = fmaxf(tile_max, scores[i]);
    }
    const float new_max = fmaxf(max, WarpMax<kRowLanes>(tile_max));
    // A row that has seen nothing yet keeps weights of 0.
    const float base = new_max == kNegativeInfinity ? 0.0f : new_max;
    const float rescale = exp2f(max - base);
    float tile_sum = 0;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      scores[i] = exp2f(scores[i] - base);
      tile_sum += scores[i];
    }
    sum = sum * rescale + WarpSum<kRowLanes>(tile_sum);
    max = new_max;
    return rescale;
  }
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_PREFILL_TILE_H_
