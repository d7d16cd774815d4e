#ifndef KVEC_KERNELS_DEVICE_H_
#define KVEC_KERNELS_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/model/model_config.h"
#include "common/tensor/tensor_type.h"
#include "kernels/attention_batch.h"
#include "kernels/entry_chooser.h"
#include "kernels/head_rotation.h"
#include "kernels/kv_arena.h"
#include "kernels/sampling.h"
#include "kernels/tensor.h"
#include "kernels/window_scores.h"
#include "kernels/work_replayer.h"

namespace kvec::kernels {

// A weight matrix in the form that a device multiplies best. Logically
// [out_features, in_features]; made by Device::PrepareWeight, used by Device::MatMul.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual int out_features() const = 0;
  virtual int in_features() const = 0;
  virtual size_t bytes() const = 0;  // in the device's memory
};

// Rows of a weight in a model file's encoding, [num_rows, in_features].
struct WeightSource {
  TensorType type;
  int num_rows;
  int in_features;
  absl::Span<const uint8_t> data;
};

enum class MatMulMode {
  kOverwrite,  // y = x·Wᵀ
  kAccumulate  // y += x·Wᵀ: the residual stream
};

// What the engine needs of a device: a small set of operations over its tensors. All operations of
// one Device run in order on its one stream; they may return before the work is done, and errors of
// the device surface at Synchronize at the latest. One thread calls a Device.
//
// Every operation computes each row alike whatever the number of rows beside it (DESIGN.md's rule
// on arithmetic).
class Device {
 public:
  virtual ~Device() = default;

  virtual absl::string_view name() const = 0;  // "cpu (avx512)"

  // For work that comes again. The device outlives it.
  virtual std::unique_ptr<WorkReplayer> MakeReplayer() { return std::make_unique<WorkReplayer>(); }

  // RESOURCE_EXHAUSTED when the memory is not there. Contents are undefined.
  virtual absl::StatusOr<std::unique_ptr<DeviceMemory>> Allocate(size_t bytes) = 0;
  virtual absl::Status Upload(absl::Span<const uint8_t> host, void* device) = 0;
  virtual absl::Status Download(const void* device, absl::Span<uint8_t> host) = 0;
  virtual absl::Status Synchronize() = 0;

  // One weight out of row blocks on top of each other (q, k and v; gate and up), which may differ
  // in type but not in in_features. Reads the sources once and keeps no reference to them.
  virtual absl::StatusOr<std::unique_ptr<Weight>> PrepareWeight(
      absl::Span<const WeightSource> sources) = 0;

  // Of every ProductInput.
  virtual NumberType input_type() const { return NumberType::kF32; }

  // y[m, out] (+)= x[m, in] · Wᵀ (+ bias[out], may be null). Rows of x lie one behind the other,
  // but for kF32.
  virtual absl::Status MatMul(const Weight& weight, ProductInput x, const float* bias,
                              MatMulMode mode, Tensor y) = 0;

  // out[m, hidden] = scale · row ids[i] of the table.
  virtual absl::Status EmbeddingLookup(const WeightSource& table, absl::Span<const int32_t> ids,
                                       float scale, Tensor out) = 0;

  // out[m, n] = x / rms(x) · weight[n].
  virtual absl::Status RmsNorm(Tensor x, const float* weight, float eps, ProductInput out) = 0;

  // x[m, n] += rms_norm(y[m, n]) · weight[n]: gemma3's norms after a block.
  virtual absl::Status AddRmsNorm(Tensor y, const float* weight, float eps, Tensor x) = 0;

  // out[m, head_dim] = cosines, then sines, of the angle of every rotated pair at positions[m]; once
  // per Step and RopeConfig, for all layers. The positions are those that PrepareStep was told of;
  // where the Step's tensors have more rows, so has `out`.
  virtual absl::Status RopeAngles(absl::Span<const int32_t> positions, const RopeConfig& rope,
                                  Tensor out) = 0;

  // out[m, n] = activation(gate) · up, gate_up[m, 2 n].
  virtual absl::Status GatedActivation(Tensor gate_up, Activation activation, ProductInput out) = 0;

  // The arena of key and value pages; see kv_arena.h.
  virtual absl::StatusOr<std::unique_ptr<KvArena>> AllocateKvArena(const KvArenaSpec& spec) = 0;
  // Before the first of a Step's layers, once for all layers: a device with a memory of its own
  // brings there what has changed of the page tables. Holds until the next call.
  virtual absl::Status PrepareStep(const StepBatch& step) { return absl::OkStatus(); }
  // Turns q and k heads of qkv[m, shape.qkv_cols()], q in place, and stores k and v of all rows of the
  // batch as the last entries of their heads' pages. k is then undefined.
  virtual absl::Status RotateAndAppendKv(Tensor qkv, const HeadShape& shape,
                                         const HeadRotation& rotation,
                                         absl::Span<const int32_t> positions,
                                         const AttentionBatch& batch, KvArena& arena) = 0;
  // out[m, num_heads · head_dim]: every query over its KV head's pages (they have come there before).
  virtual absl::Status Attention(Tensor qkv, const HeadShape& shape, const AttentionBatch& batch,
                                 const KvArena& arena, ProductInput out) = 0;
  // Copies whole pages: a fork's last partial page.
  virtual absl::Status CopyPages(KvArena& arena, absl::Span<const PageCopy> copies) = 0;

  // Copies queries[m, n] to where rows[] are kept in layer `layer` of those that the device was
  // told of by PrepareStep, as it was of these rows.
  virtual absl::Status KeepRows(Tensor queries, absl::Span<const KeptRow> rows, int layer) = 0;

  // What eviction is made of; see window_scores.h. Results are in the host's memory, and there when
  // the operation returns.
  virtual absl::Status WindowScores(const HeadShape& shape, const WindowScoreRequest& request,
                                    const KvArena& arena) = 0;
  // norms[heads, stride]: ‖v‖₂ of every head's entries, of which none has more than `stride`.
  virtual absl::Status ValueNorms(absl::Span<const HeadPages> heads, int stride,
                                  const KvArena& arena, float* norms) = 0;
  virtual absl::Status GatherEntries(absl::Span<const GatherRequest> requests, KvArena& arena) = 0;
  // Where scores need not come to the host to be chosen by; null: the device has no such ability.
  virtual EntryChooser* chooser() { return nullptr; }

  // One token per request, of logits[m, vocab]; see sampling.h. Results are there after
  // Synchronize, which also tells when a row had nothing to choose; until then the caller keeps
  // them in place.
  virtual absl::Status Sample(Tensor logits, absl::Span<const SampleRequest> requests,
                              absl::Span<SampleResult> results) = 0;
};

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_DEVICE_H_
