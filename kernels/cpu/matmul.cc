#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/cpu/dense_weight.h"
#include "kernels/cpu/matmul_kernels.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/quantized_weight.h"
#include "kernels/weight_source.h"

namespace kvec::kernels::cpu {
namespace {

// Up to here every thread takes a contiguous share of the panels: reading weights is the work, and
// it is fastest in one stream.
constexpr int kFewRows = 24;
// Rows that share one unpacking of a panel: many enough to pay for it, few enough for their sums to
// stay in the cache.
constexpr int kMaxRowsPerTask = 516;

// What PrepareWeight makes: each source in a form of its own.
class SegmentedWeight final : public Weight {
 public:
  struct Segment {
    int first_feature;
    std::unique_ptr<PackedWeight> packed;
  };

  SegmentedWeight(std::vector<Segment> segments, Isa isa)
      : segments_(std::move(segments)), kernels_(GetMatMulKernels(isa)) {}

  int out_features() const override {
    return segments_.back().first_feature + segments_.back().packed->out_features();
  }
  int in_features() const override { return segments_.front().packed->in_features(); }
  size_t bytes() const override {
    size_t bytes = 0;
    for (const Segment& segment : segments_) bytes += segment.packed->bytes();
    return bytes;
  }

  const std::vector<Segment>& segments() const { return segments_; }
  const MatMulKernels& kernels() const { return kernels_; }
  bool rounds_activations() const {
    return absl::c_any_of(segments_,
                          [](const Segment& s) { return s.packed->rounds_activations(); });
  }
  size_t ScratchBytes(int num_rows) const {
    size_t bytes = 0;
    for (const Segment& s : segments_) bytes = std::max(bytes, s.packed->ScratchBytes(num_rows));
    return bytes;
  }

 private:
  const std::vector<Segment> segments_;
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

// The part of a product that one segment computes: a range of y's columns.
MatMulOperands OperandsOf(const SegmentedWeight::Segment& segment, MatMulOperands operands) {
  operands.y.data += segment.first_feature;
  operands.y.cols = segment.packed->out_features();
  if (operands.bias != nullptr) operands.bias += segment.first_feature;
  return operands;
}

void RoundRows(const MatMulKernels& kernels, Tensor x, RowRange rows, ActivationBlock* rounded) {
  const int num_blocks = x.cols / 32;
  for (int row = rows.begin; row < rows.begin + rows.count; ++row) {
    kernels.quantize(x.data + row * x.stride, num_blocks, rounded + int64_t{row} * num_blocks);
  }
}

void MultiplyFewRows(ThreadPool& pool, const SegmentedWeight& weight,
                     const MatMulOperands& operands, MatMulScratch& scratch) {
  pool.Run([&](int thread) {
    for (const auto& segment : weight.segments()) {
      const MatMulOperands part = OperandsOf(segment, operands);
      const auto [begin, count] = ShareOf(thread, pool.num_threads(), segment.packed->num_panels());
      for (int panel = begin; panel < begin + count; ++panel) {
        segment.packed->MultiplyPanel(part, panel, panel + 1, {0, operands.x.rows},
                                      scratch.thread(thread));
      }
    }
  });
}

// Threads take one panel after the other, so that one that is held up does not hold up the rest.
void MultiplyManyRows(ThreadPool& pool, const SegmentedWeight& weight,
                      const MatMulOperands& operands, MatMulScratch& scratch) {
  const int num_rows = operands.x.rows;
  const int rows_per_task = std::min(num_rows, kMaxRowsPerTask);
  const int num_row_tasks = (num_rows + rows_per_task - 1) / rows_per_task;
  std::atomic<int> next{0};
  pool.Run([&](int thread) {
    int task = next.fetch_add(1, std::memory_order_relaxed);
    int first_task = 0;
    for (const auto& segment : weight.segments()) {
      const MatMulOperands part = OperandsOf(segment, operands);
      const int end_task = first_task + segment.packed->num_panels() * num_row_tasks;
      while (task < end_task) {
        const int panel = (task - first_task) / num_row_tasks;
        const int row = (task - first_task) % num_row_tasks * rows_per_task;
        segment.packed->MultiplyPanel(part, panel, panel + pool.num_threads(),
                                      {row, std::min(rows_per_task, num_rows - row)},
                                      scratch.thread(thread));
        task = next.fetch_add(1, std::memory_order_relaxed);
      }
      first_task = end_task;
    }
  });
}

absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(ThreadPool& pool, const WeightSource& source,
                                                   Isa isa) {
  if (IsQuantized(source.type)) return QuantizedWeight::Pack(pool, source, isa);
  return DenseWeight::Pack(pool, source);
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

absl::StatusOr<std::unique_ptr<Weight>> PrepareWeight(ThreadPool& pool,
                                                      absl::Span<const WeightSource> sources,
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
    KVEC_ASSIGN_OR_RETURN(std::unique_ptr<PackedWeight> packed, Pack(pool, source, isa));
    segments.push_back({first_feature, std::move(packed)});
    first_feature += source.num_rows;
  }
  return std::make_unique<SegmentedWeight>(std::move(segments), isa);
}

absl::Status MatMul(ThreadPool& pool, const Weight& weight, Tensor x, const float* bias,
                    MatMulMode mode, Tensor y, MatMulScratch& scratch) {
  KVEC_RETURN_IF_ERROR(CheckShapes(weight, x, y));
  if (x.rows == 0) return absl::OkStatus();
  const auto& segmented = static_cast<const SegmentedWeight&>(weight);
  const bool is_few = x.rows <= kFewRows;
  MatMulOperands operands{.x = x,
                          .rounded_x = nullptr,
                          .bias = bias,
                          .accumulate = mode == MatMulMode::kAccumulate,
                          .y = y};
  KVEC_RETURN_IF_ERROR(
      scratch.ReservePerThread(segmented.ScratchBytes(std::min(x.rows, kMaxRowsPerTask))));
  if (segmented.rounds_activations()) {
    KVEC_RETURN_IF_ERROR(
        scratch.ReserveActivations(sizeof(ActivationBlock) * (x.cols / 32) * x.rows));
    auto* rounded = reinterpret_cast<ActivationBlock*>(scratch.activations());
    operands.rounded_x = rounded;
    if (is_few) {
      RoundRows(segmented.kernels(), x, {0, x.rows}, rounded);
    } else {
      pool.Run([&](int thread) {
        RoundRows(segmented.kernels(), x, ShareOf(thread, pool.num_threads(), x.rows), rounded);
      });
    }
  }
  if (is_few) {
    MultiplyFewRows(pool, segmented, operands, scratch);
  } else {
    MultiplyManyRows(pool, segmented, operands, scratch);
  }
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cpu
