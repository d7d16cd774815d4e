// Memory, weights and what happens to rows. What concerns the KV cache is in cuda_device_cache.cc.

#include "kernels/cuda/cuda_device.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/tensor/dequantize.h"
#include "kernels/cuda/cuda_entry_chooser.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/gated_activation.h"
#include "kernels/cuda/graph_replayer.h"
#include "kernels/cuda/rms_norm.h"
#include "kernels/cuda/rope.h"
#include "kernels/cuda/scaled_product.h"
#include "kernels/sample_request_check.h"
#include "kernels/weight_source.h"

namespace kvec::kernels::cuda {
namespace {

constexpr size_t kSampleWords = size_t{16} << 10;  // of most batches

template <typename Matrix>
absl::Status CheckSameShape(absl::string_view operation, Tensor a, Matrix b) {
  if (a.rows == b.rows && a.cols == b.cols) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(operation, ": shapes differ: [", a.rows, ", ", a.cols,
                                          "] and [", b.rows, ", ", b.cols, "]"));
}

// Of the card's tensor cores.
absl::Status CheckCapability(const cudaDeviceProp& properties, WeightType type) {
  const int capability = 10 * properties.major + properties.minor;
  const int needed = type == WeightType::kFp8 ? 89 : type == WeightType::kInt8 ? 75 : 0;
  if (capability >= needed) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "weights in ", WeightTypeName(type), " need compute capability ", needed / 10, ".",
      needed % 10, ", ", properties.name, " has ", properties.major, ".", properties.minor));
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaDevice>> CudaDevice::Create(const Options& options) {
  int num_devices = 0;
  KVEC_RETURN_IF_ERROR(ToStatus(cudaGetDeviceCount(&num_devices), "counting GPUs"));
  if (options.index < 0 || options.index >= num_devices) {
    return absl::InvalidArgumentError(
        absl::StrCat("GPU ", options.index, ": this machine has ", num_devices));
  }
  KVEC_RETURN_IF_ERROR(ToStatus(cudaSetDevice(options.index), "choosing a GPU"));
  cudaDeviceProp properties;
  KVEC_RETURN_IF_ERROR(
      ToStatus(cudaGetDeviceProperties(&properties, options.index), "asking the GPU's name"));
  KVEC_RETURN_IF_ERROR(CheckCapability(properties, options.weight_type));
  cudaStream_t stream = nullptr;
  KVEC_RETURN_IF_ERROR(
      ToStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream"));
  auto device = std::unique_ptr<CudaDevice>(new CudaDevice(properties, options, stream));
  KVEC_ASSIGN_OR_RETURN(device->product_, CreateDenseProduct(stream, options.product_mode));
  return device;
}

CudaDevice::CudaDevice(const cudaDeviceProp& properties, const Options& options,
                       cudaStream_t stream)
    : name_(absl::StrCat("cuda (", properties.name, ")")),
      weight_type_(options.weight_type),
      stream_(stream),
      use_graphs_(options.use_graphs),
      may_use_wgmma_(options.use_wgmma && properties.major == 9 && properties.minor == 0),
      sample_graphs_(stream, options.use_graphs, graph_counts_),
      uploader_(stream),
      step_tables_(stream, uploader_),
      frequencies_(stream),
      chooser_(std::make_unique<CudaEntryChooser>(*this)) {}

EntryChooser* CudaDevice::chooser() { return chooser_.get(); }

CudaDevice::~CudaDevice() {
  (void)cudaStreamSynchronize(stream_);
  (void)cudaStreamDestroy(stream_);
}

std::unique_ptr<WorkReplayer> CudaDevice::MakeReplayer() {
  return std::make_unique<GraphReplayer>(stream_, use_graphs_, step_tables_, graph_counts_);
}

absl::StatusOr<uint64_t> CudaDevice::FreeBytes() const {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  KVEC_RETURN_IF_ERROR(
      ToStatus(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for the GPU's free memory"));
  return free_bytes;
}

absl::StatusOr<std::unique_ptr<DeviceMemory>> CudaDevice::Allocate(size_t bytes) {
  return CudaBuffer::Allocate(bytes);
}

absl::Status CudaDevice::Upload(absl::Span<const uint8_t> host, void* device) {
  return ToStatus(
      cudaMemcpyAsync(device, host.data(), host.size(), cudaMemcpyHostToDevice, stream_), "upload");
}

absl::Status CudaDevice::Download(const void* device, absl::Span<uint8_t> host) {
  KVEC_RETURN_IF_ERROR(
      ToStatus(cudaMemcpyAsync(host.data(), device, host.size(), cudaMemcpyDeviceToHost, stream_),
               "download"));
  return Synchronize();
}

absl::Status CudaDevice::Synchronize() {
  const absl::Status status = ToStatus(cudaStreamSynchronize(stream_), "waiting for the GPU");
  if (!status.ok()) {
    pending_samples_.clear();
    return status;
  }
  KVEC_RETURN_IF_ERROR(uploader_.Reset());
  return FinishSamples();
}

absl::Status CudaDevice::FinishSamples() {
  absl::Status status;
  for (const PendingSample& sample : pending_samples_) {
    status.Update(sample.batch.Finish(sample.outputs, sample.top, sample.results));
  }
  pending_samples_.clear();
  downloads_.Reset();
  return status;
}

absl::StatusOr<std::unique_ptr<Weight>> CudaDevice::PrepareWeight(
    absl::Span<const WeightSource> sources) {
  return CudaWeight::Create(sources, weight_type_, stream_);
}

NumberType CudaDevice::input_type() const {
  // Numbers of 8 bits need their row's largest first.
  return weight_type_ == WeightType::kBF16 ? NumberType::kBF16 : NumberType::kF32;
}

absl::Status CudaDevice::MatMul(const Weight& weight, ProductInput x, const float* bias,
                                MatMulMode mode, Tensor y) {
  if (x.cols != weight.in_features() || y.cols != weight.out_features() || x.rows != y.rows ||
      x.type != input_type() || (x.type != NumberType::kF32 && x.stride != x.cols)) {
    return absl::InternalError(
        absl::StrCat("matmul: x [", x.rows, ", ", x.cols, "] of ", NumberBytes(x.type),
                     " bytes, stride ", x.stride, ", weight [", weight.out_features(), ", ",
                     weight.in_features(), "], y [", y.rows, ", ", y.cols, "]"));
  }
  if (x.rows == 0) return absl::OkStatus();
  const auto& held = static_cast<const CudaWeight&>(weight);
  if (held.type() != WeightType::kBF16) {
    return MultiplyScaled(stream_, held, x.tensor(), bias, mode, y, *product_, scaled_input_);
  }
  return product_->Multiply({.weight = static_cast<const __nv_bfloat16*>(held.numbers()),
                             .x = static_cast<const __nv_bfloat16*>(x.data),
                             .in_features = x.cols,
                             .bias = bias,
                             .mode = mode,
                             .y = y});
}

// The table stays in the file, in the host's memory: a row is decoded there, and what crosses the
// bus is as much as any Step's page tables.
absl::Status CudaDevice::EmbeddingLookup(const WeightSource& table, absl::Span<const int32_t> ids,
                                         float scale, Tensor out) {
  KVEC_RETURN_IF_ERROR(CheckWeightSource(table));
  if (out.rows != static_cast<int64_t>(ids.size()) || out.cols != table.in_features) {
    return absl::InvalidArgumentError(absl::StrCat("embedding: ", ids.size(), " ids of ",
                                                   table.in_features, " numbers into a tensor [",
                                                   out.rows, ", ", out.cols, "]"));
  }
  if (ids.empty()) return absl::OkStatus();
  const size_t row_bytes = RowBytes(table.type, table.in_features);
  const auto cols = static_cast<size_t>(out.cols);
  std::vector<float> rows(ids.size() * cols);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= table.num_rows) {
      return absl::InvalidArgumentError(
          absl::StrCat("embedding: id ", ids[i], " of a table with ", table.num_rows, " rows"));
    }
    const absl::Span<float> row = absl::MakeSpan(rows).subspan(i * cols, cols);
    Dequantize(table.type, table.data.subspan(row_bytes * static_cast<size_t>(ids[i]), row_bytes),
               row);
    for (float& value : row) value *= scale;
  }
  return uploader_.UploadRowsTo(rows, out);
}

absl::Status CudaDevice::RmsNorm(Tensor x, const float* weight, float eps, ProductInput out) {
  KVEC_RETURN_IF_ERROR(CheckSameShape("rms_norm", x, out));
  if (x.rows == 0) return absl::OkStatus();
  return ToStatus(cuda::RmsNorm(stream_, x, weight, eps, out), "rms_norm");
}

absl::Status CudaDevice::AddRmsNorm(Tensor y, const float* weight, float eps, Tensor x) {
  KVEC_RETURN_IF_ERROR(CheckSameShape("add_rms_norm", y, x));
  if (x.rows == 0) return absl::OkStatus();
  return ToStatus(cuda::AddRmsNorm(stream_, y, weight, eps, x), "add_rms_norm");
}

// The positions have come to the GPU with the Step.
absl::Status CudaDevice::RopeAngles(absl::Span<const int32_t> positions, const RopeConfig& rope,
                                    Tensor out) {
  if (out.cols % 2 != 0 || positions.size() > static_cast<size_t>(out.rows) ||
      out.rows > step_tables_.num_positions()) {
    return absl::InternalError(absl::StrCat("rope_angles: ", positions.size(), " positions for [",
                                            out.rows, ", ", out.cols, "], the Step has ",
                                            step_tables_.num_positions()));
  }
  if (out.rows == 0) return absl::OkStatus();
  KVEC_ASSIGN_OR_RETURN(const double* const frequencies, frequencies_.Get(rope, out.cols / 2));
  return ToStatus(cuda::RopeAngles(stream_, step_tables_.positions(), frequencies, out),
                  "rope_angles");
}

absl::Status CudaDevice::GatedActivation(Tensor gate_up, Activation activation, ProductInput out) {
  if (gate_up.rows != out.rows || gate_up.cols != 2 * out.cols) {
    return absl::InternalError(absl::StrCat("gated_activation: [", gate_up.rows, ", ", gate_up.cols,
                                            "] does not give [", out.rows, ", ", out.cols, "]"));
  }
  if (out.rows == 0) return absl::OkStatus();
  return ToStatus(cuda::GatedActivation(stream_, gate_up, activation, out), "gated_activation");
}

absl::Status CudaDevice::Sample(Tensor logits, absl::Span<const SampleRequest> requests,
                                absl::Span<SampleResult> results) {
  if (requests.size() != results.size()) {
    return absl::InternalError(
        absl::StrCat("sample: ", requests.size(), " requests, ", results.size(), " results"));
  }
  if (requests.empty()) return absl::OkStatus();
  for (const SampleRequest& request : requests) {
    KVEC_RETURN_IF_ERROR(CheckSampleRequest(request, logits.rows, logits.cols));
  }
  SampleBatch batch(requests, GraphCache::PaddedRows(static_cast<int>(requests.size())));
  const auto num_tasks = static_cast<size_t>(batch.num_tasks());
  const size_t num_top = num_tasks * static_cast<size_t>(batch.max_logprobs());
  const size_t num_adjusted =
      batch.adjusts_logits() ? num_tasks * static_cast<size_t>(logits.cols) : 0;
  const size_t result_bytes = num_tasks * sizeof(SampleOutput) + num_top * sizeof(ScoredToken);
  KVEC_ASSIGN_OR_RETURN(uint8_t* const scratch,
                        results_.Reserve<uint8_t>(result_bytes + num_adjusted * sizeof(float)));
  KVEC_ASSIGN_OR_RETURN(
      int32_t* const words,
      sample_words_.Reserve<int32_t>(std::max(kSampleWords, std::bit_ceil(batch.words().size()))));
  KVEC_RETURN_IF_ERROR(uploader_.UploadTo(batch.words(), words));
  SampleArguments arguments = batch.View(words);
  arguments.logits = logits;
  arguments.outputs = reinterpret_cast<SampleOutput*>(scratch);
  arguments.top = reinterpret_cast<ScoredToken*>(arguments.outputs + num_tasks);
  arguments.adjusted = reinterpret_cast<float*>(arguments.top + num_top);
  KVEC_RETURN_IF_ERROR(
      sample_graphs_.Run({batch.num_tasks(), batch.max_logprobs(), batch.adjusts_logits() ? 1 : 0,
                          reinterpret_cast<int64_t>(logits.data), logits.stride, logits.cols},
                         [&] { return ToStatus(cuda::Sample(stream_, arguments), "sample"); }));
  KVEC_ASSIGN_OR_RETURN(uint8_t* const host, downloads_.Allocate(result_bytes));
  KVEC_RETURN_IF_ERROR(ToStatus(
      cudaMemcpyAsync(host, scratch, result_bytes, cudaMemcpyDeviceToHost, stream_), "sample"));
  const auto* const outputs = reinterpret_cast<const SampleOutput*>(host);
  const auto* const top = reinterpret_cast<const ScoredToken*>(outputs + num_tasks);
  pending_samples_.push_back({std::move(batch), {outputs, num_tasks}, {top, num_top}, results});
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cuda
