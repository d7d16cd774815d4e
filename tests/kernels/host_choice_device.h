#ifndef KVEC_TESTS_KERNELS_HOST_CHOICE_DEVICE_H_
#define KVEC_TESTS_KERNELS_HOST_CHOICE_DEVICE_H_

#include <memory>
#include <utility>

#include "kernels/device.h"

namespace kvec::kernels {

// Another device without its chooser, so that the host chooses what an eviction keeps.
class HostChoiceDevice final : public Device {
 public:
  explicit HostChoiceDevice(std::unique_ptr<Device> device) : device_(std::move(device)) {}

  absl::string_view name() const override { return device_->name(); }
  absl::StatusOr<std::unique_ptr<DeviceMemory>> Allocate(size_t bytes) override {
    return device_->Allocate(bytes);
  }
  absl::Status Upload(absl::Span<const uint8_t> host, void* device) override {
    return device_->Upload(host, device);
  }
  absl::Status Download(const void* device, absl::Span<uint8_t> host) override {
    return device_->Download(device, host);
  }
  absl::Status Synchronize() override { return device_->Synchronize(); }
  absl::StatusOr<std::unique_ptr<Weight>> PrepareWeight(
      absl::Span<const WeightSource> sources) override {
    return device_->PrepareWeight(sources);
  }
  NumberType input_type() const override { return device_->input_type(); }
  absl::Status MatMul(const Weight& weight, ProductInput x, const float* bias, MatMulMode mode,
                      Tensor y) override {
    return device_->MatMul(weight, x, bias, mode, y);
  }
  absl::Status EmbeddingLookup(const WeightSource& table, absl::Span<const int32_t> ids,
                               float scale, Tensor out) override {
    return device_->EmbeddingLookup(table, ids, scale, out);
  }
  absl::Status RmsNorm(Tensor x, const float* weight, float eps, ProductInput out) override {
    return device_->RmsNorm(x, weight, eps, out);
  }
  absl::Status AddRmsNorm(Tensor y, const float* weight, float eps, Tensor x) override {
    return device_->AddRmsNorm(y, weight, eps, x);
  }
  absl::Status RopeAngles(absl::Span<const int32_t> positions, const RopeConfig& rope,
                          Tensor out) override {
    return device_->RopeAngles(positions, rope, out);
  }
  absl::Status GatedActivation(Tensor gate_up, Activation activation, ProductInput out) override {
    return device_->GatedActivation(gate_up, activation, out);
  }
  absl::StatusOr<std::unique_ptr<KvArena>> AllocateKvArena(const KvArenaSpec& spec) override {
    return device_->AllocateKvArena(spec);
  }
  std::unique_ptr<WorkReplayer> MakeReplayer() override { return device_->MakeReplayer(); }
  absl::Status PrepareStep(const StepBatch& step) override { return device_->PrepareStep(step); }
  absl::Status RotateAndAppendKv(Tensor qkv, const HeadShape& shape, const HeadRotation& rotation,
                                 absl::Span<const int32_t> positions, const AttentionBatch& batch,
                                 KvArena& arena) override {
    return device_->RotateAndAppendKv(qkv, shape, rotation, positions, batch, arena);
  }
  absl::Status Attention(Tensor qkv, const HeadShape& shape, const AttentionBatch& batch,
                         const KvArena& arena, ProductInput out) override {
    return device_->Attention(qkv, shape, batch, arena, out);
  }
  absl::Status CopyPages(KvArena& arena, absl::Span<const PageCopy> copies) override {
    return device_->CopyPages(arena, copies);
  }
  absl::Status KeepRows(Tensor queries, absl::Span<const KeptRow> rows, int layer) override {
    return device_->KeepRows(queries, rows, layer);
  }
  absl::Status WindowScores(const HeadShape& shape, const WindowScoreRequest& request,
                            const KvArena& arena) override {
    return device_->WindowScores(shape, request, arena);
  }
  absl::Status ValueNorms(absl::Span<const HeadPages> heads, int stride, const KvArena& arena,
                          float* norms) override {
    return device_->ValueNorms(heads, stride, arena, norms);
  }
  absl::Status GatherEntries(absl::Span<const GatherRequest> requests, KvArena& arena) override {
    return device_->GatherEntries(requests, arena);
  }
  absl::Status Sample(Tensor logits, absl::Span<const SampleRequest> requests,
                      absl::Span<SampleResult> results) override {
    return device_->Sample(logits, requests, results);
  }

 private:
  const std::unique_ptr<Device> device_;
};

}  // namespace kvec::kernels

#endif  // KVEC_TESTS_KERNELS_HOST_CHOICE_DEVICE_H_
