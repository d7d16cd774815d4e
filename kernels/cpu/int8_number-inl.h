// Loads and stores of an int8 arena's numbers: see cpu_kv_arena.h. Included once per instruction
// set by files that use hwy/foreach_target.h, hence no ordinary include guard.
#if defined(KVEC_KERNELS_CPU_INT8_NUMBER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVEC_KERNELS_CPU_INT8_NUMBER_INL_H_
#undef KVEC_KERNELS_CPU_INT8_NUMBER_INL_H_
#else
#define KVEC_KERNELS_CPU_INT8_NUMBER_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "common/tensor/dequantize.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The largest magnitude of from[size], a multiple of 8; NaN where a number is none or infinite.
HWY_INLINE float LargestMagnitude(const float* from, size_t size) {
  const hn::CappedTag<float, 8> d;
  auto largest = hn::Zero(d);
  auto not_finite = hn::Zero(d);  // 0 · NaN and 0 · infinity are NaN
  for (size_t i = 0; i < size; i += hn::Lanes(d)) {
    const auto x = hn::LoadU(d, from + i);
    largest = hn::Max(largest, hn::Abs(x));
    not_finite = hn::MulAdd(x, hn::Zero(d), not_finite);
  }
  return ReduceMax(d, largest) + ReduceSum(d, not_finite);
}

// to[size] = from[size] / scale, rounded to the nearest even; size is a multiple of 8. Returns the
// scale, an f16: NaN where a number is none or infinite, so that it shows in what is computed.
HWY_INLINE uint16_t QuantizeHead(const float* from, size_t size, int8_t* to) {
  const hn::CappedTag<float, 8> d;
  const hn::Rebind<int8_t, decltype(d)> d8;
  const uint16_t bits = FloatToHalf(LargestMagnitude(from, size) / 127.0f);
  const float scale = HalfToFloat(bits);
  const auto inverse = hn::Set(d, scale > 0.0f ? 1.0f / scale : 0.0f);
  for (size_t i = 0; i < size; i += hn::Lanes(d)) {
    const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(d, from + i), inverse));
    hn::StoreU(hn::DemoteTo(d8, rounded), d8, to + i);  // saturates
  }
  return bits;
}

// Loads the numbers of pairs at from[2 · lanes]: the first ones, and the second ones.
template <class D>
HWY_INLINE void LoadPairs(D d, const uint8_t* from, hn::Vec<D>& first, hn::Vec<D>& second) {
  const hn::Rebind<uint16_t, D> du16;
  const hn::RebindToUnsigned<D> du32;
  const hn::RebindToSigned<D> di32;
  const auto pairs =
      hn::PromoteTo(du32, hn::LoadU(du16, reinterpret_cast<const uint16_t*>(from)));
  first = hn::ConvertTo(d, hn::ShiftRight<24>(hn::BitCast(di32, hn::ShiftLeft<24>(pairs))));
  second = hn::ConvertTo(d, hn::ShiftRight<24>(hn::BitCast(di32, hn::ShiftLeft<16>(pairs))));
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVEC_KERNELS_CPU_INT8_NUMBER_INL_H_
