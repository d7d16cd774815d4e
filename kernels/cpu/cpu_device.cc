#include "kernels/cpu/cpu_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/append_kv.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu_kv_arena.h"
#include "kernels/cpu/embedding.h"
#include "kernels/cpu/gated_activation.h"
#include "kernels/cpu/gather_entries.h"
#include "kernels/cpu/rms_norm.h"
#include "kernels/cpu/rope.h"
#include "kernels/cpu/sampler.h"
#include "kernels/cpu/value_norms.h"
#include "kernels/cpu/window_scores.h"

namespace kvec::kernels::cpu {
namespace {

class CpuMemory : public DeviceMemory {
 public:
  explicit CpuMemory(AlignedBuffer buffer) : buffer_(std::move(buffer)) {}
  void* data() override { return buffer_.data(); }
  size_t bytes() const override { return buffer_.bytes(); }

 private:
  AlignedBuffer buffer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CpuDevice>> CpuDevice::Create(const Options& options) {
  if (options.num_threads < 1) {
    return absl::InvalidArgumentError(absl::StrCat("threads: ", options.num_threads));
  }
  if (options.isa > DetectIsa()) {
    return absl::UnavailableError(
        absl::StrCat("isa: this processor has no ", IsaName(options.isa)));
  }
  RestrictHighwayTo(options.isa);
  return std::unique_ptr<CpuDevice>(new CpuDevice(options));
}

CpuDevice::CpuDevice(const Options& options)
    : isa_(options.isa),
      name_(absl::StrCat("cpu (", IsaName(options.isa), ")")),
      pool_(options.num_threads),
      matmul_scratch_(options.num_threads) {}

absl::StatusOr<std::unique_ptr<DeviceMemory>> CpuDevice::Allocate(size_t bytes) {
  auto buffer = AlignedBuffer::Allocate(bytes);
  if (!buffer.ok()) return buffer.status();
  return std::make_unique<CpuMemory>(*std::move(buffer));
}

absl::Status CpuDevice::Upload(absl::Span<const uint8_t> host, void* device) {
  std::memcpy(device, host.data(), host.size());
  return absl::OkStatus();
}

absl::Status CpuDevice::Download(const void* device, absl::Span<uint8_t> host) {
  std::memcpy(host.data(), device, host.size());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Weight>> CpuDevice::PrepareWeight(
    absl::Span<const WeightSource> sources) {
  return cpu::PrepareWeight(pool_, sources, isa_);
}

absl::Status CpuDevice::MatMul(const Weight& weight, ProductInput x, const float* bias,
                               MatMulMode mode, Tensor y) {
  return cpu::MatMul(pool_, weight, x.tensor(), bias, mode, y, matmul_scratch_);
}

absl::Status CpuDevice::EmbeddingLookup(const WeightSource& table, absl::Span<const int32_t> ids,
                                        float scale, Tensor out) {
  return cpu::EmbeddingLookup(pool_, table, ids, scale, out);
}

absl::Status CpuDevice::RmsNorm(Tensor x, const float* weight, float eps, ProductInput out) {
  return cpu::RmsNorm(pool_, x, weight, eps, out.tensor());
}

absl::Status CpuDevice::AddRmsNorm(Tensor y, const float* weight, float eps, Tensor x) {
  return cpu::AddRmsNorm(pool_, y, weight, eps, x);
}

absl::Status CpuDevice::RopeAngles(absl::Span<const int32_t> positions, const RopeConfig& rope,
                                   Tensor out) {
  return cpu::RopeAngles(pool_, positions, rope, out);
}

absl::Status CpuDevice::GatedActivation(Tensor gate_up, Activation activation, ProductInput out) {
  return cpu::GatedActivation(pool_, gate_up, activation, out.tensor());
}

absl::StatusOr<std::unique_ptr<KvArena>> CpuDevice::AllocateKvArena(const KvArenaSpec& spec) {
  return CreateCpuKvArena(spec);
}

absl::Status CpuDevice::RotateAndAppendKv(Tensor qkv, const HeadShape& shape,
                                          const HeadRotation& rotation,
                                          absl::Span<const int32_t> positions,
                                          const AttentionBatch& batch, KvArena& arena) {
  absl::Status status =
      NormAndRotate(pool_, qkv, shape, rotation.norm, rotation.angles, rotation.pairing);
  if (!status.ok()) return status;
  return AppendKv(pool_, qkv, shape, positions, batch, static_cast<CpuKvArena&>(arena));
}

absl::Status CpuDevice::Attention(Tensor qkv, const HeadShape& shape, const AttentionBatch& batch,
                                  const KvArena& arena, ProductInput out) {
  return cpu::Attention(pool_, qkv, shape, batch, static_cast<const CpuKvArena&>(arena),
                        out.tensor());
}

absl::Status CpuDevice::CopyPages(KvArena& arena, absl::Span<const PageCopy> copies) {
  return cpu::CopyPages(static_cast<CpuKvArena&>(arena), copies);
}

absl::Status CpuDevice::KeepRows(Tensor queries, absl::Span<const KeptRow> rows, int layer) {
  for (const KeptRow& row : rows) {
    std::copy_n(queries.data + row.row * queries.stride, queries.cols,
                row.to + layer * row.layer_stride);
  }
  return absl::OkStatus();
}

absl::Status CpuDevice::WindowScores(const HeadShape& shape, const WindowScoreRequest& request,
                                     const KvArena& arena) {
  return cpu::WindowScores(pool_, shape, request, static_cast<const CpuKvArena&>(arena));
}

absl::Status CpuDevice::ValueNorms(absl::Span<const HeadPages> heads, int stride,
                                   const KvArena& arena, float* norms) {
  cpu::ValueNorms(pool_, heads, stride, static_cast<const CpuKvArena&>(arena), norms);
  return absl::OkStatus();
}

absl::Status CpuDevice::GatherEntries(absl::Span<const GatherRequest> requests, KvArena& arena) {
  cpu::GatherEntries(pool_, requests, static_cast<CpuKvArena&>(arena));
  return absl::OkStatus();
}

absl::Status CpuDevice::Sample(Tensor logits, absl::Span<const SampleRequest> requests,
                               absl::Span<SampleResult> results) {
  return cpu::Sample(pool_, logits, requests, results);
}

}  // namespace kvec::kernels::cpu
