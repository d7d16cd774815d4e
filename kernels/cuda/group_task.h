#ifndef KVEC_KERNELS_CUDA_GROUP_TASK_H_
#define KVEC_KERNELS_CUDA_GROUP_TASK_H_

#include <cuda_runtime.h>

#include "kernels/cuda/kv_access.h"
#include "kernels/cuda/prefill_tile.h"

// What prefill attention on tensor cores shares: how rows are cut into blocks. Device code, but for
// BlockTokens.
namespace kvec::kernels::cuda {

// Weights are 2^(score - base). A row's base moves only to a score above it by more than this,
// which is rare after the first tile: the row's sum and output need rescaling then.
inline constexpr float kHeadroom = 8.0f;

// The largest power of two whose rows fit into a block of so many.
inline int BlockTokens(int group_size, int block_rows) {
  int tokens = block_rows;
  while (tokens > 1 && tokens * group_size > block_rows) tokens /= 2;
  return tokens;
}

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

  // Entries that a row sees.
  __device__ int VisibleTo(int row) const {
    return row < num_rows ? visible_to_first + row / group.count : 0;
  }
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_GROUP_TASK_H_
