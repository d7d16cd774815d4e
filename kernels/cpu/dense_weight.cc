#include "kernels/cpu/dense_weight.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "common/tensor/tensor_type.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dense_weight.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/kv_number-inl.h"
#include "kernels/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

// Rows that share a load of weights: with 32 features they are 24 of AVX512's 32 registers, and 12
// of AVX2's 16.
#if HWY_TARGET <= HWY_AVX3
constexpr int kMostRows = 12;
#elif HWY_TARGET == HWY_AVX2
constexpr int kMostRows = 3;
#else
constexpr int kMostRows = 1;
#endif

using FloatTag = hn::CappedTag<float, kTileFeatures>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(FloatTag()));
constexpr int kVectors = kPanelFeatures / kLanes;  // of a row of the panel

// One row of a panel's results.
HWY_INLINE void FinishRow(const hn::Vec<FloatTag> (&sums)[kVectors], const ProductOutput& output,
                          int row) {
  const FloatTag d;
  float* y = output.y + row * output.stride;
  for (int i = 0; i < kVectors; ++i) {
    if (output.num_features <= i * kLanes) return;
    const size_t count = static_cast<size_t>(output.num_features - i * kLanes);
    auto result = sums[i];
    if (output.bias != nullptr) {
      result = hn::Add(result, LoadFirst(d, output.bias + i * kLanes, count));
    }
    if (output.accumulate) result = hn::Add(result, LoadFirst(d, y + i * kLanes, count));
    StoreFirst(d, result, y + i * kLanes, count);
  }
}

template <class Number, int kRows>
HWY_INLINE void MultiplyRows(const typename Number::Stored* panel, Tensor x, int first_row,
                             const ProductOutput& output) {
  constexpr int kPrefetch = 4096 / sizeof(*panel);
  const FloatTag d;
  const float* inputs = x.data + first_row * x.stride;
  hn::Vec<FloatTag> sums[kRows][kVectors];
  for (int row = 0; row < kRows; ++row) {
    for (int i = 0; i < kVectors; ++i) sums[row][i] = hn::Zero(d);
  }
  for (int input = 0; input < x.cols; ++input, ++inputs, panel += kPanelFeatures) {
    hwy::Prefetch(panel + kPrefetch);
    hn::Vec<FloatTag> weights[kVectors];
    for (int i = 0; i < kVectors; ++i) weights[i] = Number::Load(d, panel + i * kLanes);
    for (int row = 0; row < kRows; ++row) {
      const auto value = hn::Set(d, inputs[row * x.stride]);
      for (int i = 0; i < kVectors; ++i) {
        sums[row][i] = hn::MulAdd(value, weights[i], sums[row][i]);
      }
    }
  }
  for (int row = 0; row < kRows; ++row) FinishRow(sums[row], output, first_row + row);
}

// The remaining rows in groups of up to kRows.
template <class Number, int kRows>
HWY_INLINE void MultiplyGroups(const typename Number::Stored* panel, Tensor x, int first_row,
                               const ProductOutput& output) {
  for (; first_row + kRows <= x.rows; first_row += kRows) {
    MultiplyRows<Number, kRows>(panel, x, first_row, output);
  }
  if constexpr (kRows > 1) MultiplyGroups<Number, kRows / 2>(panel, x, first_row, output);
}

void MultiplyDensePanel(TensorType type, const uint8_t* panel, Tensor x,
                        const ProductOutput& output) {
  const auto* halves = reinterpret_cast<const uint16_t*>(panel);
  if (type == TensorType::kBF16) {
    MultiplyGroups<BFloat16Number, kMostRows>(halves, x, 0, output);
  } else if (type == TensorType::kF16) {
    MultiplyGroups<Float16Number, kMostRows>(halves, x, 0, output);
  } else {
    MultiplyGroups<Float32Number, kMostRows>(reinterpret_cast<const float*>(panel), x, 0, output);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvec::kernels::cpu {
namespace {

HWY_EXPORT(MultiplyDensePanel);

}  // namespace

DenseWeight::DenseWeight(const WeightSource& source)
    : type_(source.type), out_features_(source.num_rows), in_features_(source.in_features) {}

absl::StatusOr<std::unique_ptr<DenseWeight>> DenseWeight::Pack(const WeightSource& source) {
  auto weight = absl::WrapUnique(new DenseWeight(source));
  const size_t number_bytes = GetTraits(source.type).block_bytes;
  const size_t row_bytes = number_bytes * source.in_features;
  KVEC_ASSIGN_OR_RETURN(weight->data_,
                        AlignedBuffer::Allocate(row_bytes * kPanelFeatures * weight->num_panels()));
  uint8_t* to = weight->data_.data();
  for (int panel = 0; panel < weight->num_panels(); ++panel) {
    for (int input = 0; input < source.in_features; ++input) {
      for (int i = 0; i < kPanelFeatures; ++i, to += number_bytes) {
        const int row = panel * kPanelFeatures + i;
        if (row < source.num_rows) {
          std::memcpy(to, source.data.data() + row * row_bytes + input * number_bytes,
                      number_bytes);
        } else {
          std::memset(to, 0, number_bytes);
        }
      }
    }
  }
  return weight;
}

void DenseWeight::MultiplyPanel(const MatMulOperands& operands, int panel, int next_panel,
                                RowRange rows, uint8_t* scratch) const {
  const size_t panel_bytes =
      GetTraits(type_).block_bytes * kPanelFeatures * static_cast<size_t>(in_features_);
  HWY_DYNAMIC_DISPATCH(MultiplyDensePanel)
  (type_, data_.data() + panel * panel_bytes, operands.x.Rows(rows.begin, rows.count),
   OutputOf(operands, rows, panel * kPanelFeatures));
}

}  // namespace kvec::kernels::cpu
#endif  // HWY_ONCE
