#ifndef KVEC_KERNELS_CUDA_CUDA_WEIGHT_H_
#define KVEC_KERNELS_CUDA_CUDA_WEIGHT_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cuda/cuda_buffer.h"
#include "kernels/cuda/weight_type.h"
#include "kernels/device.h"

namespace kvec::kernels::cuda {

// A weight matrix in the GPU's memory.
class CudaWeight : public Weight {
 public:
  // As Device::PrepareWeight. Waits for `stream`, on which it is decoded.
  static absl::StatusOr<std::unique_ptr<CudaWeight>> Create(absl::Span<const WeightSource> sources,
                                                            WeightType type, cudaStream_t stream);

  int out_features() const override { return out_features_; }
  int in_features() const override { return in_features_; }
  size_t bytes() const override { return buffer_->bytes(); }

  WeightType type() const { return type_; }
  // Of kInt8 and kFp8 both are rounded up, with zeros, to kEightBitFeatures.
  int stored_rows() const { return stored_rows_; }
  int stored_cols() const { return stored_cols_; }
  // [stored_rows, stored_cols]
  const void* numbers() const { return buffer_->data(); }
  // [out_features], of kInt8 and kFp8.
  const float* scales() const;

 private:
  CudaWeight(int out_features, int in_features, WeightType type);

  size_t numbers_bytes() const;
  // Decodes a source into the rows from first_row on.
  absl::Status Fill(const WeightSource& source, int first_row, cudaStream_t stream);

  const int out_features_;
  const int in_features_;
  const WeightType type_;
  const int stored_rows_;
  const int stored_cols_;
  std::unique_ptr<CudaBuffer> buffer_;  // numbers, then scales
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_CUDA_WEIGHT_H_
