// The part of CudaDevice that concerns the KV cache.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "kernels/attention_checks.h"
#include "kernels/cuda/append_kv.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_kv_arena.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/gather_entries.h"
#include "kernels/cuda/keep_rows.h"
#include "kernels/cuda/prefill_attention.h"
#include "kernels/cuda/value_norms.h"
#include "kernels/cuda/wgmma_check.h"
#include "kernels/cuda/wgmma_prefill.h"
#include "kernels/cuda/window_scores.h"

namespace kvec::kernels::cuda {
namespace {

constexpr float kLog2E = 1.4426950408889634f;
constexpr int kMaxGroup = 16;

// Of decode attention: the splits of as many rows as fit are worked on at once.
constexpr size_t kSplitFloats = size_t{16} << 20;

KvPages PagesOf(const KvArena& arena) { return static_cast<const CudaKvArena&>(arena).pages(); }

absl::Status CheckPage(int32_t page, const KvArena& arena) {
  if (page >= 0 && page < arena.spec().num_pages) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("page: ", page, " is not among the arena's ", arena.spec().num_pages));
}

absl::Status CheckWindowRequest(const HeadShape& shape, const WindowScoreRequest& request) {
  const auto num_kv_heads = static_cast<size_t>(shape.num_kv_heads);
  const int max_window = request.windows.empty()
                             ? 0
                             : *std::max_element(request.windows.begin(), request.windows.end());
  if (request.heads.size() == num_kv_heads && request.num_candidates.size() == num_kv_heads &&
      request.num_visible.size() == num_kv_heads * static_cast<size_t>(request.num_queries) &&
      request.num_queries >= 1 && request.num_queries <= request.queries.rows &&
      std::max(max_window, request.focus_window) <= request.num_queries) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("window scores: ", request.num_queries, " queries of ",
                                          request.queries.rows, " rows, windows up to ", max_window,
                                          ", ", request.heads.size(), " heads, ",
                                          request.num_visible.size(), " num_visible, ",
                                          request.num_candidates.size(), " num_candidates"));
}

// What of a request needs no memory of the GPU.
WindowScoreArguments ArgumentsOf(const HeadShape& shape, const WindowScoreRequest& request,
                                 const KvArena& arena) {
  WindowScoreArguments arguments;
  arguments.queries = request.queries;
  arguments.first_query = request.first_query;
  arguments.num_queries = request.num_queries;
  arguments.shape = shape;
  arguments.log2_scale = request.scale * kLog2E;
  arguments.kv = PagesOf(arena);
  for (const HeadPages& head : request.heads) {
    arguments.max_entries = std::max(arguments.max_entries, head.num_entries);
  }
  for (const int32_t candidates : request.num_candidates) {
    arguments.max_candidates = std::max(arguments.max_candidates, candidates);
  }
  arguments.stride = request.stride;
  arguments.num_windows = static_cast<int>(request.windows.size());
  arguments.focus_window = request.focus_window;
  return arguments;
}

// Copies means and maxima where the request wants them, but nothing behind a head's candidates.
void CopyCandidates(const HeadShape& shape, const WindowScoreRequest& request,
                    absl::Span<const float> means, absl::Span<const float> maxima) {
  const auto stride = static_cast<size_t>(request.stride);
  const auto copy_row = [&](absl::Span<const float> from, size_t row, size_t kv_head, float* to) {
    std::copy_n(from.data() + row * stride, request.num_candidates[kv_head], to + row * stride);
  };
  for (size_t row = 0; row * stride < means.size(); ++row) {
    const int head = static_cast<int>(row) % shape.num_heads;
    copy_row(means, row, static_cast<size_t>(shape.KvHeadOf(head)), request.means);
  }
  for (size_t row = 0; row * stride < maxima.size(); ++row) {
    copy_row(maxima, row, row / static_cast<size_t>(request.focus_window), request.maxima);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvArena>> CudaDevice::AllocateKvArena(const KvArenaSpec& spec) {
  KVEC_ASSIGN_OR_RETURN(const bool use_wgmma, TryWgmma(spec));
  return CudaKvArena::Create(spec, use_wgmma);
}

absl::StatusOr<bool> CudaDevice::TryWgmma(const KvArenaSpec& spec) {
  if (!may_use_wgmma_ || !CanPrefillByWgmma(spec.type, spec.head_dim)) return false;
  const absl::Status check = CheckWgmma(stream_, spec.type, spec.head_dim);
  if (check.ok()) return true;
  (void)cudaGetLastError();
  KVEC_RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(stream_),
                                "trying prefill attention by wgmma, without which the GPU works"));
  LOG(WARNING) << name_ << ": no prefill attention by wgmma, but the slower by mma.sync: "
               << check.message();
  return false;
}

absl::Status CudaDevice::PrepareStep(const StepBatch& step) {
  if (step.layers.empty()) return absl::InternalError("step: no layers");
  const auto num_positions = static_cast<int64_t>(step.positions.size());
  for (const AttentionSequence& sequence : step.layers[0].sequences) {
    if (int64_t{sequence.row_begin} + sequence.num_rows > num_positions) {
      return absl::InternalError(absl::StrCat("step: ", num_positions, " positions, rows ",
                                              sequence.row_begin, " + ", sequence.num_rows));
    }
  }
  return step_tables_.Prepare(step);
}

absl::StatusOr<PagedBatch> CudaDevice::Prepared(const AttentionBatch& batch,
                                                absl::Span<const int32_t> positions) {
  if (batch.prepared_index < 0) {
    KVEC_RETURN_IF_ERROR(step_tables_.Prepare({absl::MakeConstSpan(&batch, 1), positions}));
    return step_tables_.Layer(0);
  }
  if (step_tables_.Has(batch)) return step_tables_.Layer(batch.prepared_index);
  return absl::InternalError(absl::StrCat("attention: layer ", batch.prepared_index,
                                          " with sequences ", batch.sequences.size(),
                                          " is not of the Step that was prepared"));
}

absl::StatusOr<PagedBatch> CudaDevice::UploadHeads(absl::Span<const HeadPages> heads) {
  const AttentionSequence sequence{.heads = heads};
  const FlatBatch batch({.sequences = absl::MakeConstSpan(&sequence, 1)});
  KVEC_ASSIGN_OR_RETURN(const int32_t* const words, uploader_.Upload(batch.words()));
  return batch.View(words);
}

absl::Status CudaDevice::RotateAndAppendKv(Tensor qkv, const HeadShape& shape,
                                           const HeadRotation& rotation,
                                           absl::Span<const int32_t> positions,
                                           const AttentionBatch& batch, KvArena& arena) {
  KVEC_RETURN_IF_ERROR(CheckAttentionBatch(qkv, shape, batch, arena));
  const Tensor& angles = rotation.angles;
  if (angles.rows != qkv.rows || angles.cols != shape.head_dim || shape.head_dim % 2 != 0) {
    return absl::InternalError(absl::StrCat("rotate: angles [", angles.rows, ", ", angles.cols,
                                            "] of ", qkv.rows, " rows, head_dim ", shape.head_dim));
  }
  if (batch.prepared_index < 0 && positions.size() < static_cast<size_t>(qkv.rows)) {
    return absl::InternalError(
        absl::StrCat("append_kv: ", positions.size(), " positions of ", qkv.rows, " rows"));
  }
  KVEC_ASSIGN_OR_RETURN(const PagedBatch paged, Prepared(batch, positions));
  return ToStatus(cuda::RotateAndAppendKv(stream_, qkv, shape, rotation, step_tables_.positions(),
                                          paged, PagesOf(arena)),
                  "append_kv");
}

absl::Status CudaDevice::Attention(Tensor qkv, const HeadShape& shape, const AttentionBatch& batch,
                                   const KvArena& arena, ProductInput out) {
  KVEC_RETURN_IF_ERROR(CheckAttentionBatch(qkv, shape, batch, arena));
  if (out.rows != qkv.rows || out.cols != shape.num_heads * shape.head_dim) {
    return absl::InternalError(absl::StrCat("attention: out is [", out.rows, ", ", out.cols,
                                            "], not [", qkv.rows, ", ",
                                            shape.num_heads * shape.head_dim, "]"));
  }
  if (shape.group_size > kMaxGroup) {
    return absl::InvalidArgumentError(absl::StrCat("attention: groups of ", shape.group_size,
                                                   " query heads; the GPU takes up to ",
                                                   kMaxGroup));
  }
  KVEC_ASSIGN_OR_RETURN(const PagedBatch paged, Prepared(batch, {}));
  const AttentionArguments arguments{
      .qkv = qkv,
      .shape = shape,
      .sliding_window = batch.sliding_window,
      .log2_scale = batch.scale * kLog2E,
      .kv = PagesOf(arena),
      .batch = paged,
      .use_wgmma = static_cast<const CudaKvArena&>(arena).use_wgmma(),
      .out = {}};
  KVEC_RETURN_IF_ERROR(AttendPrompts(arguments, out));
  if (arguments.batch.num_decode_rows == 0) return absl::OkStatus();
  const size_t row_floats = DecodeWorkspaceFloats(shape, arguments.batch.max_decode_entries);
  const size_t wanted = row_floats * static_cast<size_t>(arguments.batch.num_decode_rows);
  const size_t split_floats = std::max(row_floats, std::min(wanted, kSplitFloats));
  KVEC_ASSIGN_OR_RETURN(float* const splits, splits_.Reserve<float>(split_floats));
  return ToStatus(DecodeAttention(stream_, arguments, out, splits, split_floats),
                  "decode attention");
}

// The kernels write float32. All rows are rounded, those of generated tokens, of zeros, before they
// are written.
absl::Status CudaDevice::AttendPrompts(AttentionArguments arguments, ProductInput out) {
  if (arguments.batch.num_prefill_tiles == 0) return absl::OkStatus();
  if (out.type == NumberType::kF32) {
    arguments.out = out.tensor();
    return ToStatus(PrefillAttention(stream_, arguments), "prefill attention");
  }
  const size_t numbers = static_cast<size_t>(out.rows) * static_cast<size_t>(out.cols);
  KVEC_ASSIGN_OR_RETURN(float* const rows, prompt_rows_.Reserve<float>(numbers));
  arguments.out = {rows, out.rows, out.cols, out.cols};
  if (arguments.batch.num_decode_rows > 0) {
    KVEC_RETURN_IF_ERROR(
        ToStatus(cudaMemsetAsync(rows, 0, numbers * sizeof(float), stream_), "prefill attention"));
  }
  KVEC_RETURN_IF_ERROR(ToStatus(PrefillAttention(stream_, arguments), "prefill attention"));
  return ToStatus(
      ToBFloat16(stream_, arguments.out, static_cast<__nv_bfloat16*>(out.data), out.stride),
      "prefill attention");
}

absl::Status CudaDevice::KeepRows(Tensor queries, absl::Span<const KeptRow> rows, int layer) {
  if (layer < 0 || layer >= step_tables_.num_layers() ||
      static_cast<int>(rows.size()) > step_tables_.num_kept_rows()) {
    return absl::InternalError(absl::StrCat("keep rows: ", rows.size(), " of layer ", layer,
                                            ", the Step has ", step_tables_.num_kept_rows(), " of ",
                                            step_tables_.num_layers(), " layers"));
  }
  if (rows.empty()) return absl::OkStatus();
  return ToStatus(cuda::KeepRows(stream_, queries, step_tables_.kept_rows(),
                                 step_tables_.num_kept_rows(), layer),
                  "keep rows");
}

absl::Status CudaDevice::CopyPages(KvArena& arena, absl::Span<const PageCopy> copies) {
  std::vector<int32_t> from;
  std::vector<int32_t> to;
  for (const PageCopy& copy : copies) {
    KVEC_RETURN_IF_ERROR(CheckPage(copy.from, arena));
    KVEC_RETURN_IF_ERROR(CheckPage(copy.to, arena));
    if (copy.from == copy.to) continue;
    from.push_back(copy.from);
    to.push_back(copy.to);
  }
  if (from.empty()) return absl::OkStatus();
  KVEC_RETURN_IF_ERROR(uploader_.Reserve(2 * from.size() * sizeof(int32_t)));
  KVEC_ASSIGN_OR_RETURN(const int32_t* const device_from,
                        uploader_.Upload(absl::MakeConstSpan(from)));
  KVEC_ASSIGN_OR_RETURN(const int32_t* const device_to, uploader_.Upload(absl::MakeConstSpan(to)));
  return ToStatus(cuda::CopyPages(stream_, device_from, device_to, static_cast<int>(from.size()),
                                  PagesOf(arena)),
                  "copy_pages");
}

absl::Status CudaDevice::UploadWindowRequest(const WindowScoreRequest& request,
                                             WindowScoreArguments& arguments) {
  const AttentionSequence sequence{.heads = request.heads};
  const FlatBatch batch({.sequences = absl::MakeConstSpan(&sequence, 1)});
  KVEC_RETURN_IF_ERROR(uploader_.Reserve((batch.words().size() + request.num_visible.size() +
                                          request.num_candidates.size() + request.windows.size()) *
                                         sizeof(int32_t)));
  KVEC_ASSIGN_OR_RETURN(const int32_t* const words, uploader_.Upload(batch.words()));
  arguments.batch = batch.View(words);
  KVEC_ASSIGN_OR_RETURN(arguments.num_visible, uploader_.Upload(request.num_visible));
  KVEC_ASSIGN_OR_RETURN(arguments.num_candidates, uploader_.Upload(request.num_candidates));
  KVEC_ASSIGN_OR_RETURN(arguments.windows, uploader_.Upload(request.windows));
  return absl::OkStatus();
}

absl::Status CudaDevice::QueueWindowScores(const HeadShape& shape,
                                           const WindowScoreRequest& request, const KvArena& arena,
                                           float* means, float* maxima, float* workspace) {
  KVEC_RETURN_IF_ERROR(CheckWindowRequest(shape, request));
  WindowScoreArguments arguments = ArgumentsOf(shape, request, arena);
  arguments.means = means;
  arguments.maxima = maxima;
  arguments.workspace = workspace;
  KVEC_RETURN_IF_ERROR(UploadWindowRequest(request, arguments));
  return ToStatus(cuda::WindowScores(stream_, arguments), "window scores");
}

absl::Status CudaDevice::WindowScores(const HeadShape& shape, const WindowScoreRequest& request,
                                      const KvArena& arena) {
  const auto stride = static_cast<size_t>(request.stride);
  const size_t focus_window =
      request.maxima == nullptr ? 0 : static_cast<size_t>(request.focus_window);
  std::vector<float> means(request.windows.size() * static_cast<size_t>(shape.num_heads) * stride);
  std::vector<float> maxima(static_cast<size_t>(shape.num_kv_heads) * focus_window * stride);
  int max_entries = 0;
  for (const HeadPages& head : request.heads) max_entries = std::max(max_entries, head.num_entries);
  const size_t workspace = WindowWorkspaceFloats(shape, request.num_queries, max_entries);
  KVEC_ASSIGN_OR_RETURN(float* const room,
                        results_.Reserve<float>(workspace + means.size() + maxima.size()));
  float* const device_means = room + workspace;
  float* const device_maxima = maxima.empty() ? nullptr : device_means + means.size();
  KVEC_RETURN_IF_ERROR(QueueWindowScores(shape, request, arena, device_means, device_maxima, room));
  KVEC_RETURN_IF_ERROR(DownloadArray(device_means, absl::MakeSpan(means)));
  KVEC_RETURN_IF_ERROR(DownloadArray(device_maxima, absl::MakeSpan(maxima)));
  CopyCandidates(shape, request, means, maxima);
  return absl::OkStatus();
}

absl::Status CudaDevice::QueueValueNorms(absl::Span<const HeadPages> heads, int stride,
                                         const KvArena& arena, float* norms) {
  KVEC_ASSIGN_OR_RETURN(const PagedBatch batch, UploadHeads(heads));
  return ToStatus(cuda::ValueNorms(stream_, batch, static_cast<int>(heads.size()), stride,
                                   PagesOf(arena), norms),
                  "value norms");
}

absl::Status CudaDevice::ValueNorms(absl::Span<const HeadPages> heads, int stride,
                                    const KvArena& arena, float* norms) {
  if (heads.empty() || stride <= 0) return absl::OkStatus();
  std::vector<float> all(heads.size() * static_cast<size_t>(stride));
  KVEC_ASSIGN_OR_RETURN(float* const device_norms, results_.Reserve<float>(all.size()));
  KVEC_RETURN_IF_ERROR(QueueValueNorms(heads, stride, arena, device_norms));
  KVEC_RETURN_IF_ERROR(DownloadArray(device_norms, absl::MakeSpan(all)));
  for (size_t head = 0; head < heads.size(); ++head) {
    const size_t begin = head * static_cast<size_t>(stride);
    std::copy_n(all.data() + begin, heads[head].num_entries, norms + begin);
  }
  return absl::OkStatus();
}

absl::Status CudaDevice::GatherEntries(absl::Span<const GatherRequest> requests, KvArena& arena) {
  if (requests.empty()) return absl::OkStatus();
  std::vector<GatherTask> tasks;
  std::vector<int32_t> words;
  const auto append = [&words](const int32_t* begin, size_t count) {
    words.insert(words.end(), begin, begin + count);
    return static_cast<int32_t>(words.size() - count);
  };
  const auto num_pages = [](size_t entries) { return (entries + kPageTokens - 1) / kPageTokens; };
  for (const GatherRequest& request : requests) {
    const size_t num_kept = request.kept.size();
    tasks.push_back(
        {append(request.head.pages, num_pages(static_cast<size_t>(request.head.num_entries))),
         append(request.kept.data(), num_kept), static_cast<int32_t>(num_kept),
         append(request.to_pages, num_pages(num_kept))});
  }
  KVEC_RETURN_IF_ERROR(
      uploader_.Reserve(tasks.size() * sizeof(GatherTask) + words.size() * sizeof(int32_t)));
  KVEC_ASSIGN_OR_RETURN(const GatherTask* const device_tasks,
                        uploader_.Upload(absl::MakeConstSpan(tasks)));
  KVEC_ASSIGN_OR_RETURN(const int32_t* const device_words,
                        uploader_.Upload(absl::MakeConstSpan(words)));
  return ToStatus(cuda::GatherEntries(stream_, device_tasks, static_cast<int>(tasks.size()),
                                      device_words, PagesOf(arena)),
                  "gather entries");
}

}  // namespace kvec::kernels::cuda
