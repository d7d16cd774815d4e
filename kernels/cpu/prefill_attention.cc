#include "kernels/cpu/prefill_attention.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/cpu/prefill_block.h"
#include "kernels/cpu/scratch_buffer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/prefill_attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/int8_number-inl.h"
#include "kernels/cpu/key_panels-inl.h"
#include "kernels/cpu/kv_number-inl.h"
#include "kernels/cpu/panel_product-inl.h"
#include "kernels/cpu/softmax_row-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

constexpr size_t kTileKeys = kPrefillTileKeys;

// The operands of a block as its kernels want them. Columns are cut into panels of up to kPanelVecs
// registers, each panel contiguous:
//     keys    panels of [head_dim][keys of the panel]
//     values  panels of [kTileKeys][dims of the panel]
class BlockOperands {
 public:
  BlockOperands(int num_rows, int head_dim, ScratchBuffer& scratch)
      : head_dim(static_cast<size_t>(head_dim)),
        padded_rows(RoundUp(static_cast<size_t>(num_rows), kPanelRows)),
        padded_dims(RoundUp(this->head_dim, Lanes())) {
    float* next = scratch.Reserve(padded_rows * (this->head_dim + kTileKeys + padded_dims + 1) +
                                  kTileKeys * (this->head_dim + padded_dims));
    const auto take = [&next](size_t size) { return std::exchange(next, next + size); };
    queries = take(padded_rows * this->head_dim);
    scores = take(padded_rows * kTileKeys);
    sums = take(padded_rows * padded_dims);
    keys = take(kTileKeys * this->head_dim);
    values = take(kTileKeys * padded_dims);
    factors = take(padded_rows);
  }

  static size_t Lanes() { return hn::Lanes(hn::ScalableTag<float>()); }
  static size_t RoundUp(size_t value, size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
  }

  // Values have panels of nearly equal width, so that none is too narrow for the processor's pipes.
  size_t NumValuePanels() const { return (padded_dims / Lanes() + kPanelVecs - 1) / kPanelVecs; }
  // The first dimension of a panel of values; of the one behind the last: padded_dims.
  size_t ValuePanelBegin(size_t panel) const {
    return panel * (padded_dims / Lanes()) / NumValuePanels() * Lanes();
  }

  const size_t head_dim;
  const size_t padded_rows;  // a multiple of kPanelRows
  const size_t padded_dims;  // a multiple of the lanes
  float* queries;            // [padded_rows, head_dim], times the scale
  float* scores;             // [padded_rows, kTileKeys]; then the weights
  float* sums;               // [padded_rows, padded_dims] of weight · value
  float* keys;
  float* values;
  float* factors;  // [padded_rows] by which a tile shrinks what came before it
};

HWY_INLINE void LoadQueries(const AttentionInputs& inputs, const PrefillBlock& block,
                            const BlockOperands& operands) {
  float* to = operands.queries;
  for (int row = 0; row < block.num_rows(); ++row) {
    const int tensor_row = block.sequence->row_begin + block.token_begin + row / block.group.count;
    const int head = block.group.first + row % block.group.count;
    const float* from = inputs.qkv.data + tensor_row * inputs.qkv.stride +
                        static_cast<int64_t>(head) * inputs.shape.head_dim;
    ScaleQuery(*inputs.arena, from, inputs.log2_scale, to);
    to += operands.head_dim;
  }
  std::fill(to, operands.queries + operands.padded_rows * operands.head_dim, 0.0f);
}

// Widens values of a page, the dimensions [begin, begin + width), to to[kPageTokens, width]. The
// last register may reach beyond a row; those lanes never leave the scratch.
template <class Number>
HWY_INLINE void WidenValues(const typename Number::Stored* page, size_t head_dim, size_t begin,
                            size_t width, float* to) {
  const hn::ScalableTag<float> d;
  for (size_t token = 0; token < kPageTokens; ++token, to += width) {
    const auto* from = page + token * head_dim + begin;
    for (size_t i = 0; i < width; i += hn::Lanes(d)) {
      hn::Store(Number::Load(d, from + i), d, to + i);
    }
  }
}

HWY_INLINE void WidenInt8Values(const CpuKvArena& arena, int32_t page, size_t begin, size_t width,
                                float* to) {
  const hn::ScalableTag<float> d;
  const size_t head_dim = static_cast<size_t>(arena.spec().head_dim);
  const uint16_t* scales = arena.value_scales(page);
  for (size_t token = 0; token < kPageTokens; token += 2, to += 2 * width) {
    const uint8_t* from = arena.values(page) + token * head_dim + 2 * begin;
    const auto first_scale = hn::Set(d, HalfToFloat(scales[token]));
    const auto second_scale = hn::Set(d, HalfToFloat(scales[token + 1]));
    for (size_t i = 0; i < width; i += hn::Lanes(d)) {
      hn::Vec<decltype(d)> first;
      hn::Vec<decltype(d)> second;
      LoadPairs(d, from + 2 * i, first, second);
      hn::Store(hn::Mul(first, first_scale), d, to + i);
      hn::Store(hn::Mul(second, second_scale), d, to + width + i);
    }
  }
}

// Loads the values of a page into their place among the panels.
HWY_INLINE void LoadValues(const CpuKvArena& arena, int32_t page, size_t first_key,
                           const BlockOperands& operands) {
  for (size_t panel = 0; panel < operands.NumValuePanels(); ++panel) {
    const size_t begin = operands.ValuePanelBegin(panel);
    const size_t width = operands.ValuePanelBegin(panel + 1) - begin;
    float* to = operands.values + begin * kTileKeys + first_key * width;
    if (arena.spec().type == KvType::kInt8) {
      WidenInt8Values(arena, page, begin, width, to);
      continue;
    }
    WithKvNumber(arena.spec().type, [&](auto number) HWY_ATTR {
      using Number = decltype(number);
      WidenValues<Number>(reinterpret_cast<const typename Number::Stored*>(arena.values(page)),
                          operands.head_dim, begin, width, to);
    });
  }
}

// Loads the pages of the tile from `tile_begin` that hold any of the entries [begin, end).
HWY_INLINE void LoadTile(const AttentionInputs& inputs, const PrefillBlock& block, int tile_begin,
                         VisibleEntries visible, const BlockOperands& operands) {
  const int begin = std::max(tile_begin, visible.begin) / kPageTokens;
  const int end = std::min(tile_begin + kPrefillTileKeys, visible.end);
  for (int index = begin; index * kPageTokens < end; ++index) {
    const int32_t page = block.head().pages[index];
    const size_t first_key = static_cast<size_t>(index * kPageTokens - tile_begin);
    WidenKeys(*inputs.arena, page, first_key, operands.keys);
    LoadValues(*inputs.arena, page, first_key, operands);
  }
}

// The keys of a tile that some rows see; empty: begin == end.
struct TileKeys {
  size_t begin;
  size_t end;
};

HWY_INLINE TileKeys KeysOf(VisibleEntries visible, int tile_begin) {
  const int begin = std::clamp(visible.begin - tile_begin, 0, kPrefillTileKeys);
  const int end = std::clamp(visible.end - tile_begin, 0, kPrefillTileKeys);
  return {static_cast<size_t>(std::min(begin, end)), static_cast<size_t>(end)};
}

// Takes a block through its tiles. What a kernel multiplies at a time, kPanelRows rows, is a strip.
class BlockRunner {
 public:
  BlockRunner(const AttentionInputs& inputs, const PrefillBlock& block,
              const BlockOperands& operands, std::vector<SoftmaxState>& states)
      : inputs_(inputs), block_(block), operands_(operands), states_(states) {}

  HWY_INLINE void Run() {
    LoadQueries(inputs_, block_, operands_);
    std::fill_n(operands_.sums, operands_.padded_rows * operands_.padded_dims, 0.0f);
    states_.assign(static_cast<size_t>(block_.num_rows()), SoftmaxState());
    const VisibleEntries visible = Visible(0, block_.num_rows());
    for (int tile = visible.begin / kPrefillTileKeys * kPrefillTileKeys; tile < visible.end;
         tile += kPrefillTileKeys) {
      LoadTile(inputs_, block_, tile, visible, operands_);
      MultiplyKeys(tile);
      for (size_t row = 0; row < operands_.padded_rows; ++row) TakeSoftmax(tile, row);
      MultiplyValues(tile);
    }
    StoreResults();
  }

 private:
  HWY_INLINE VisibleEntries Visible(size_t begin, size_t end) const {
    return block_.Visible(static_cast<int>(begin), static_cast<int>(end), inputs_.sliding_window);
  }

  HWY_INLINE TileKeys StripKeys(int tile, size_t strip) const {
    const size_t end = std::min(strip + kPanelRows, static_cast<size_t>(block_.num_rows()));
    return KeysOf(Visible(strip, end), tile);
  }

  // scores = queries · keysᵀ. A panel of keys stays in the first-level cache while all rows pass.
  HWY_INLINE void MultiplyKeys(int tile) {
    const size_t panel_keys = KeyPanelKeys();
    for (size_t key = 0; key < kTileKeys; key += panel_keys) {
      for (size_t strip = 0; strip < operands_.padded_rows; strip += kPanelRows) {
        const TileKeys keys = StripKeys(tile, strip);
        if (keys.end <= key || keys.begin >= key + panel_keys) continue;
        MultiplyPanel<kPanelVecs>({.a = operands_.queries + strip * operands_.head_dim,
                                   .a_stride = operands_.head_dim,
                                   .b = operands_.keys + key * operands_.head_dim,
                                   .depth = operands_.head_dim,
                                   .factors = nullptr,
                                   .c = operands_.scores + strip * kTileKeys + key,
                                   .c_stride = kTileKeys});
      }
    }
  }

  HWY_INLINE void TakeSoftmax(int tile, size_t row) {
    float* scores = operands_.scores + row * kTileKeys;
    const bool is_padding = row >= static_cast<size_t>(block_.num_rows());
    const TileKeys keys = is_padding ? TileKeys{0, 0} : KeysOf(Visible(row, row + 1), tile);
    if (keys.begin == keys.end) {
      std::fill_n(scores, kTileKeys, 0.0f);
      operands_.factors[row] = 1.0f;
    } else {
      operands_.factors[row] = SoftmaxRow(scores, kTileKeys, keys.begin, keys.end, states_[row]);
    }
  }

  // sums = factors · sums + weights · values, over the keys that the strip sees: others may be
  // anything.
  HWY_INLINE void MultiplyValues(int tile) {
    for (size_t panel = 0; panel < operands_.NumValuePanels(); ++panel) {
      const size_t begin = operands_.ValuePanelBegin(panel);
      const size_t width = operands_.ValuePanelBegin(panel + 1) - begin;
      const float* values = operands_.values + begin * kTileKeys;
      for (size_t strip = 0; strip < operands_.padded_rows; strip += kPanelRows) {
        const TileKeys keys = StripKeys(tile, strip);
        if (keys.begin == keys.end) continue;
        MultiplyPanelOfWidth(width / BlockOperands::Lanes(),
                             {.a = operands_.scores + strip * kTileKeys + keys.begin,
                              .a_stride = kTileKeys,
                              .b = values + keys.begin * width,
                              .depth = keys.end - keys.begin,
                              .factors = operands_.factors + strip,
                              .c = operands_.sums + strip * operands_.padded_dims + begin,
                              .c_stride = operands_.padded_dims});
      }
    }
  }

  HWY_INLINE void StoreResults() const {
    const hn::CappedTag<float, 8> d;
    for (int row = 0; row < block_.num_rows(); ++row) {
      const auto inverse = hn::Set(d, 1.0f / states_[static_cast<size_t>(row)].sum);
      const float* from = operands_.sums + static_cast<size_t>(row) * operands_.padded_dims;
      const int tensor_row =
          block_.sequence->row_begin + block_.token_begin + row / block_.group.count;
      const int head = block_.group.first + row % block_.group.count;
      float* to = inputs_.out.data + tensor_row * inputs_.out.stride +
                  static_cast<int64_t>(head) * inputs_.shape.head_dim;
      for (size_t i = 0; i < operands_.head_dim; i += hn::Lanes(d)) {
        hn::StoreU(hn::Mul(hn::LoadU(d, from + i), inverse), d, to + i);
      }
    }
  }

  const AttentionInputs& inputs_;
  const PrefillBlock& block_;
  const BlockOperands& operands_;
  std::vector<SoftmaxState>& states_;  // [rows of the block]
};

void RunPrefillBlock(const AttentionInputs& inputs, const PrefillBlock& block) {
  static thread_local ScratchBuffer scratch;
  const BlockOperands operands(block.num_rows(), inputs.shape.head_dim, scratch);
  static thread_local std::vector<SoftmaxState> states;
  BlockRunner(inputs, block, operands, states).Run();
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvec::kernels::cpu {
namespace {

HWY_EXPORT(RunPrefillBlock);

void AddBlocks(const AttentionInputs& inputs, const AttentionSequence& sequence,
               std::vector<PrefillBlock>& blocks) {
  for (int kv_head = 0; kv_head < inputs.shape.num_kv_heads; ++kv_head) {
    const QueryGroup group = QueryGroupOf(inputs.shape, kv_head);
    const int max_tokens = std::max(1, MaxPrefillRows(inputs.shape.head_dim) / group.count);
    for (int token = 0; token < sequence.num_rows; token += max_tokens) {
      blocks.push_back({.sequence = &sequence,
                        .kv_head = kv_head,
                        .group = group,
                        .token_begin = token,
                        .num_tokens = std::min(max_tokens, sequence.num_rows - token)});
    }
  }
}

// Of its time.
int64_t Cost(const AttentionInputs& inputs, const PrefillBlock& block) {
  const VisibleEntries visible = block.Visible(0, block.num_rows(), inputs.sliding_window);
  return int64_t{block.num_rows()} * (visible.end - visible.begin);
}

}  // namespace

void PrefillAttention(ThreadPool& pool, const AttentionInputs& inputs,
                      absl::Span<const AttentionSequence> sequences) {
  static thread_local std::vector<PrefillBlock> blocks;
  blocks.clear();
  for (const AttentionSequence& sequence : sequences) {
    if (sequence.is_prompt) AddBlocks(inputs, sequence, blocks);
  }
  if (blocks.empty()) return;
  // The longest first, so that the threads finish together.
  std::sort(blocks.begin(), blocks.end(), [&](const PrefillBlock& a, const PrefillBlock& b) {
    return Cost(inputs, a) > Cost(inputs, b);
  });
  const std::vector<PrefillBlock>& sorted = blocks;  // threads must not see their own variable
  pool.ParallelFor(static_cast<int>(sorted.size()), [&](int task) {
    HWY_DYNAMIC_DISPATCH(RunPrefillBlock)(inputs, sorted[static_cast<size_t>(task)]);
  });
}

}  // namespace kvec::kernels::cpu
#endif  // HWY_ONCE
