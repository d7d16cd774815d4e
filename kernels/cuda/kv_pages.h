#ifndef KVEC_KERNELS_CUDA_KV_PAGES_H_
#define KVEC_KERNELS_CUDA_KV_PAGES_H_

#include <cstddef>
#include <cstdint>

#include "kernels/kv_arena.h"
#include "kernels/tensor.h"

// What kernels see of the arena and of the page tables: plain pointers into the device's memory.
namespace kvec::kernels::cuda {

// A page is its keys [16 tokens][head_dim], then its values [16 tokens][head_dim], in the arena's
// type: an entry's key is one run of 16-byte loads. Beside the pages lie the positions
// [num_pages][16].
//
// In int8 the scales follow, an f16 per entry: [16] of the keys, then [16] of the values. Keys are
// rotated by a Hadamard matrix before they are rounded (hadamard.h), as on the processor:
// kernels/cpu/cpu_kv_arena.h has the reasons.
struct KvPages {
  void* pages = nullptr;
  int32_t* positions = nullptr;
  int head_dim = 0;
  KvType type = KvType::kBF16;
};

// One (sequence, KV head)'s part of the page tables.
struct HeadTable {
  int32_t first_page;   // in PagedBatch::page_ids
  int32_t num_entries;  // the rows of this Step included
};

// A row of a sequence in a Step. It sees num_entries - num_after entries of each of its KV heads,
// the last of which is its own.
struct BatchRow {
  int32_t row;        // of the qkv tensor; -1: there is none, nothing is to be done
  int32_t sequence;   // of PagedBatch::tables
  int32_t num_after;  // rows of the same sequence behind it
};

// Neighbouring rows of a prompt, the first of which has num_after rows behind it.
struct RowTile {
  BatchRow first;
  int32_t num_rows;  // at most kTileRows
};

inline constexpr int kTileRows = 16;

// One layer's page tables in an array of ids, with each head's place in it: heads hold different
// numbers of entries.
struct PagedBatch {
  const int32_t* page_ids = nullptr;
  // [num_kv_heads] of each sequence; in a Step's array of all layers num_layers times as far apart.
  const HeadTable* tables = nullptr;
  const BatchRow* rows = nullptr;     // [num_rows], of all roles
  int num_rows = 0;
  const BatchRow* decode_rows = nullptr;  // [num_decode_rows]: generated tokens
  int num_decode_rows = 0;
  const RowTile* prefill_tiles = nullptr;  // [num_prefill_tiles]
  int num_prefill_tiles = 0;
  int max_decode_entries = 0;  // that a generated token sees
};

struct AttentionArguments {
  Tensor qkv;  // [m, shape.qkv_cols()]
  HeadShape shape;
  int sliding_window = 0;   // 0: none
  float log2_scale = 1.0f;  // of q·k, times log2(e): the softmax is taken to base 2
  KvPages kv;
  PagedBatch batch;
  bool use_wgmma = false;  // of compute capability 9.0, where it was found to work: wgmma_check.h
  Tensor out;              // [m, num_heads · head_dim], of prompt tokens
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_KV_PAGES_H_
