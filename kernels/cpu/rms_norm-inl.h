// RMSNorm of one row, for whole rows and for single heads. Included once per instruction set by
// files that use hwy/foreach_target.h, hence no ordinary include guard.
#if defined(KVEC_KERNELS_CPU_RMS_NORM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVEC_KERNELS_CPU_RMS_NORM_INL_H_
#undef KVEC_KERNELS_CPU_RMS_NORM_INL_H_
#else
#define KVEC_KERNELS_CPU_RMS_NORM_INL_H_
#endif

#include <cmath>
#include <cstddef>

#include "hwy/highway.h"
#include "kernels/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

// 1 / sqrt(mean(x²) + eps) of x[n].
HWY_INLINE float InverseRms(const float* x, int n, float eps) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const size_t size = static_cast<size_t>(n);
  auto sum0 = hn::Zero(d);
  auto sum1 = hn::Zero(d);  // two chains hide the latency of the additions
  size_t i = 0;
  for (; i + 2 * lanes <= size; i += 2 * lanes) {
    const auto x0 = hn::LoadU(d, x + i);
    const auto x1 = hn::LoadU(d, x + i + lanes);
    sum0 = hn::MulAdd(x0, x0, sum0);
    sum1 = hn::MulAdd(x1, x1, sum1);
  }
  for (; i < size; i += lanes) {
    const auto x0 = LoadFirst(d, x + i, size - i);
    sum0 = hn::MulAdd(x0, x0, sum0);
  }
  const float mean = ReduceSum(d, hn::Add(sum0, sum1)) / static_cast<float>(n);
  return 1.0f / std::sqrt(mean + eps);
}

// out[n] = x · scale · weight[n]; out may be x.
HWY_INLINE void ScaleByWeight(const float* x, float scale, const float* weight, int n, float* out) {
  const hn::ScalableTag<float> d;
  const size_t size = static_cast<size_t>(n);
  const auto scales = hn::Set(d, scale);
  for (size_t i = 0; i < size; i += hn::Lanes(d)) {
    const size_t count = size - i;
    const auto scaled = hn::Mul(LoadFirst(d, x + i, count), scales);
    StoreFirst(d, hn::Mul(scaled, LoadFirst(d, weight + i, count)), out + i, count);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVEC_KERNELS_CPU_RMS_NORM_INL_H_
