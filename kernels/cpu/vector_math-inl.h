// Vector functions that several kernels share. Included once per instruction set by files that use
// hwy/foreach_target.h, hence no ordinary include guard.
#if defined(KVEC_KERNELS_CPU_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVEC_KERNELS_CPU_VECTOR_MATH_INL_H_
#undef KVEC_KERNELS_CPU_VECTOR_MATH_INL_H_
#else
#define KVEC_KERNELS_CPU_VECTOR_MATH_INL_H_
#endif

#include <cstddef>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 2^x for x <= 127, to 2e-7 of the result (measured over all f32 in [-126, 127]); exactly 1 at 0
// and exactly 0 below -126, -infinity included. NaN stays NaN.
template <class D>
HWY_INLINE hn::Vec<D> Exp2(D d, hn::Vec<D> x) {
  const hn::RebindToSigned<D> di;
  // Adding 1.5 · 2^23 leaves the nearest integer in the low bits of the mantissa.
  const auto magic = hn::Set(d, 12582912.0f);
  const auto shifted = hn::Add(x, magic);
  const auto fraction = hn::Sub(x, hn::Sub(shifted, magic));  // -0.5 … 0.5
  // Minimax polynomial for the relative error with the constant term fixed at 1.
  auto power = hn::Set(d, 0.001326472731307149f);
  power = hn::MulAdd(power, fraction, hn::Set(d, 0.009671512991189957f));
  power = hn::MulAdd(power, fraction, hn::Set(d, 0.05550733581185341f));
  power = hn::MulAdd(power, fraction, hn::Set(d, 0.24022242426872253f));
  power = hn::MulAdd(power, fraction, hn::Set(d, 0.6931470036506653f));
  power = hn::MulAdd(power, fraction, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  const auto scaled = hn::BitCast(d, hn::Add(hn::BitCast(di, power), exponent));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -126.0f)), scaled);
}

template <class D>
HWY_INLINE float ReduceSum(D d, hn::Vec<D> v) {
  return hn::GetLane(hn::SumOfLanes(d, v));
}

template <class D>
HWY_INLINE float ReduceMax(D d, hn::Vec<D> v) {
  return hn::GetLane(hn::MaxOfLanes(d, v));
}

// Loads `count` numbers, at most a register's; the lanes behind them are 0.
template <class D>
HWY_INLINE hn::Vec<D> LoadFirst(D d, const float* from, size_t count) {
  return count >= hn::Lanes(d) ? hn::LoadU(d, from) : hn::MaskedLoad(hn::FirstN(d, count), d, from);
}

template <class D>
HWY_INLINE void StoreFirst(D d, hn::Vec<D> v, float* to, size_t count) {
  if (count >= hn::Lanes(d)) {
    hn::StoreU(v, d, to);
  } else {
    hn::BlendedStore(v, hn::FirstN(d, count), d, to);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVEC_KERNELS_CPU_VECTOR_MATH_INL_H_
