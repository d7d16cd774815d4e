#include "kernels/weight_source.h"

#include "absl/strings/str_cat.h"

namespace kvec::kernels {

absl::Status CheckWeightSource(const WeightSource& source) {
  const TensorTypeTraits& traits = GetTraits(source.type);
  if (source.num_rows <= 0 || source.in_features <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("weight: shape [", source.num_rows, ", ", source.in_features, "] is empty"));
  }
  if (source.in_features % traits.block_elements != 0) {
    return absl::InvalidArgumentError(absl::StrCat("weight: in_features ", source.in_features,
                                                   " is no multiple of ", traits.block_elements,
                                                   ", the block of ", traits.name));
  }
  const size_t bytes = RowBytes(source.type, source.in_features) * source.num_rows;
  if (source.data.size() != bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("weight: ", source.data.size(), " bytes of data for ", source.num_rows,
                     " rows of ", source.in_features, " in ", traits.name, ", expected ", bytes));
  }
  return absl::OkStatus();
}

}  // namespace kvec::kernels
