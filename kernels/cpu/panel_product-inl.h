// The inner loop of prefill attention: a few rows times a panel, in float32. Included once per
// instruction set by files that use hwy/foreach_target.h, hence no ordinary include guard.
#if defined(KVEC_KERNELS_CPU_PANEL_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVEC_KERNELS_CPU_PANEL_PRODUCT_INL_H_
#undef KVEC_KERNELS_CPU_PANEL_PRODUCT_INL_H_
#else
#define KVEC_KERNELS_CPU_PANEL_PRODUCT_INL_H_
#endif

#include <cstddef>

#include "hwy/highway.h"
#include "kernels/cpu/register_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rows and registers of a panel that are multiplied at a time: 24 sums fill the 32 registers of
// AVX-512, 12 the 16 of AVX2, with room for a register of every operand.
constexpr int kPanelRows = 6;
#if HWY_TARGET == HWY_AVX2
constexpr int kPanelVecs = 2;
#else
constexpr int kPanelVecs = 4;
#endif

struct PanelOperands {
  const float* a;  // [kPanelRows, depth]
  size_t a_stride;
  const float* b;  // [depth, width registers]
  size_t depth;
  const float* factors;  // [kPanelRows]: what is in c counts so many times; null: c is overwritten
  float* c;              // [kPanelRows, width registers]
  size_t c_stride;
};

// c = factors · c + a · b, summed over depth in ascending order.
template <int kVecs>
HWY_INLINE void MultiplyPanel(const PanelOperands& operands) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  RegisterBlock<kPanelRows, kVecs> sums;
  if (operands.factors == nullptr) {
    sums.Clear();
  } else {
    sums.LoadScaled(operands.c, operands.c_stride, operands.factors);
  }
  const float* b = operands.b;
  for (size_t k = 0; k < operands.depth; ++k, b += kVecs * lanes) {
    sums.AddProduct(operands.a + k, operands.a_stride,
                    [&](int vec) HWY_ATTR { return hn::Load(d, b + vec * lanes); });
  }
  sums.Store(operands.c, operands.c_stride);
}

// The same for a width known only at run time, 1 … kPanelVecs.
HWY_INLINE void MultiplyPanelOfWidth(size_t width, const PanelOperands& operands) {
  switch (width) {
    case 1:
      return MultiplyPanel<1>(operands);
    case 2:
      return MultiplyPanel<2>(operands);
#if HWY_TARGET != HWY_AVX2
    case 3:
      return MultiplyPanel<3>(operands);
    case 4:
      return MultiplyPanel<4>(operands);
#endif
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVEC_KERNELS_CPU_PANEL_PRODUCT_INL_H_
