#ifndef KVEC_KERNELS_CPU_QUANTIZED_MATMUL_H_
#define KVEC_KERNELS_CPU_QUANTIZED_MATMUL_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/matmul_kernels.h"
#include "kernels/cpu/quantized_weight.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cpu {

// One product of quantised activations with a QuantizedWeight, cut into units of work that any
// thread may do in any order: a panel of 32 output features times a range of rows.
struct QuantizedMatMul {
  const QuantizedWeight& weight;
  const MatMulKernels& kernels;
  const ActivationBlock* x;  // [y.rows, weight.num_blocks()]
  const float* bias;         // [out] or null
  bool accumulate;
  Tensor y;  // [rows, out]

  int num_panels() const { return (weight.num_tiles() + 1) / 2; }

  // Rows [row_begin, row_begin + num_rows) of panel `panel`; `scratch` has ScratchBytes(num_rows).
  // `next_panel`, which this thread will probably want next, is fetched into the cache on the way.
  void MultiplyPanel(int panel, int row_begin, int num_rows, int next_panel,
                     uint8_t* scratch) const;

  // All rows, at most kernels.max_tile_rows, times tiles [tile_begin, tile_end).
  void MultiplyTiles(int tile_begin, int tile_end) const;

  static size_t ScratchBytes(int num_rows);

 private:
  ProductOutput OutputOf(int row, int feature) const;
};

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_QUANTIZED_MATMUL_H_
