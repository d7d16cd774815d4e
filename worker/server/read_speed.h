#ifndef KVEC_WORKER_SERVER_READ_SPEED_H_
#define KVEC_WORKER_SERVER_READ_SPEED_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "common/model/model_files.h"
#include "kernels/device.h"

namespace kvec::worker::server {

// How fast the device gets through weights in a decode Step, in bytes of the model's files per
// second: one row times the first layer's down projection, the best of several runs of some
// milliseconds. Takes a few hundredths of a second. The device's errors, and those of a model
// without such a tensor.
absl::StatusOr<uint64_t> MeasureReadSpeed(const ModelFiles& files, kernels::Device& device);

}  // namespace kvec::worker::server

#endif  // KVEC_WORKER_SERVER_READ_SPEED_H_
