#ifndef KVEC_KERNELS_CPU_CPU_DEVICE_H_
#define KVEC_KERNELS_CPU_CPU_DEVICE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"

namespace kvec::kernels::cpu {

// The processor as a device: the default, and what other devices are checked against. Operations are
// done when they return.
class CpuDevice : public Device {
 public:
  struct Options {
    int num_threads = 1;  // the caller's included
    Isa isa = DetectIsa();
  };

  // INVALID_ARGUMENT for no threads, UNAVAILABLE for an instruction set that is not there. The
  // instruction set is a choice for the whole process: the last device made decides.
  static absl::StatusOr<std::unique_ptr<CpuDevice>> Create(const Options& options);

  absl::string_view name() const override { return name_; }
  absl::StatusOr<std::unique_ptr<DeviceMemory>> Allocate(size_t bytes) override;
  absl::Status Upload(absl::Span<const uint8_t> host, void* device) override;
  absl::Status Download(const void* device, absl::Span<uint8_t> host) override;
  absl::Status Synchronize() override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<Weight>> PrepareWeight(
      absl::Span<const WeightSource> sources) override;
  absl::Status MatMul(const Weight& weight, ProductInput x, const float* bias, MatMulMode mode,
                      Tensor y) override;
  absl::Status EmbeddingLookup(const WeightSource& table, absl::Span<const int32_t> ids,
                               float scale, Tensor out) override;
  absl::Status RmsNorm(Tensor x, const float* weight, float eps, ProductInput out) override;
  absl::Status AddRmsNorm(Tensor y, const float* weight, float eps, Tensor x) override;
  absl::Status RopeAngles(absl::Span<const int32_t> positions, const RopeConfig& rope,
                          Tensor out) override;
  absl::Status GatedActivation(Tensor gate_up, Activation activation, ProductInput out) override;
  absl::StatusOr<std::unique_ptr<KvArena>> AllocateKvArena(const KvArenaSpec& spec) override;
  absl::Status RotateAndAppendKv(Tensor qkv, const HeadShape& shape, const HeadRotation& rotation,
                                 absl::Span<const int32_t> positions, const AttentionBatch& batch,
                                 KvArena& arena) override;
  absl::Status Attention(Tensor qkv, const HeadShape& shape, const AttentionBatch& batch,
                         const KvArena& arena, ProductInput out) override;
  absl::Status CopyPages(KvArena& arena, absl::Span<const PageCopy> copies) override;
  absl::Status KeepRows(Tensor queries, absl::Span<const KeptRow> rows, int layer) override;
  absl::Status WindowScores(const HeadShape& shape, const WindowScoreRequest& request,
                            const KvArena& arena) override;
  absl::Status ValueNorms(absl::Span<const HeadPages> heads, int stride,
                          const KvArena& arena, float* norms) override;
  absl::Status GatherEntries(absl::Span<const GatherRequest> requests, KvArena& arena) override;
  absl::Status Sample(Tensor logits, absl::Span<const SampleRequest> requests,
                      absl::Span<SampleResult> results) override;

 private:
  explicit CpuDevice(const Options& options);

  const Isa isa_;
  const std::string name_;
  ThreadPool pool_;
  MatMulScratch matmul_scratch_;
};

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_CPU_DEVICE_H_
