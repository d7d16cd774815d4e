#include "kernels/cpu/embedding.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/tensor/dequantize.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/weight_source.h"

namespace kvec::kernels::cpu {

absl::Status EmbeddingLookup(ThreadPool& pool, const WeightSource& table,
                             absl::Span<const int32_t> ids, float scale, Tensor out) {
  KVEC_RETURN_IF_ERROR(CheckWeightSource(table));
  if (out.rows != static_cast<int64_t>(ids.size()) || out.cols != table.in_features) {
    return absl::InvalidArgumentError(absl::StrCat("embedding: ", ids.size(), " ids of ",
                                                   table.in_features, " numbers into a tensor [",
                                                   out.rows, ", ", out.cols, "]"));
  }
  for (int32_t id : ids) {
    if (id < 0 || id >= table.num_rows) {
      return absl::InvalidArgumentError(
          absl::StrCat("embedding: id ", id, " of a table with ", table.num_rows, " rows"));
    }
  }
  const size_t row_bytes = RowBytes(table.type, table.in_features);
  ParallelRows(pool, out.rows, [&](int begin, int end) {
    for (int row = begin; row < end; ++row) {
      const absl::Span<float> target(out.data + row * out.stride, static_cast<size_t>(out.cols));
      Dequantize(table.type, table.data.subspan(row_bytes * ids[row], row_bytes), target);
      if (scale == 1.0f) continue;
      for (float& value : target) value *= scale;
    }
  });
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cpu
