#include "kernels/cuda/scaled_product.h"

#include <cstddef>
#include <cstdint>

#include "common/status_macros.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/quantize_rows.h"
#include "kernels/cuda/scale_sums.h"

namespace kvec::kernels::cuda {

absl::Status MultiplyScaled(cudaStream_t stream, const CudaWeight& weight, Tensor x,
                            const float* bias, MatMulMode mode, Tensor y, DenseProduct& product,
                            CudaScratch& scratch) {
  const int num_rows = RoundUpToMultiple(x.rows, kEightBitRows);
  const auto rows = static_cast<size_t>(num_rows);
  // Sums first: what cuBLASLt reads and writes is then aligned to 16 bytes, as it asks.
  const size_t sums_bytes = rows * static_cast<size_t>(weight.stored_rows()) * sizeof(float);
  const size_t numbers_bytes = rows * static_cast<size_t>(weight.stored_cols());
  KVEC_ASSIGN_OR_RETURN(uint8_t* const sums, scratch.Reserve<uint8_t>(sums_bytes + numbers_bytes +
                                                                      rows * sizeof(float)));
  uint8_t* const numbers = sums + sums_bytes;
  auto* const scales = reinterpret_cast<float*>(numbers + numbers_bytes);
  KVEC_RETURN_IF_ERROR(ToStatus(
      QuantizeRows(stream, x, weight.type(), num_rows, weight.stored_cols(), numbers, scales),
      "matmul"));
  KVEC_RETURN_IF_ERROR(product.MultiplyEightBit({.type = weight.type(),
                                                 .weight = weight.numbers(),
                                                 .x = numbers,
                                                 .sums = sums,
                                                 .num_rows = num_rows,
                                                 .in_features = weight.stored_cols(),
                                                 .out_features = weight.stored_rows()}));
  return ToStatus(ScaleSums(stream, {.type = weight.type(),
                                     .sums = sums,
                                     .num_cols = weight.stored_rows(),
                                     .x_scales = scales,
                                     .weight_scales = weight.scales(),
                                     .bias = bias,
                                     .mode = mode,
                                     .y = y}),
                  "matmul");
}

}  // namespace kvec::kernels::cuda
