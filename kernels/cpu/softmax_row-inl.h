// The softmax of one row of scores over a stretch of entries, the step that prefill and decode
// share. Included once per instruction set by files that use hwy/foreach_target.h, hence no
// ordinary include guard.
#if defined(KVEC_KERNELS_CPU_SOFTMAX_ROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVEC_KERNELS_CPU_SOFTMAX_ROW_INL_H_
#undef KVEC_KERNELS_CPU_SOFTMAX_ROW_INL_H_
#else
#define KVEC_KERNELS_CPU_SOFTMAX_ROW_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <limits>

#include "hwy/highway.h"
#include "kernels/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

constexpr float kMaskedScore = -std::numeric_limits<float>::infinity();

// The softmax to base 2 so far: Σ 2^(score - max) = sum.
struct SoftmaxState {
  float max = kMaskedScore;
  float sum = 0.0f;
};

// Turns scores[size] into 2^(score - max) and takes them into `state`; size is a multiple of 16,
// and scores outside [begin, end), which is not empty, count as -infinity. Returns the factor by
// which what was summed with the former maximum shrinks.
HWY_INLINE float SoftmaxRow(float* scores, size_t size, size_t begin, size_t end,
                            SoftmaxState& state) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  std::fill(scores, scores + begin, kMaskedScore);
  std::fill(scores + end, scores + size, kMaskedScore);

  auto maxima = hn::Set(d, state.max);
  for (size_t i = 0; i < size; i += lanes) maxima = hn::Max(maxima, hn::Load(d, scores + i));
  const auto max = hn::MaxOfLanes(d, maxima);

  auto sums = hn::Zero(d);
  for (size_t i = 0; i < size; i += lanes) {
    const auto weight = Exp2(d, hn::Sub(hn::Load(d, scores + i), max));
    hn::Store(weight, d, scores + i);
    sums = hn::Add(sums, weight);
  }
  const float factor = hn::GetLane(Exp2(d, hn::Sub(hn::Set(d, state.max), max)));
  state.max = hn::GetLane(max);
  state.sum = state.sum * factor + ReduceSum(d, sums);
  return factor;
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVEC_KERNELS_CPU_SOFTMAX_ROW_INL_H_
