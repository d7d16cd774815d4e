// How decode attention cuts a split into registers. Included once per instruction set by files that
// use hwy/foreach_target.h, hence no ordinary include guard.
#if defined(KVEC_KERNELS_CPU_DECODE_HEADS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVEC_KERNELS_CPU_DECODE_HEADS_INL_H_
#undef KVEC_KERNELS_CPU_DECODE_HEADS_INL_H_
#else
#define KVEC_KERNELS_CPU_DECODE_HEADS_INL_H_
#endif

#include <cstddef>
#include <type_traits>

#include "hwy/highway.h"
#include "kernels/cpu/decode_attention.h"
#include "kernels/kv_arena.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

// Query heads and registers that are multiplied at a time: with 4 heads the sums of AVX-512 and
// AVX2 stay in registers and every load of a page serves 4 products.
constexpr int kDecodeHeads = 4;
#if HWY_TARGET == HWY_AVX2
constexpr int kDecodeVecs = 2;
#else
constexpr int kDecodeVecs = 4;
#endif

// Scores of a query head.
constexpr size_t kScoreStride = kDecodeSplitEntries + kDecodeVecs * kPageTokens;

// Calls fn(std::integral_constant<int, n>()) for n = 1 … kDecodeHeads.
template <class Fn>
HWY_INLINE void WithHeadCount(int count, const Fn& fn) {
  switch (count) {
    case 1:
      return fn(std::integral_constant<int, 1>());
    case 2:
      return fn(std::integral_constant<int, 2>());
    case 3:
      return fn(std::integral_constant<int, 3>());
    default:
      return fn(std::integral_constant<int, kDecodeHeads>());
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVEC_KERNELS_CPU_DECODE_HEADS_INL_H_
