#include "kernels/cpu/gated_activation.h"

#include "absl/strings/str_cat.h"
#include "kernels/cpu/parallel_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gated_activation.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

constexpr float kLog2E = 1.4426950408889634f;

// The x of sigmoid(x) times -log2(e), so that sigmoid(x) = 1 / (1 + 2^result).
template <class D>
HWY_INLINE hn::Vec<D> SiluExponent(D d, hn::Vec<D> gate) {
  return hn::Mul(gate, hn::Set(d, -kLog2E));
}

// gelu_tanh(x) = x/2 · (1 + tanh(u)) = x · sigmoid(2 u) with u = sqrt(2/π) · (x + 0.044715 x³).
template <class D>
HWY_INLINE hn::Vec<D> GeluTanhExponent(D d, hn::Vec<D> gate) {
  constexpr float kTwoSqrtTwoOverPi = 1.5957691216057308f;
  const auto square = hn::Mul(gate, gate);
  const auto factor = hn::MulAdd(square, hn::Set(d, -kLog2E * kTwoSqrtTwoOverPi * 0.044715f),
                                 hn::Set(d, -kLog2E * kTwoSqrtTwoOverPi));
  return hn::Mul(gate, factor);
}

template <class ExponentFn>
HWY_INLINE void ActivateRows(Tensor gate_up, Tensor out, const ExponentFn& exponent_fn) {
  const hn::ScalableTag<float> d;
  const size_t cols = static_cast<size_t>(out.cols);
  // Beyond 2^127 the sigmoid is 0 to any precision.
  const auto largest = hn::Set(d, 127.0f);
  const auto one = hn::Set(d, 1.0f);
  for (int row = 0; row < out.rows; ++row) {
    const float* gates = gate_up.data + row * gate_up.stride;
    const float* ups = gates + cols;
    float* to = out.data + row * out.stride;
    for (size_t i = 0; i < cols; i += hn::Lanes(d)) {
      const size_t count = cols - i;
      const auto gate = LoadFirst(d, gates + i, count);
      const auto product = hn::Mul(gate, LoadFirst(d, ups + i, count));
      const auto power = Exp2(d, hn::Min(exponent_fn(d, gate), largest));
      StoreFirst(d, hn::Div(product, hn::Add(one, power)), to + i, count);
    }
  }
}

void SiluRows(Tensor gate_up, Tensor out) {
  ActivateRows(gate_up, out, [](auto d, auto gate) HWY_ATTR { return SiluExponent(d, gate); });
}

void GeluTanhRows(Tensor gate_up, Tensor out) {
  ActivateRows(gate_up, out, [](auto d, auto gate) HWY_ATTR { return GeluTanhExponent(d, gate); });
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvec::kernels::cpu {
namespace {

HWY_EXPORT(SiluRows);
HWY_EXPORT(GeluTanhRows);

}  // namespace

absl::Status GatedActivation(ThreadPool& pool, Tensor gate_up, Activation activation, Tensor out) {
  if (gate_up.rows != out.rows || gate_up.cols != 2 * out.cols) {
    return absl::InternalError(absl::StrCat("gated_activation: [", gate_up.rows, ", ", gate_up.cols,
                                            "] does not give [", out.rows, ", ", out.cols, "]"));
  }
  ParallelRows(pool, out.rows, [&](int begin, int end) {
    const Tensor from = gate_up.Rows(begin, end - begin);
    const Tensor to = out.Rows(begin, end - begin);
    switch (activation) {
      case Activation::kSilu:
        return HWY_DYNAMIC_DISPATCH(SiluRows)(from, to);
      case Activation::kGeluTanh:
        return HWY_DYNAMIC_DISPATCH(GeluTanhRows)(from, to);
    }
  });
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cpu
#endif  // HWY_ONCE
