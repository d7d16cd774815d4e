#ifndef KVEC_KERNELS_CUDA_CUDA_DEVICE_H_
#define KVEC_KERNELS_CUDA_CUDA_DEVICE_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_buffer.h"
#include "kernels/cuda/dense_product.h"
#include "kernels/cuda/flat_batch.h"
#include "kernels/cuda/graph_cache.h"
#include "kernels/cuda/pinned_memory.h"
#include "kernels/cuda/rope_frequencies.h"
#include "kernels/cuda/sample_batch.h"
#include "kernels/cuda/step_tables.h"
#include "kernels/cuda/uploader.h"
#include "kernels/cuda/weight_type.h"
#include "kernels/cuda/window_scores.h"
#include "kernels/device.h"

namespace kvec::kernels::cuda {

class CudaEntryChooser;

// A GPU as a device. Operations are queued on one stream and return before they are done, but for
// those whose results go to the host's memory. Weights are held and multiplied in one type,
// whatever the file's.
class CudaDevice : public Device {
 public:
  struct Options {
    int index = 0;  // among the GPUs that this process sees
    ProductMode product_mode = ProductMode::kFastest;
    WeightType weight_type = WeightType::kBF16;
    bool use_graphs = true;  // no bit of any result depends on it
    bool use_wgmma = true;   // for prefill attention, where the GPU has it and it works
  };

  // UNAVAILABLE when there is no GPU, no driver or no cuBLASLt; INVALID_ARGUMENT for an index
  // beyond the GPUs that there are; FAILED_PRECONDITION for weights in int8 before compute
  // capability 7.5, in fp8 before 8.9.
  static absl::StatusOr<std::unique_ptr<CudaDevice>> Create(const Options& options);
  ~CudaDevice() override;

  // What all operations are queued on.
  cudaStream_t stream() const { return stream_; }

  const StepTables& step_tables() const { return step_tables_; }
  const GraphCounts& graph_counts() const { return graph_counts_; }

  // Of the GPU's memory, whoever uses the rest.
  absl::StatusOr<uint64_t> FreeBytes() const;

  absl::string_view name() const override { return name_; }
  std::unique_ptr<WorkReplayer> MakeReplayer() override;
  absl::StatusOr<std::unique_ptr<DeviceMemory>> Allocate(size_t bytes) override;
  absl::Status Upload(absl::Span<const uint8_t> host, void* device) override;
  absl::Status Download(const void* device, absl::Span<uint8_t> host) override;
  absl::Status Synchronize() override;
  absl::StatusOr<std::unique_ptr<Weight>> PrepareWeight(
      absl::Span<const WeightSource> sources) override;
  NumberType input_type() const override;
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
  absl::Status PrepareStep(const StepBatch& step) override;
  absl::Status RotateAndAppendKv(Tensor qkv, const HeadShape& shape, const HeadRotation& rotation,
                                 absl::Span<const int32_t> positions, const AttentionBatch& batch,
                                 KvArena& arena) override;
  absl::Status Attention(Tensor qkv, const HeadShape& shape, const AttentionBatch& batch,
                         const KvArena& arena, ProductInput out) override;
  absl::Status CopyPages(KvArena& arena, absl::Span<const PageCopy> copies) override;
  absl::Status KeepRows(Tensor queries, absl::Span<const KeptRow> rows, int layer) override;
  absl::Status WindowScores(const HeadShape& shape, const WindowScoreRequest& request,
                            const KvArena& arena) override;
  absl::Status ValueNorms(absl::Span<const HeadPages> heads, int stride, const KvArena& arena,
                          float* norms) override;
  absl::Status GatherEntries(absl::Span<const GatherRequest> requests, KvArena& arena) override;
  EntryChooser* chooser() override;
  absl::Status Sample(Tensor logits, absl::Span<const SampleRequest> requests,
                      absl::Span<SampleResult> results) override;

  // The operations whose names these have, but results go to the GPU's memory: nothing waits.
  // means[windows, num_heads, stride] and maxima[num_kv_heads, focus_window, stride] (may be null);
  // workspace[WindowWorkspaceFloats].
  absl::Status QueueWindowScores(const HeadShape& shape, const WindowScoreRequest& request,
                                 const KvArena& arena, float* means, float* maxima,
                                 float* workspace);
  absl::Status QueueValueNorms(absl::Span<const HeadPages> heads, int stride, const KvArena& arena,
                               float* norms);
  Uploader& uploader() { return uploader_; }

 private:
  CudaDevice(const cudaDeviceProp& properties, const Options& options, cudaStream_t stream);

  // Whether prefill attention over such an arena is to take wgmma: where it fails on a small
  // problem a warning is logged. An error when the GPU is of no use any more.
  absl::StatusOr<bool> TryWgmma(const KvArenaSpec& spec);
  // A layer of the Step that was prepared, or one that is prepared now.
  absl::StatusOr<PagedBatch> Prepared(const AttentionBatch& batch,
                                      absl::Span<const int32_t> positions);
  // Attention of the rows that are prompt tokens; all other rows of `out` are then undefined.
  absl::Status AttendPrompts(AttentionArguments arguments, ProductInput out);
  // Tables of one sequence's heads, without rows.
  absl::StatusOr<PagedBatch> UploadHeads(absl::Span<const HeadPages> heads);
  absl::Status UploadWindowRequest(const WindowScoreRequest& request,
                                   WindowScoreArguments& arguments);
  // Copies to the host and waits.
  template <typename T>
  absl::Status DownloadArray(const T* device, absl::Span<T> host) {
    if (host.empty()) return absl::OkStatus();
    return Download(device, {reinterpret_cast<uint8_t*>(host.data()), host.size() * sizeof(T)});
  }

  const std::string name_;
  const WeightType weight_type_;
  const cudaStream_t stream_;
  const bool use_graphs_;
  const bool may_use_wgmma_;
  GraphCounts graph_counts_;
  GraphCache sample_graphs_;
  Uploader uploader_;
  StepTables step_tables_;
  RopeFrequencies frequencies_;
  std::unique_ptr<DenseProduct> product_;
  CudaScratch scaled_input_;  // x in the weights' 8 bits, with scales and sums
  CudaScratch prompt_rows_;   // attention of a Step with prompt tokens, before it is rounded
  CudaScratch splits_;        // of decode attention
  CudaScratch results_;       // on their way to the host
  std::unique_ptr<CudaEntryChooser> chooser_;

  // What was queued by Sample and is to be told at Synchronize.
  struct PendingSample {
    SampleBatch batch;
    absl::Span<const SampleOutput> outputs;  // in downloads_
    absl::Span<const ScoredToken> top;       // in downloads_
    absl::Span<SampleResult> results;        // the caller's
  };
  absl::Status FinishSamples();

  CudaScratch sample_words_;  // of a SampleBatch
  PinnedMemory downloads_;
  std::vector<PendingSample> pending_samples_;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_CUDA_DEVICE_H_
