// Sums that stay in registers while an inner loop runs. Included once per instruction set by files
// that use hwy/foreach_target.h, hence no ordinary include guard.
#if defined(KVEC_KERNELS_CPU_REGISTER_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVEC_KERNELS_CPU_REGISTER_BLOCK_INL_H_
#undef KVEC_KERNELS_CPU_REGISTER_BLOCK_INL_H_
#else
#define KVEC_KERNELS_CPU_REGISTER_BLOCK_INL_H_
#endif

#include <cstddef>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A matrix of kRows times kVecs registers of floats. The loops are unrolled completely, since an
// array indexed by a variable would live in memory.
template <int kRows, int kVecs>
class RegisterBlock {
 public:
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;

  HWY_INLINE void Clear() {
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
      for (int vec = 0; vec < kVecs; ++vec) sums_[row][vec] = hn::Zero(D());
    }
  }

  // sums = factors[kRows] · from, whose rows are `stride` floats apart.
  HWY_INLINE void LoadScaled(const float* from, size_t stride, const float* factors) {
    const size_t lanes = hn::Lanes(D());
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      const V factor = hn::Set(D(), factors[row]);
#pragma GCC unroll 8
      for (int vec = 0; vec < kVecs; ++vec) {
        sums_[row][vec] = hn::Mul(hn::Load(D(), from + row * stride + vec * lanes), factor);
      }
    }
  }

  // sums += factors · load(vec), with a factor per row, `stride` floats apart.
  template <class LoadFn>
  HWY_INLINE void AddProduct(const float* factors, size_t stride, const LoadFn& load) {
    V operand[kVecs];
#pragma GCC unroll 8
    for (int vec = 0; vec < kVecs; ++vec) operand[vec] = load(vec);
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      const V factor = hn::Set(D(), factors[row * stride]);
#pragma GCC unroll 8
      for (int vec = 0; vec < kVecs; ++vec) {
        sums_[row][vec] = hn::MulAdd(factor, operand[vec], sums_[row][vec]);
      }
    }
  }

  HWY_INLINE void Store(float* to, size_t stride) const {
    const size_t lanes = hn::Lanes(D());
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
      for (int vec = 0; vec < kVecs; ++vec) {
        hn::Store(sums_[row][vec], D(), to + row * stride + vec * lanes);
      }
    }
  }

 private:
  V sums_[kRows][kVecs];
};

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVEC_KERNELS_CPU_REGISTER_BLOCK_INL_H_
