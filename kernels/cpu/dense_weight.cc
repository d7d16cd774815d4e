#include "kernels/cpu/dense_weight.h"

#include <algorithm>
#include <cstring>

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

template <typename T>
void DenseWeight::PackPanel(const WeightSource& source, int panel) {
  constexpr int kInputs = 64 / sizeof(T);  // a cache line of each row at a time
  const int num_rows = std::min(kPanelFeatures, source.num_rows - panel * kPanelFeatures);
  const size_t row_bytes = sizeof(T) * source.in_features;
  const uint8_t* rows = source.data.data() + row_bytes * kPanelFeatures * panel;
  T* to = reinterpret_cast<T*>(data_.data() + row_bytes * kPanelFeatures * panel);
  for (int first = 0; first < source.in_features;
       first += kInputs, to += kInputs * kPanelFeatures) {
    const int count = std::min(kInputs, source.in_features - first);
    std::fill_n(to, count * kPanelFeatures, T{0});  // features beyond the last one
    for (int row = 0; row < num_rows; ++row) {
      T inputs[kInputs];
      std::memcpy(inputs, rows + row_bytes * row + sizeof(T) * first, sizeof(T) * count);
      for (int i = 0; i < count; ++i) to[i * kPanelFeatures + row] = inputs[i];
    }
  }
}

absl::StatusOr<std::unique_ptr<DenseWeight>> DenseWeight::Pack(ThreadPool& pool,
                                                               const WeightSource& source) {
  auto weight = absl::WrapUnique(new DenseWeight(source));
  const size_t row_bytes = RowBytes(source.type, source.in_features);
  KVEC_ASSIGN_OR_RETURN(
      weight->data_,
      AlignedBuffer::Allocate(row_bytes * kPanelFeatures * weight->num_panels(), PageSize::kHuge));
  pool.ParallelFor(weight->num_panels(), [&](int panel) {
    if (source.type == TensorType::kF32) {
      weight->PackPanel<uint32_t>(source, panel);
    } else {
      weight->PackPanel<uint16_t>(source, panel);
    }
  });
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
