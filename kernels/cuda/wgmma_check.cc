#include "kernels/cuda/wgmma_check.h"

#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/tensor/float_conversions.h"
#include "kernels/cuda/cuda_buffer.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/flat_batch.h"
#include "kernels/cuda/tensor_prefill.h"
#include "kernels/cuda/wgmma_prefill.h"

namespace kvec::kernels::cuda {
namespace {

// More entries than a tile, and more rows than a block: the last rows of a sequence, of three heads
// that share a KV head.
constexpr int kEntries = 200;
constexpr int kRows = 45;
constexpr int kGroup = 3;
constexpr int kPages = (kEntries + kPageTokens - 1) / kPageTokens;

// Results are averages of numbers up to 1, with weights of 8 bits. What is taken from a wrong place
// is off by far more.
constexpr float kTolerance = 0.02f;

class Numbers {
 public:
  // Of each sign, up to `limit`.
  std::vector<float> Make(size_t count, float limit) {
    std::uniform_real_distribution<float> distribution(-limit, limit);
    std::vector<float> numbers(count);
    for (float& number : numbers) number = distribution(random_);
    return numbers;
  }

 private:
  std::mt19937 random_{1};
};

template <typename T>
absl::StatusOr<std::unique_ptr<CudaBuffer>> ToDevice(cudaStream_t stream, const T& host) {
  const size_t bytes = host.size() * sizeof(host[0]);
  KVEC_ASSIGN_OR_RETURN(auto buffer, CudaBuffer::Allocate(bytes));
  KVEC_RETURN_IF_ERROR(
      ToStatus(cudaMemcpyAsync(buffer->data(), host.data(), bytes, cudaMemcpyHostToDevice, stream),
               "uploading the problem"));
  return buffer;
}

std::vector<uint16_t> Rounded(const std::vector<float>& numbers, KvType type) {
  std::vector<uint16_t> rounded;
  for (const float number : numbers) {
    rounded.push_back(type == KvType::kBF16 ? FloatToBFloat16(number) : FloatToHalf(number));
  }
  return rounded;
}

// Queues the kernel on an output full of NaN, and downloads that.
template <typename Kernel>
absl::StatusOr<std::vector<float>> Run(cudaStream_t stream, const Kernel& kernel,
                                       AttentionArguments arguments) {
  const int cols = arguments.shape.num_heads * arguments.shape.head_dim;
  std::vector<float> out(static_cast<size_t>(kRows * cols), std::nanf(""));
  KVEC_ASSIGN_OR_RETURN(const auto buffer, ToDevice(stream, out));
  arguments.out = {static_cast<float*>(buffer->data()), kRows, cols, cols};
  KVEC_RETURN_IF_ERROR(ToStatus(kernel(stream, arguments), "queueing"));
  KVEC_RETURN_IF_ERROR(
      ToStatus(cudaMemcpyAsync(out.data(), buffer->data(), out.size() * sizeof(float),
                               cudaMemcpyDeviceToHost, stream),
               "downloading the result"));
  KVEC_RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(stream), "running"));
  return out;
}

absl::Status CheckSame(const std::vector<float>& out, const std::vector<float>& expected) {
  for (size_t i = 0; i < out.size(); ++i) {
    if (std::fabs(out[i] - expected[i]) <= kTolerance) continue;
    const char* const hint = std::isnan(out[i]) ? " (a build without sm_90a?)" : "";
    return absl::InternalError(absl::StrCat("result ", i, " of ", out.size(), " is ", out[i], hint,
                                            ", by mma.sync it is ", expected[i]));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckWgmma(cudaStream_t stream, KvType type, int head_dim) {
  const HeadShape shape{
      .num_heads = kGroup, .num_kv_heads = 1, .head_dim = head_dim, .group_size = kGroup};
  std::vector<int32_t> page_ids(kPages);
  for (int i = 0; i < kPages; ++i) page_ids[static_cast<size_t>(i)] = i * 5 % kPages;
  const HeadPages head{page_ids.data(), kEntries};
  const AttentionSequence sequence{
      .row_begin = 0, .num_rows = kRows, .is_prompt = true, .heads = absl::MakeConstSpan(&head, 1)};
  const FlatBatch batch({.sequences = absl::MakeConstSpan(&sequence, 1)});

  Numbers numbers;
  const int cols = shape.qkv_cols();
  KVEC_ASSIGN_OR_RETURN(const auto qkv,
                        ToDevice(stream, numbers.Make(static_cast<size_t>(kRows * cols), 4.0f)));
  const auto num_stored = static_cast<size_t>(2 * kPages * kPageTokens * head_dim);
  KVEC_ASSIGN_OR_RETURN(const auto pages,
                        ToDevice(stream, Rounded(numbers.Make(num_stored, 1.0f), type)));
  KVEC_ASSIGN_OR_RETURN(const auto words, ToDevice(stream, batch.words()));
  const AttentionArguments arguments{
      .qkv = {static_cast<float*>(qkv->data()), kRows, cols, cols},
      .shape = shape,
      .log2_scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
      .kv = {pages->data(), nullptr, head_dim, type},
      .batch = batch.View(static_cast<const int32_t*>(words->data())),
      .out = {}};
  KVEC_ASSIGN_OR_RETURN(const auto expected, Run(stream, TensorPrefill, arguments));
  KVEC_ASSIGN_OR_RETURN(const auto out, Run(stream, WgmmaPrefill, arguments));
  return CheckSame(out, expected);
}

}  // namespace kvec::kernels::cuda
