#ifndef KVEC_KERNELS_WEIGHT_SOURCE_H_
#define KVEC_KERNELS_WEIGHT_SOURCE_H_

#include "absl/status/status.h"
#include "kernels/device.h"

namespace kvec::kernels {

// INVALID_ARGUMENT when the source is empty, its rows are no whole blocks of its type, or its data
// has another size than its shape.
absl::Status CheckWeightSource(const WeightSource& source);

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_WEIGHT_SOURCE_H_
