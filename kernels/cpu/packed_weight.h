#ifndef KVEC_KERNELS_CPU_PACKED_WEIGHT_H_
#define KVEC_KERNELS_CPU_PACKED_WEIGHT_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/matmul_kernels.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cpu {

// A product with one PackedWeight, as the threads that work on it see it.
struct MatMulOperands {
  Tensor x;                          // [rows, in_features]
  const ActivationBlock* rounded_x;  // [rows, in_features / 32]; null when no weight wants it
  const float* bias;                 // [out_features] or null
  bool accumulate;                   // into y
  Tensor y;                          // [rows, out_features]
};

struct RowRange {
  int begin;
  int count;
};

// The share of `thread` in 0 … total - 1.
inline RowRange ShareOf(int thread, int num_threads, int64_t total) {
  const int64_t begin = total * thread / num_threads;
  const int64_t end = total * (thread + 1) / num_threads;
  return {static_cast<int>(begin), static_cast<int>(end - begin)};
}

// The rows of one source in the form that its products run on. Output features are cut into panels
// of kPanelFeatures; threads take panels, or some rows of a panel, in any order.
//
// Immutable once made.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;

  virtual int out_features() const = 0;
  virtual int in_features() const = 0;
  virtual size_t bytes() const = 0;
  // Products read rounded_x instead of x.
  virtual bool rounds_activations() const = 0;

  int num_panels() const { return (out_features() + kPanelFeatures - 1) / kPanelFeatures; }

  // What MultiplyPanel needs.
  virtual size_t ScratchBytes(int num_rows) const = 0;

  // Computes rows `rows` of the features of `panel`. `next_panel`, which this thread will probably
  // want next, may be fetched into the cache on the way; it need not exist.
  virtual void MultiplyPanel(const MatMulOperands& operands, int panel, int next_panel,
                             RowRange rows, uint8_t* scratch) const = 0;
};

// Where MultiplyPanel's results go: y's rows from rows.begin on, features from first_feature on.
inline ProductOutput OutputOf(const MatMulOperands& operands, RowRange rows, int first_feature) {
  const int features_left = operands.y.cols - first_feature;
  return {.y = operands.y.data + rows.begin * operands.y.stride + first_feature,
          .stride = operands.y.stride,
          .num_features = features_left < kPanelFeatures ? features_left : kPanelFeatures,
          .bias = operands.bias == nullptr ? nullptr : operands.bias + first_feature,
          .multiplier = 1.0f,
          .accumulate = operands.accumulate};
}

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_PACKED_WEIGHT_H_
