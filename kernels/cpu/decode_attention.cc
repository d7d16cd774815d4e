#include "kernels/cpu/decode_attention.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/cpu/decode_row.h"
#include "kernels/cpu/int8_decode_split.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cpu/scratch_buffer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/decode_attention.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/decode_heads-inl.h"
#include "kernels/cpu/kv_number-inl.h"
#include "kernels/cpu/register_block-inl.h"
#include "kernels/cpu/softmax_row-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

// What RunDecodeSplit works in and on.
struct SplitOperands {
  const AttentionInputs& inputs;
  const HeadPages& head;
  VisibleEntries entries;
  int first_page;  // of the pages that hold the entries
  int end_page;
  const float* queries;  // [group.count, head_dim], times the scale
  float* scores;  // [group.count, kScoreStride], from the first entry of first_page; then weights

  size_t head_dim() const { return static_cast<size_t>(inputs.shape.head_dim); }

  template <class Number>
  const typename Number::Stored* Keys(int index) const {
    return reinterpret_cast<const typename Number::Stored*>(inputs.arena->keys(head.pages[index]));
  }
  template <class Number>
  const typename Number::Stored* Values(int index) const {
    return reinterpret_cast<const typename Number::Stored*>(
        inputs.arena->values(head.pages[index]));
  }
};

// Scores of the query heads [first_head, first_head + kHeads) over all pages of the split.
template <class Number, int kHeads>
HWY_INLINE void ScoreHeads(const SplitOperands& operands, int first_head) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const size_t head_dim = operands.head_dim();
  const float* queries = operands.queries + static_cast<size_t>(first_head) * head_dim;
  float* scores = operands.scores + static_cast<size_t>(first_head) * kScoreStride;
  const size_t size = static_cast<size_t>(operands.end_page - operands.first_page) * kPageTokens;
  // The keys of the register that begins at `entry`. Behind the last page it is repeated; those
  // scores are not used.
  const auto keys_at = [&](size_t entry) HWY_ATTR {
    const size_t at = std::min(entry, size - lanes);
    return operands.Keys<Number>(operands.first_page + static_cast<int>(at / kPageTokens)) +
           at % kPageTokens;
  };
  for (size_t entry = 0; entry < size; entry += kDecodeVecs * lanes) {
    const typename Number::Stored* keys[kDecodeVecs];
    const typename Number::Stored* next_keys[kDecodeVecs];
    for (int vec = 0; vec < kDecodeVecs; ++vec) {
      keys[vec] = keys_at(entry + vec * lanes);
      next_keys[vec] = keys_at(entry + (kDecodeVecs + vec) * lanes);
    }
    RegisterBlock<kHeads, kDecodeVecs> sums;
    sums.Clear();
    for (size_t dim = 0; dim < head_dim; ++dim) {
      sums.AddProduct(queries + dim, head_dim, [&](int vec) HWY_ATTR {
        hwy::Prefetch(next_keys[vec] + dim * kPageTokens);
        return Number::Load(d, keys[vec] + dim * kPageTokens);
      });
    }
    sums.Store(scores + entry, kScoreStride);
  }
}

// out[kHeads, kVecs registers] = weights · values of the dimensions from `dim`, entry by entry in
// ascending order; heads are `stride` floats apart in out.
template <class Number, int kHeads, int kVecs>
HWY_INLINE void SumValues(const SplitOperands& operands, int first_head, size_t dim, size_t stride,
                          float* out) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const size_t head_dim = operands.head_dim();
  const float* weights = operands.scores + static_cast<size_t>(first_head) * kScoreStride;
  RegisterBlock<kHeads, kVecs> sums;
  sums.Clear();
  for (int page = operands.first_page; page < operands.end_page; ++page) {
    const int begin = std::max(operands.entries.begin - page * kPageTokens, 0);
    const int end = std::min(operands.entries.end - page * kPageTokens, kPageTokens);
    const auto* values = operands.Values<Number>(page) + dim;
    const auto* next_values =
        operands.Values<Number>(std::min(page + 1, operands.end_page - 1)) + dim;
    const float* page_weights = weights + (page - operands.first_page) * kPageTokens;
    for (int token = begin; token < end; ++token) {
      const size_t row = static_cast<size_t>(token) * head_dim;
      // The last register may reach beyond the row; those lanes end up in the padding of out.
      sums.AddProduct(page_weights + token, kScoreStride, [&](int vec) HWY_ATTR {
        hwy::Prefetch(next_values + row + vec * lanes);
        return Number::Load(d, values + row + vec * lanes);
      });
    }
  }
  sums.Store(out, stride);
}

template <class Number, int kHeads>
HWY_INLINE void SumAllValues(const SplitOperands& operands, int first_head, float* partials) {
  const size_t lanes = hn::Lanes(hn::ScalableTag<float>());
  const size_t head_dim = operands.head_dim();
  const size_t stride = PartialStride(operands.inputs.shape.head_dim);
  size_t dim = 0;
  for (; dim + kDecodeVecs * lanes <= head_dim; dim += kDecodeVecs * lanes) {
    SumValues<Number, kHeads, kDecodeVecs>(operands, first_head, dim, stride, partials + dim);
  }
  for (; dim < head_dim; dim += lanes) {
    SumValues<Number, kHeads, 1>(operands, first_head, dim, stride, partials + dim);
  }
}

// partials[group.count][PartialStride] of the entries.
void RunDecodeSplit(const AttentionInputs& inputs, const DecodeRow& row, VisibleEntries entries,
                    float* partials) {
  static thread_local ScratchBuffer scratch;
  const size_t head_dim = static_cast<size_t>(inputs.shape.head_dim);
  const size_t num_heads = static_cast<size_t>(row.group.count);
  float* scores = scratch.Reserve(num_heads * (kScoreStride + head_dim));
  float* queries = scores + num_heads * kScoreStride;
  const float* q = inputs.qkv.data + (row.sequence->row_begin + row.row) * inputs.qkv.stride +
                   static_cast<size_t>(row.group.first) * head_dim;
  for (size_t i = 0; i < num_heads * head_dim; ++i) queries[i] = q[i] * inputs.log2_scale;

  const SplitOperands operands{.inputs = inputs,
                               .head = row.head(),
                               .entries = entries,
                               .first_page = entries.begin / kPageTokens,
                               .end_page = (entries.end + kPageTokens - 1) / kPageTokens,
                               .queries = queries,
                               .scores = scores};
  const int first_entry = operands.first_page * kPageTokens;
  const size_t size = static_cast<size_t>(operands.end_page * kPageTokens - first_entry);
  const size_t stride = PartialStride(inputs.shape.head_dim);
  WithKvNumber(inputs.arena->spec().type, [&](auto number) HWY_ATTR {
    using Number = decltype(number);
    for (int head = 0; head < row.group.count; head += kDecodeHeads) {
      WithHeadCount(row.group.count - head, [&](auto heads) HWY_ATTR {
        constexpr int kHeads = decltype(heads)::value;
        ScoreHeads<Number, kHeads>(operands, head);
        float* partial = partials + static_cast<size_t>(head) * stride;
        for (int i = 0; i < kHeads; ++i) {
          SoftmaxState state;
          SoftmaxRow(scores + static_cast<size_t>(head + i) * kScoreStride, size,
                     static_cast<size_t>(entries.begin - first_entry),
                     static_cast<size_t>(entries.end - first_entry), state);
          float* tail = partial + i * stride + PaddedDims(inputs.shape.head_dim);
          tail[0] = state.max;
          tail[1] = state.sum;
        }
        SumAllValues<Number, kHeads>(operands, head, partial);
      });
    }
  });
}

// Merges one query head's splits, split_stride floats apart, in ascending order; their maxima
// become the factors by which they count.
HWY_INLINE void MergeHead(float* partials, int num_splits, size_t split_stride, int head_dim,
                          float* out) {
  const hn::ScalableTag<float> d;
  const size_t padded_dims = PaddedDims(head_dim);
  float max = kMaskedScore;
  for (int split = 0; split < num_splits; ++split) {
    max = std::max(max, partials[split * split_stride + padded_dims]);
  }
  float sum = 0.0f;
  for (int split = 0; split < num_splits; ++split) {
    float* tail = partials + split * split_stride + padded_dims;
    tail[0] = hn::GetLane(Exp2(d, hn::Set(d, tail[0] - max)));
    sum += tail[0] * tail[1];
  }
  const auto inverse = hn::Set(d, 1.0f / sum);
  for (size_t i = 0; i < static_cast<size_t>(head_dim); i += hn::Lanes(d)) {
    auto merged = hn::Zero(d);
    for (int split = 0; split < num_splits; ++split) {
      const float* partial = partials + split * split_stride;
      merged = hn::MulAdd(hn::Set(d, partial[padded_dims]), hn::Load(d, partial + i), merged);
    }
    StoreFirst(d, hn::Mul(merged, inverse), out + i, static_cast<size_t>(head_dim) - i);
  }
}

void MergeDecodeRow(const AttentionInputs& inputs, const DecodeRow& row, float* partials) {
  const int head_dim = inputs.shape.head_dim;
  const size_t stride = PartialStride(head_dim);
  float* out = inputs.out.data + (row.sequence->row_begin + row.row) * inputs.out.stride +
               static_cast<int64_t>(row.group.first) * head_dim;
  for (int head = 0; head < row.group.count; ++head) {
    MergeHead(partials + static_cast<size_t>(head) * stride, row.num_splits,
              static_cast<size_t>(row.group.count) * stride, head_dim,
              out + static_cast<int64_t>(head) * head_dim);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvec::kernels::cpu {
namespace {

HWY_EXPORT(RunDecodeSplit);
HWY_EXPORT(MergeDecodeRow);

// Below so many entries in all, waking the threads costs more than the attention itself.
constexpr int kInlineEntries = 256;

// The work of a call.
struct DecodePlan {
  std::vector<DecodeRow> rows;
  std::vector<DecodeSplit> splits;
  size_t partials_size = 0;  // floats
  int64_t num_entries = 0;

  void Clear() {
    rows.clear();
    splits.clear();
    partials_size = 0;
    num_entries = 0;
  }

  void Add(const AttentionInputs& inputs, const AttentionSequence& sequence, int row, int kv_head) {
    const QueryGroup group = QueryGroupOf(inputs.shape, kv_head);
    const HeadPages& head = sequence.heads[static_cast<size_t>(kv_head)];
    const VisibleEntries visible = VisibleTo(head, sequence.num_rows, row, inputs.sliding_window);
    const int first_split = visible.begin / kDecodeSplitEntries;
    const int end_split = (visible.end + kDecodeSplitEntries - 1) / kDecodeSplitEntries;
    const size_t size = static_cast<size_t>(group.count) * PartialStride(inputs.shape.head_dim);
    rows.push_back({.sequence = &sequence,
                    .row = row,
                    .kv_head = kv_head,
                    .group = group,
                    .num_splits = end_split - first_split,
                    .partials = partials_size});
    for (int split = first_split; split < end_split; ++split) {
      const int begin = split * kDecodeSplitEntries;
      splits.push_back({.row = rows.size() - 1,
                        .entries = {std::max(begin, visible.begin),
                                    std::min(begin + kDecodeSplitEntries, visible.end)},
                        .partials = partials_size});
      partials_size += size;
    }
    num_entries += visible.end - visible.begin;
  }
};

}  // namespace

void DecodeAttention(ThreadPool& pool, const AttentionInputs& inputs,
                     absl::Span<const AttentionSequence> sequences) {
  static thread_local DecodePlan plan_of_thread;
  static thread_local ScratchBuffer scratch;
  DecodePlan& plan = plan_of_thread;  // the pool's threads have variables of their own
  plan.Clear();
  for (const AttentionSequence& sequence : sequences) {
    if (sequence.is_prompt) continue;
    for (int row = 0; row < sequence.num_rows; ++row) {
      for (int kv_head = 0; kv_head < inputs.shape.num_kv_heads; ++kv_head) {
        plan.Add(inputs, sequence, row, kv_head);
      }
    }
  }
  if (plan.rows.empty()) return;
  float* partials = scratch.Reserve(plan.partials_size);
  const bool is_int8 = inputs.arena->spec().type == KvType::kInt8;
  const auto run_split = [&](int task) {
    const DecodeSplit& split = plan.splits[static_cast<size_t>(task)];
    const DecodeRow& row = plan.rows[split.row];
    if (is_int8) {
      RunInt8DecodeSplit(inputs, row, split.entries, partials + split.partials);
    } else {
      HWY_DYNAMIC_DISPATCH(RunDecodeSplit)
      (inputs, row, split.entries, partials + split.partials);
    }
  };
  const int num_splits = static_cast<int>(plan.splits.size());
  if (plan.num_entries <= kInlineEntries) {
    for (int task = 0; task < num_splits; ++task) run_split(task);
  } else {
    pool.ParallelFor(num_splits, run_split);
  }
  ParallelRows(pool, static_cast<int>(plan.rows.size()), [&](int begin, int end) {
    for (int row = begin; row < end; ++row) {
      const DecodeRow& decode_row = plan.rows[static_cast<size_t>(row)];
      HWY_DYNAMIC_DISPATCH(MergeDecodeRow)(inputs, decode_row, partials + decode_row.partials);
    }
  });
}

}  // namespace kvec::kernels::cpu
#endif  // HWY_ONCE
