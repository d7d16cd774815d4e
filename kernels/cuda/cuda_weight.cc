#include "kernels/cuda/cuda_weight.h"

#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/tensor/dequantize.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/quantize_rows.h"
#include "kernels/weight_source.h"

namespace kvec::kernels::cuda {
namespace {

// Of which a sum of products of int8 fits 32 bits.
constexpr int kMostInt8Features = std::numeric_limits<int32_t>::max() / (127 * 127);

absl::Status CheckSources(absl::Span<const WeightSource> sources, WeightType type) {
  if (sources.empty()) return absl::InvalidArgumentError("weight: no sources");
  for (const WeightSource& source : sources) {
    KVEC_RETURN_IF_ERROR(CheckWeightSource(source));
    if (source.in_features != sources[0].in_features) {
      return absl::InvalidArgumentError(absl::StrCat("weight: in_features ", source.in_features,
                                                     " on top of ", sources[0].in_features));
    }
  }
  if (type == WeightType::kInt8 && sources[0].in_features > kMostInt8Features) {
    return absl::InvalidArgumentError(absl::StrCat("weight: in_features ", sources[0].in_features,
                                                   " of int8, at most ", kMostInt8Features));
  }
  return absl::OkStatus();
}

int StoredFeatures(int features, WeightType type) {
  return type == WeightType::kBF16 ? features : RoundUpToMultiple(features, kEightBitFeatures);
}

}  // namespace

CudaWeight::CudaWeight(int out_features, int in_features, WeightType type)
    : out_features_(out_features),
      in_features_(in_features),
      type_(type),
      stored_rows_(StoredFeatures(out_features, type)),
      stored_cols_(StoredFeatures(in_features, type)) {}

absl::StatusOr<std::unique_ptr<CudaWeight>> CudaWeight::Create(
    absl::Span<const WeightSource> sources, WeightType type, cudaStream_t stream) {
  KVEC_RETURN_IF_ERROR(CheckSources(sources, type));
  int out_features = 0;
  for (const WeightSource& source : sources) out_features += source.num_rows;
  std::unique_ptr<CudaWeight> weight(new CudaWeight(out_features, sources[0].in_features, type));
  const size_t scales_bytes =
      type == WeightType::kBF16 ? 0 : static_cast<size_t>(out_features) * sizeof(float);
  KVEC_ASSIGN_OR_RETURN(weight->buffer_,
                        CudaBuffer::Allocate(weight->numbers_bytes() + scales_bytes));
  if (weight->stored_rows_ > out_features) {
    KVEC_RETURN_IF_ERROR(ToStatus(
        cudaMemsetAsync(weight->buffer_->data(), 0, weight->numbers_bytes(), stream), "weight"));
  }
  int first_row = 0;
  for (const WeightSource& source : sources) {
    KVEC_RETURN_IF_ERROR(weight->Fill(source, first_row, stream));
    first_row += source.num_rows;
  }
  return weight;
}

const float* CudaWeight::scales() const {
  return reinterpret_cast<const float*>(static_cast<const uint8_t*>(buffer_->data()) +
                                        numbers_bytes());
}

size_t CudaWeight::numbers_bytes() const {
  return static_cast<size_t>(stored_rows_) * static_cast<size_t>(stored_cols_) *
         (type_ == WeightType::kBF16 ? sizeof(__nv_bfloat16) : 1);
}

// Some rows at a time: the host decodes them to float, the GPU rounds them as it does x.
absl::Status CudaWeight::Fill(const WeightSource& source, int first_row, cudaStream_t stream) {
  constexpr int kNumbersAtOnce = 1 << 20;
  const auto cols = static_cast<size_t>(in_features_);
  const size_t row_bytes = RowBytes(source.type, source.in_features);
  const int rows_at_once =
      std::min(source.num_rows, std::max(1, kNumbersAtOnce / source.in_features));
  std::vector<float> decoded(static_cast<size_t>(rows_at_once) * cols);
  KVEC_ASSIGN_OR_RETURN(auto uploaded, CudaBuffer::Allocate(decoded.size() * sizeof(float)));
  Tensor rows{static_cast<float*>(uploaded->data()), rows_at_once, in_features_, in_features_};
  auto* const numbers = static_cast<uint8_t*>(buffer_->data());
  auto* const scales = reinterpret_cast<float*>(numbers + numbers_bytes());
  for (int begin = 0; begin < source.num_rows; begin += rows_at_once) {
    rows.rows = std::min(rows_at_once, source.num_rows - begin);
    const absl::Span<float> values =
        absl::MakeSpan(decoded).first(static_cast<size_t>(rows.rows) * cols);
    Dequantize(source.type,
               source.data.subspan(static_cast<size_t>(begin) * row_bytes,
                                   static_cast<size_t>(rows.rows) * row_bytes),
               values);
    KVEC_RETURN_IF_ERROR(
        ToStatus(cudaMemcpyAsync(rows.data, values.data(), values.size() * sizeof(float),
                                 cudaMemcpyHostToDevice, stream),
                 "weight"));
    const auto row = static_cast<size_t>(first_row + begin);
    const size_t number = row * static_cast<size_t>(stored_cols_);
    const cudaError_t error =
        type_ == WeightType::kBF16
            ? ToBFloat16(stream, rows, reinterpret_cast<__nv_bfloat16*>(numbers) + number,
                         stored_cols_)
            : QuantizeRows(stream, rows, type_, rows.rows, stored_cols_, numbers + number,
                           scales + row);
    KVEC_RETURN_IF_ERROR(ToStatus(error, "weight"));
  }
  return ToStatus(cudaStreamSynchronize(stream), "weight");
}

}  // namespace kvec::kernels::cuda
