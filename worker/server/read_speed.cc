#include "worker/server/read_speed.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status_macros.h"

namespace kvec::worker::server {
namespace {

constexpr char kTensor[] = "blk.0.ffn_down.weight";
constexpr int kRuns = 8;  // others on the machine disturb some of them
constexpr absl::Duration kRun = absl::Milliseconds(4);

// A row of zeros.
absl::StatusOr<void*> MakeRow(size_t bytes, kernels::Device& device,
                              std::vector<std::unique_ptr<kernels::DeviceMemory>>& held) {
  const std::vector<uint8_t> zeros(bytes);
  KVEC_ASSIGN_OR_RETURN(auto memory, device.Allocate(bytes));
  KVEC_RETURN_IF_ERROR(device.Upload(zeros, memory->data()));
  KVEC_RETURN_IF_ERROR(device.Synchronize());
  held.push_back(std::move(memory));
  return held.back()->data();
}

// How long `count` products take.
absl::StatusOr<absl::Duration> Time(int count, const kernels::Weight& weight,
                                    kernels::ProductInput x, kernels::Tensor y,
                                    kernels::Device& device) {
  const absl::Time begin = absl::Now();
  for (int i = 0; i < count; ++i) {
    KVEC_RETURN_IF_ERROR(device.MatMul(weight, x, nullptr, kernels::MatMulMode::kOverwrite, y));
  }
  KVEC_RETURN_IF_ERROR(device.Synchronize());
  return absl::Now() - begin;
}

}  // namespace

absl::StatusOr<uint64_t> MeasureReadSpeed(const ModelFiles& files, kernels::Device& device) {
  KVEC_ASSIGN_OR_RETURN(const FileTensor tensor, files.FindTensor(kTensor));
  if (tensor.shape.size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", kTensor, ": ", tensor.shape.size(), " dimensions, not 2"));
  }
  const kernels::WeightSource source{tensor.type, static_cast<int>(tensor.shape[0]),
                                     static_cast<int>(tensor.shape[1]), tensor.data};
  KVEC_ASSIGN_OR_RETURN(const auto weight, device.PrepareWeight({&source, 1}));
  std::vector<std::unique_ptr<kernels::DeviceMemory>> held;
  kernels::ProductInput x{nullptr, device.input_type(), 1, source.in_features, source.in_features};
  KVEC_ASSIGN_OR_RETURN(
      x.data, MakeRow(kernels::NumberBytes(x.type) * static_cast<size_t>(x.cols), device, held));
  KVEC_ASSIGN_OR_RETURN(
      void* const y_data,
      MakeRow(sizeof(float) * static_cast<size_t>(source.num_rows), device, held));
  const kernels::Tensor y{static_cast<float*>(y_data), 1, source.num_rows, source.num_rows};
  // The first product is slow: memory is touched, a library chooses its algorithm.
  KVEC_RETURN_IF_ERROR(Time(1, *weight, x, y, device).status());
  KVEC_ASSIGN_OR_RETURN(absl::Duration once, Time(1, *weight, x, y, device));
  once = std::max(once, absl::Microseconds(1));
  const int count = static_cast<int>(std::clamp<int64_t>(kRun / once, 1, 10'000));
  absl::Duration best = absl::InfiniteDuration();
  for (int run = 0; run < kRuns; ++run) {
    KVEC_ASSIGN_OR_RETURN(const absl::Duration time, Time(count, *weight, x, y, device));
    best = std::min(best, time);
  }
  const double seconds = absl::ToDoubleSeconds(std::max(best, absl::Nanoseconds(100)));
  return static_cast<uint64_t>(static_cast<double>(count) * tensor.data.size() / seconds);
}

}  // namespace kvec::worker::server
