#include "kernels/cuda/rope_frequencies.h"

#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/cuda/cuda_status.h"

namespace kvec::kernels::cuda {
namespace {

std::vector<double> Frequencies(const RopeConfig& rope, int num_pairs) {
  std::vector<double> frequencies;
  for (int i = 0; i < num_pairs; ++i) {
    frequencies.push_back(std::pow(double{rope.theta}, -static_cast<double>(i) / num_pairs));
    if (!rope.frequency_factors.empty()) {
      frequencies.back() /= rope.frequency_factors[static_cast<size_t>(i)];
    }
  }
  return frequencies;
}

}  // namespace

absl::StatusOr<const double*> RopeFrequencies::Get(const RopeConfig& rope, int num_pairs) {
  for (const Entry& entry : entries_) {
    if (entry.num_pairs == num_pairs && entry.rope.theta == rope.theta &&
        entry.rope.frequency_factors == rope.frequency_factors) {
      return static_cast<const double*>(entry.buffer->data());
    }
  }
  if (!rope.frequency_factors.empty() &&
      rope.frequency_factors.size() != static_cast<size_t>(num_pairs)) {
    return absl::InternalError(absl::StrCat("rope: ", rope.frequency_factors.size(),
                                            " frequency factors of ", num_pairs, " pairs"));
  }
  const std::vector<double> frequencies = Frequencies(rope, num_pairs);
  const size_t bytes = frequencies.size() * sizeof(double);
  KVEC_ASSIGN_OR_RETURN(auto buffer, CudaBuffer::Allocate(bytes));
  KVEC_RETURN_IF_ERROR(ToStatus(
      cudaMemcpyAsync(buffer->data(), frequencies.data(), bytes, cudaMemcpyHostToDevice, stream_),
      "rope frequencies"));
  entries_.push_back({rope, num_pairs, std::move(buffer)});
  return static_cast<const double*>(entries_.back().buffer->data());
}

}  // namespace kvec::kernels::cuda
