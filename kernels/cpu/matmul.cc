#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/cpu/matmul_kernels.h"
#include "kernels/cpu/quantized_matmul.h"
#include "kernels/cpu/quantized_weight.h"
#include "kernels/cpu/weight_source.h"

namespace kvec::kernels::cpu {
namespace {

// Rows that share one unpacking of a panel: many enough to pay for it, few enough that all threads
// get work out of a narrow weight.
constexpr int kMaxRowsPerUnit = 516;

// What PrepareWeight makes: each source in a form of its own.
class SegmentedWeight final : public Weight {
 public:
  struct Segment {
    int first_feature;
    QuantizedWeight quantized;
  };

  SegmentedWeight(std::vector<Segment> segments, Isa isa)
      : segments_(std::move(segments)), kernels_(GetMatMulKernels(isa)) {}

  int out_features() const override {
    return segments_.back().first_feature + segments_.back().quantized.out_features();
  }
  int in_features() const override { return segments_.front().quantized.in_features(); }
  size_t bytes() const override {
    size_t bytes = 0;
    for (const Segment& segment : segments_) bytes += segment.quantized.bytes();
    return bytes;
  }

  const std::vector<Segment>& segments() const { return segments_; }
  const MatMulKernels& kernels() const { return kernels_; }

 private:
  std::vector<Segment> segments_;
  const MatMulKernels& kernels_;
};

absl::Status CheckShapes(const Weight& weight, const Tensor& x, const Tensor& y) {
  if (x.cols == weight.in_features() && y.cols == weight.out_features() && x.rows == y.rows) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "matmul: x [", x.rows, ", ", x.cols, "] and y [", y.rows, ", ", y.cols,
      "] do not fit a weight [", weight.out_features(), ", ", weight.in_features(), "]"));
}

// The product of one segment, whose output features are a range of y's columns.
QuantizedMatMul ProductOf(const SegmentedWeight& weight, const SegmentedWeight::Segment& segment,
                          const ActivationBlock* x, const float* bias, MatMulMode mode, Tensor y) {
  y.data += segment.first_feature;
  y.cols = segment.quantized.out_features();
  return {.weight = segment.quantized,
          .kernels = weight.kernels(),
          .x = x,
          .bias = bias == nullptr ? nullptr : bias + segment.first_feature,
          .accumulate = mode == MatMulMode::kAccumulate,
          .y = y};
}

}  // namespace

absl::Status MatMulScratch::Reserve(size_t bytes, AlignedBuffer& buffer) {
  if (buffer.bytes() >= bytes) return absl::OkStatus();
  KVEC_ASSIGN_OR_RETURN(buffer, AlignedBuffer::Allocate(bytes));
  return absl::OkStatus();
}

absl::Status MatMulScratch::ReservePerThread(size_t bytes) {
  for (AlignedBuffer& buffer : threads_) KVEC_RETURN_IF_ERROR(Reserve(bytes, buffer));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Weight>> PrepareWeight(absl::Span<const WeightSource> sources,
                                                      Isa isa) {
  if (sources.empty()) return absl::InvalidArgumentError("weight: no sources");
  std::vector<SegmentedWeight::Segment> segments;
  int first_feature = 0;
  for (const WeightSource& source : sources) {
    KVEC_RETURN_IF_ERROR(CheckWeightSource(source));
    if (source.in_features != sources.front().in_features) {
      return absl::InvalidArgumentError(absl::StrCat("weight: in_features ", source.in_features,
                                                     " below rows of ",
                                                     sources.front().in_features));
    }
    KVEC_ASSIGN_OR_RETURN(QuantizedWeight quantized, QuantizedWeight::Pack(source));
    segments.push_back({first_feature, std::move(quantized)});
    first_feature += source.num_rows;
  }
  return std::make_unique<SegmentedWeight>(std::move(segments), isa);
}

absl::Status MatMul(ThreadPool& pool, const Weight& weight, Tensor x, const float* bias,
                    MatMulMode mode, Tensor y, MatMulScratch& scratch) {
  KVEC_RETURN_IF_ERROR(CheckShapes(weight, x, y));
  if (x.rows == 0) return absl::OkStatus();
  const auto& segmented = static_cast<const SegmentedWeight&>(weight);
  const MatMulKernels& kernels = segmented.kernels();
  const int num_blocks = x.cols / 32;
  const int rows_per_unit = std::min(x.rows, kMaxRowsPerUnit);
  KVEC_RETURN_IF_ERROR(scratch.ReserveActivations(sizeof(ActivationBlock) * num_blocks * x.rows));
  KVEC_RETURN_IF_ERROR(scratch.ReservePerThread(QuantizedMatMul::ScratchBytes(rows_per_unit)));
  auto* activations = reinterpret_cast<ActivationBlock*>(scratch.activations());

  if (x.rows <= kernels.max_tile_rows) {
    for (int row = 0; row < x.rows; ++row) {
      kernels.quantize(x.data + row * x.stride, num_blocks,
                       activations + int64_t{row} * num_blocks);
    }
    pool.Run([&](int thread) {
      for (const auto& segment : segmented.segments()) {
        const QuantizedMatMul product = ProductOf(segmented, segment, activations, bias, mode, y);
        const int64_t tiles = segment.quantized.num_tiles();
        product.MultiplyTiles(tiles * thread / pool.num_threads(),
                              tiles * (thread + 1) / pool.num_threads());
      }
    });
    return absl::OkStatus();
  }

  pool.Run([&](int thread) {
    const int begin = int64_t{x.rows} * thread / pool.num_threads();
    const int end = int64_t{x.rows} * (thread + 1) / pool.num_threads();
    for (int row = begin; row < end; ++row) {
      kernels.quantize(x.data + row * x.stride, num_blocks,
                       activations + int64_t{row} * num_blocks);
    }
  });
  std::atomic<int> next{0};
  pool.Run([&](int thread) {
    int unit = next.fetch_add(1);
    int base = 0;
    for (const auto& segment : segmented.segments()) {
      const QuantizedMatMul product = ProductOf(segmented, segment, activations, bias, mode, y);
      const int row_units = (x.rows + rows_per_unit - 1) / rows_per_unit;
      const int num_units = product.num_panels() * row_units;
      while (unit - base < num_units) {
        const int row = (unit - base) % row_units * rows_per_unit;
        const int panel = (unit - base) / row_units;
        product.MultiplyPanel(panel, row, std::min(rows_per_unit, x.rows - row),
                              panel + pool.num_threads(), scratch.thread(thread));
        unit = next.fetch_add(1);
      }
      base += num_units;
    }
  });
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cpu
