#include "kernels/cpu/int8_decode_split.h"

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/scratch_buffer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/int8_decode_split.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/decode_heads-inl.h"
#include "kernels/cpu/hadamard-inl.h"
#include "kernels/cpu/kv_number-inl.h"
#include "kernels/cpu/pair_product-inl.h"
#include "kernels/cpu/softmax_row-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

constexpr size_t kPagePairs = kPageTokens / 2;
constexpr size_t kWeightStride = kScoreStride / 2;

// What a split works in and on; pointers are aligned to registers.
class Int8Split {
 public:
  Int8Split(const AttentionInputs& inputs, const DecodeRow& row, VisibleEntries entries,
            ScratchBuffer& scratch)
      : arena_(*inputs.arena),
        head_(row.head()),
        head_dim_(static_cast<size_t>(inputs.shape.head_dim)),
        entries_(entries),
        first_page_(entries.begin / kPageTokens),
        end_page_((entries.end + kPageTokens - 1) / kPageTokens) {
    const size_t num_heads = static_cast<size_t>(row.group.count);
    const size_t query_floats = PaddedDims(inputs.shape.head_dim);
    scores_ = scratch.Reserve(num_heads * (kScoreStride + query_floats / 2 + 1) + kScoreStride +
                              kDecodeHeads * kWeightStride + query_floats);
    scales_ = scores_ + num_heads * kScoreStride;
    rotated_ = scales_ + kScoreStride;
    weights_ = reinterpret_cast<int32_t*>(rotated_ + query_floats);
    queries_ = weights_ + kDecodeHeads * kWeightStride;
    query_scales_ = reinterpret_cast<float*>(queries_ + num_heads * (head_dim_ / 2));
    const float* q = inputs.qkv.data + (row.sequence->row_begin + row.row) * inputs.qkv.stride +
                     static_cast<size_t>(row.group.first) * head_dim_;
    for (size_t head = 0; head < num_heads; ++head) {
      RotateHead(q + head * head_dim_, head_dim_, inputs.log2_scale, rotated_);
      query_scales_[head] =
          QuantizeToInt16(rotated_, head_dim_, queries_ + head * (head_dim_ / 2));
    }
  }

  // The partials of the query heads [first_head, first_head + kHeads).
  template <int kHeads>
  HWY_INLINE void Run(int first_head, float* partials) {
    LoadScales(&CpuKvArena::key_scales);
    ScoreHeads<kHeads>(first_head);
    LoadScales(&CpuKvArena::value_scales);
    const size_t begin = static_cast<size_t>(entries_.begin - first_page_ * kPageTokens);
    const size_t end = static_cast<size_t>(entries_.end - first_page_ * kPageTokens);
    const size_t stride = PartialStride(static_cast<int>(head_dim_));
    float weight_scales[kHeads];
    for (int head = 0; head < kHeads; ++head) {
      float* scores = scores_ + static_cast<size_t>(first_head + head) * kScoreStride;
      SoftmaxState state;
      SoftmaxRow(scores, num_tokens(), begin, end, state);
      float* tail = partials + head * stride + PaddedDims(static_cast<int>(head_dim_));
      tail[0] = state.max;
      tail[1] = state.sum;
      // Elsewhere the weights are 0, but the scales may be no numbers.
      for (size_t i = begin; i < end; ++i) scores[i] *= scales_[i];
      weight_scales[head] =
          QuantizeToInt16(scores, num_tokens(), weights_ + head * kWeightStride);
    }
    SumAllValues<kHeads>(weight_scales, stride, partials);
  }

 private:
  size_t num_tokens() const {
    return static_cast<size_t>(end_page_ - first_page_) * kPageTokens;
  }

  // scales_[num_tokens] = the scales of all pages.
  HWY_INLINE void LoadScales(const uint16_t* (CpuKvArena::*scales_of)(int32_t) const) {
    const hn::ScalableTag<float> d;
    float* to = scales_;
    for (int index = first_page_; index < end_page_; ++index) {
      const uint16_t* scales = (arena_.*scales_of)(head_.pages[index]);
      for (size_t i = 0; i < kPageTokens; i += hn::Lanes(d), to += hn::Lanes(d)) {
        hn::Store(Float16Number::Load(d, scales + i), d, to);
      }
    }
  }

  // Where the keys of the register that begins at `token` are. Behind the last page it is repeated;
  // those scores are not used.
  HWY_INLINE const uint8_t* KeysAt(size_t token) const {
    const size_t at = std::min(token, num_tokens() - hn::Lanes(PairTag()));
    const int32_t page = head_.pages[first_page_ + static_cast<int>(at / kPageTokens)];
    return arena_.keys(page) + 2 * (at % kPageTokens);
  }

  template <int kHeads>
  HWY_INLINE void ScoreHeads(int first_head) {
    const hn::ScalableTag<float> d;
    const size_t lanes = hn::Lanes(d);
    const size_t num_pairs = head_dim_ / 2;
    const int32_t* queries = queries_ + static_cast<size_t>(first_head) * num_pairs;
    float* scores = scores_ + static_cast<size_t>(first_head) * kScoreStride;
    for (size_t token = 0; token < num_tokens(); token += kDecodeVecs * lanes) {
      const uint8_t* keys[kDecodeVecs];
      const uint8_t* next_keys[kDecodeVecs];
      for (int vec = 0; vec < kDecodeVecs; ++vec) {
        keys[vec] = KeysAt(token + vec * lanes);
        next_keys[vec] = KeysAt(token + (kDecodeVecs + vec) * lanes);
      }
      PairBlock<kHeads, kDecodeVecs> sums;
      sums.Clear();
      for (size_t pair = 0; pair < num_pairs; ++pair) {
        sums.AddProduct(queries + pair, num_pairs, [&](int vec) HWY_ATTR {
          hwy::Prefetch(next_keys[vec] + pair * 2 * kPageTokens);
          return LoadInt8Pairs(keys[vec] + pair * 2 * kPageTokens);
        });
      }
      sums.ForEach([&](int head, int vec, auto sum) HWY_ATTR {
        const size_t at = token + vec * lanes;
        const auto scale = hn::Mul(hn::Load(d, scales_ + at),
                                   hn::Set(d, query_scales_[first_head + head]));
        hn::Store(hn::Mul(sum, scale), d, scores + static_cast<size_t>(head) * kScoreStride + at);
      });
    }
  }

  // partials[kHeads] += weights · values of kVecs registers of dimensions from `dim`.
  template <int kHeads, int kVecs>
  HWY_INLINE void SumValues(const float* weight_scales, size_t dim, size_t stride,
                            float* partials) {
    const hn::ScalableTag<float> d;
    const size_t lanes = hn::Lanes(d);
    PairBlock<kHeads, kVecs> sums;
    sums.Clear();
    const int32_t* weights = weights_;
    for (int page = first_page_; page < end_page_; ++page, weights += kPagePairs) {
      const uint8_t* values = arena_.values(head_.pages[page]) + 2 * dim;
      const uint8_t* next_values =
          arena_.values(head_.pages[std::min(page + 1, end_page_ - 1)]) + 2 * dim;
      for (size_t pair = 0; pair < kPagePairs; ++pair) {
        const size_t row = pair * 2 * head_dim_;
        // The last register may reach beyond the row; those lanes end up in the padding.
        sums.AddProduct(weights + pair, kWeightStride, [&](int vec) HWY_ATTR {
          hwy::Prefetch(next_values + row + vec * 2 * lanes);
          return LoadInt8Pairs(values + row + vec * 2 * lanes);
        });
      }
    }
    sums.ForEach([&](int head, int vec, auto sum) HWY_ATTR {
      hn::Store(hn::Mul(sum, hn::Set(d, weight_scales[head])), d,
                partials + static_cast<size_t>(head) * stride + dim + vec * lanes);
    });
  }

  template <int kHeads>
  HWY_INLINE void SumAllValues(const float* weight_scales, size_t stride, float* partials) {
    const size_t lanes = hn::Lanes(PairTag());
    size_t dim = 0;
    for (; dim + kDecodeVecs * lanes <= head_dim_; dim += kDecodeVecs * lanes) {
      SumValues<kHeads, kDecodeVecs>(weight_scales, dim, stride, partials);
    }
    for (; dim < head_dim_; dim += lanes) {
      SumValues<kHeads, 1>(weight_scales, dim, stride, partials);
    }
  }

  const CpuKvArena& arena_;
  const HeadPages& head_;
  const size_t head_dim_;
  const VisibleEntries entries_;
  const int first_page_;  // of the pages that hold the entries
  const int end_page_;
  float* scores_;        // [group.count, kScoreStride], from first_page_ on; then weights
  float* scales_;        // [kScoreStride] of the keys, then of the values
  float* rotated_;       // [padded dims], one query
  int32_t* weights_;     // [kDecodeHeads, kWeightStride] pairs
  int32_t* queries_;     // [group.count, head_dim / 2] pairs
  float* query_scales_;  // [group.count]
};

void RunSplit(const AttentionInputs& inputs, const DecodeRow& row, VisibleEntries entries,
              float* partials) {
  static thread_local ScratchBuffer scratch;
  Int8Split split(inputs, row, entries, scratch);
  const size_t stride = PartialStride(inputs.shape.head_dim);
  for (int head = 0; head < row.group.count; head += kDecodeHeads) {
    WithHeadCount(row.group.count - head, [&](auto heads) HWY_ATTR {
      split.Run<decltype(heads)::value>(head, partials + static_cast<size_t>(head) * stride);
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvec::kernels::cpu {

HWY_EXPORT(RunSplit);

void RunInt8DecodeSplit(const AttentionInputs& inputs, const DecodeRow& row,
                        VisibleEntries entries, float* partials) {
  HWY_DYNAMIC_DISPATCH(RunSplit)(inputs, row, entries, partials);
}

}  // namespace kvec::kernels::cpu
#endif  // HWY_ONCE
