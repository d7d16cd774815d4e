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

// A tensor of one row of zeros.
absl::StatusOr<kernels::Tensor> MakeRow(int cols, kernels::Device& device,
                                        std::vector<std::unique_ptr<kernels::DeviceMemory>>& held) {
  const std::vector<uint8_t> zeros(sizeof(float) * static_cast<size_t>(cols));
  KVEC_ASSIGN_OR_RETURN(auto memory, device.Allocate(zeros.size()));
  KVEC_RETURN_IF_ERROR(device.Upload(zeros, memory->data()));
  KVEC_RETURN_IF_ERROR(device.Synchronize());
  const kernels::Tensor row{static_cast<float*>(memory->data()), 1, cols, cols};
  held.push_back(std::move(memory));
  return row;
}

// How long `count` products take.
absl::StatusOr<absl::Duration> Time(int count, const kernels::Weight& weight, kernels::Tensor x,
                                    kernels::Tensor y, kernels::Device& device) {
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
  KVEC_ASSIGN_OR_RETURN(const kernels::Tensor x, MakeRow(source.in_features, device, held));
  KVEC_ASSIGN_OR_RETURN(const kernels::Tensor y, MakeRow(source.num_rows, device, held));
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
