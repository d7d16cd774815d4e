#ifndef KVEC_KERNELS_CPU_DENSE_WEIGHT_H_
#define KVEC_KERNELS_CPU_DENSE_WEIGHT_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"

namespace kvec::kernels::cpu {

// Rows of an F32, F16 or BF16 tensor, in panels of 32 output features. Numbers stay as they are in
// the file, since a single row is bound by reading them; products are exact float32 multiply-adds
// in the order of the inputs, so that a row's bits do not depend on the rows beside it. (oneDNN's
// AVX2 products depend on them, its AVX512 products would need float32 copies of the weights, and
// its bfloat16 products run at half the speed of float32 on Intel processors without AMX.)
class DenseWeight final : public PackedWeight {
 public:
  // `source` is F32, F16 or BF16 and consistent; PrepareWeight has checked it. RESOURCE_EXHAUSTED
  // when the memory is not there.
  static absl::StatusOr<std::unique_ptr<DenseWeight>> Pack(ThreadPool& pool,
                                                           const WeightSource& source);

  int out_features() const override { return out_features_; }
  int in_features() const override { return in_features_; }
  size_t bytes() const override { return data_.bytes(); }
  bool rounds_activations() const override { return false; }
  size_t ScratchBytes(int num_rows) const override { return 0; }
  void MultiplyPanel(const MatMulOperands& operands, int panel, int next_panel, RowRange rows,
                     uint8_t* scratch) const override;

 private:
  explicit DenseWeight(const WeightSource& source);

  template <typename T>
  void PackPanel(const WeightSource& source, int panel);

  const TensorType type_;
  const int out_features_;
  const int in_features_;
  AlignedBuffer data_;  // [num_panels, in_features, 32] of type_
};

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_DENSE_WEIGHT_H_
