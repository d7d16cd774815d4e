// Products of pairs of whole numbers: int8 from the arena by int16, summed up in int32. Included
// once per instruction set by files that use hwy/foreach_target.h, hence no ordinary include guard.
#if defined(KVEC_KERNELS_CPU_PAIR_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVEC_KERNELS_CPU_PAIR_PRODUCT_INL_H_
#undef KVEC_KERNELS_CPU_PAIR_PRODUCT_INL_H_
#else
#define KVEC_KERNELS_CPU_PAIR_PRODUCT_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cpu/int8_number-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A register of pairs of int16, an int32 each.
using PairTag = hn::ScalableTag<int32_t>;
using PairVec = hn::Vec<PairTag>;

// Widens int8 pairs at from[2 · lanes].
HWY_INLINE PairVec LoadInt8Pairs(const uint8_t* from) {
  const int8_t* numbers = reinterpret_cast<const int8_t*>(from);
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(PairTag(), numbers[1] * 0x10000 + static_cast<uint16_t>(numbers[0]));
#else
  const hn::Repartition<int16_t, PairTag> d16;
  const hn::Rebind<int8_t, decltype(d16)> d8;
  return hn::BitCast(PairTag(), hn::PromoteTo(d16, hn::LoadU(d8, numbers)));
#endif
}

// sums + both products of every pair.
HWY_INLINE PairVec MulAddPairs(PairVec a, PairVec b, PairVec sums) {
#if HWY_TARGET == HWY_SCALAR
  const int32_t x = hn::GetLane(a);
  const int32_t y = hn::GetLane(b);
  return hn::Set(PairTag(), hn::GetLane(sums) + static_cast<int16_t>(x) * static_cast<int16_t>(y) +
                                (x >> 16) * (y >> 16));
#elif HWY_TARGET == HWY_AVX3_DL
  // Processors of this target have AVX512_VNNI, but Highway 1.0.3 does not tell the compiler, which
  // then refuses the intrinsic.
  asm("vpdpwssd %2, %1, %0" : "+v"(sums.raw) : "v"(a.raw), "v"(b.raw));
  return sums;
#else
  const hn::Repartition<int16_t, PairTag> d16;
  PairVec unused = hn::Zero(PairTag());
  return hn::ReorderWidenMulAccumulate(PairTag(), hn::BitCast(d16, a), hn::BitCast(d16, b), sums,
                                       unused);
#endif
}

// kRows times kVecs registers of sums; see RegisterBlock.
template <int kRows, int kVecs>
class PairBlock {
 public:
  HWY_INLINE void Clear() {
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
      for (int vec = 0; vec < kVecs; ++vec) sums_[row][vec] = hn::Zero(PairTag());
    }
  }

  // sums += factors · load(vec), with a pair of factors per row, `stride` pairs apart.
  template <class LoadFn>
  HWY_INLINE void AddProduct(const int32_t* factors, size_t stride, const LoadFn& load) {
    PairVec operand[kVecs];
#pragma GCC unroll 8
    for (int vec = 0; vec < kVecs; ++vec) operand[vec] = load(vec);
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      const PairVec factor = hn::Set(PairTag(), factors[row * stride]);
#pragma GCC unroll 8
      for (int vec = 0; vec < kVecs; ++vec) {
        sums_[row][vec] = MulAddPairs(factor, operand[vec], sums_[row][vec]);
      }
    }
  }

  // Calls fn(row, vec, sums as floats).
  template <class Fn>
  HWY_INLINE void ForEach(const Fn& fn) const {
    const hn::ScalableTag<float> d;
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
      for (int vec = 0; vec < kVecs; ++vec) fn(row, vec, hn::ConvertTo(d, sums_[row][vec]));
    }
  }

 private:
  PairVec sums_[kRows][kVecs];
};

// to[size] = from[size] / the result, rounded, in pairs; size is a multiple of 8. The result is NaN
// where a number is none or infinite. 512 products of such a number and an int8 stay below 2^31.
HWY_INLINE float QuantizeToInt16(const float* from, size_t size, int32_t* to) {
  const hn::CappedTag<float, 8> d;
  const hn::Rebind<int16_t, decltype(d)> d16;
  const float max = LargestMagnitude(from, size);
  const auto inverse = hn::Set(d, max > 0.0f ? 32767.0f / max : 0.0f);
  int16_t* numbers = reinterpret_cast<int16_t*>(to);
  for (size_t i = 0; i < size; i += hn::Lanes(d)) {
    const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(d, from + i), inverse));
    hn::StoreU(hn::DemoteTo(d16, rounded), d16, numbers + i);
  }
  return max / 32767.0f;
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVEC_KERNELS_CPU_PAIR_PRODUCT_INL_H_
