#include "coordinator/cluster/worker_memory.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/model/tensor_requirements.h"
#include "common/status_macros.h"
#include "coordinator/scheduler/page_demand.h"

namespace kvec::coordinator::cluster {
namespace {

constexpr uint64_t kFloatBytes = 4;
constexpr uint64_t kLogitRows = 64;  // computed at a time
// What both are rounded up to where weights have 8 bits.
constexpr uint64_t kEightBitFeatures = 16;
constexpr uint64_t kEightBitRows = 32;
// cuBLASLt's, and the splits of decode attention.
constexpr uint64_t kProductWorkspaceBytes = uint64_t{32} << 20;
constexpr uint64_t kSplitBytes = uint64_t{64} << 20;
// What Steps bring to the GPU, hidden states aside.
constexpr uint64_t kUploadBytes = uint64_t{4} << 20;
// Queries that are kept of every layer of a prompt that is to be evicted from, and prompts at once.
constexpr uint64_t kWindowQueries = 32;
constexpr uint64_t kPromptsAtOnce = 4;
// Scores of an eviction by kvec-paper, which has more of them than other policies: means over two
// windows of each query head, maxima over the queries of the focus window of each KV head.
constexpr uint64_t kScoreWindows = 2;
constexpr uint64_t kFocusWindow = 16;
constexpr uint64_t kPositionBytes = 4;  // of each entry
// Of each page in a table: its id; tables have room to grow, and so has what they are cut from.
constexpr uint64_t kTableBytes = 4 * 4;

bool IsLayers(const v1::Placement& placement, absl::string_view name, absl::string_view& part) {
  if (!absl::ConsumePrefix(&name, "blk.")) return false;
  uint64_t layer = 0;
  while (!name.empty() && name.front() >= '0' && name.front() <= '9') {
    layer = layer * 10 + static_cast<uint64_t>(name.front() - '0');
    name.remove_prefix(1);
  }
  part = name.substr(1);
  return layer >= placement.first_layer() &&
         layer < uint64_t{placement.first_layer()} + placement.num_layers();
}

// What a rank holds of a layer's tensor.
std::vector<int64_t> HeldShape(absl::string_view part, std::vector<int64_t> shape,
                               const RankShare& share, int head_dim) {
  if (absl::StartsWith(part, "attn_q.")) {
    shape[0] = int64_t{share.heads.count} * head_dim;
  } else if (absl::StartsWith(part, "attn_k.") || absl::StartsWith(part, "attn_v.")) {
    shape[0] = int64_t{share.kv_heads.count} * head_dim;
  } else if (part == "attn_output.weight") {
    shape[1] = share.attention_output.stored.count;
  } else if (part == "ffn_gate.weight" || part == "ffn_up.weight") {
    shape[0] = share.mlp.held.count;
  } else if (part == "ffn_down.weight") {
    shape[1] = share.mlp.stored.count;
  }
  return shape;
}

uint64_t DeviceBytes(const std::vector<int64_t>& shape, TensorType type) {
  if (shape.size() == 1) return kFloatBytes * static_cast<uint64_t>(shape[0]);
  const TensorTypeTraits& traits = GetTraits(type);
  const auto cols = static_cast<uint64_t>(shape[1]);
  const uint64_t blocks = (cols + traits.block_elements - 1) / traits.block_elements;
  return static_cast<uint64_t>(shape[0]) * blocks * traits.block_bytes;
}

// Of a key, or of a value: kernels/kv_arena.h. int8 has an f16 scale.
uint64_t EntryBytes(HeldKv type, uint64_t head_dim) {
  switch (type) {
    case HeldKv::kInt8:
      return head_dim + 2;
    case HeldKv::kF32:
      return 4 * head_dim;
    case HeldKv::kF16:
    case HeldKv::kBF16:
      break;
  }
  return 2 * head_dim;
}

bool IsEightBit(HeldWeights weights) {
  return weights == HeldWeights::kInt8 || weights == HeldWeights::kFp8;
}

// Of a number that weights are multiplied with: kernels/device.h's input_type().
uint64_t InputBytes(HeldWeights weights) {
  return weights == HeldWeights::kBF16 || weights == HeldWeights::kQ4 ? 2 : kFloatBytes;
}

struct HeldTensor {
  std::string name;
  std::string matrix;          // of which it is a part
  std::vector<int64_t> shape;  // of the rank's share
};

// Queries, keys and values are one matrix, as are gate and up.
std::string MatrixOf(absl::string_view tensor, absl::string_view part) {
  for (absl::string_view stacked : {"attn_q.", "attn_k.", "attn_v.", "ffn_gate.", "ffn_up."}) {
    if (!absl::StartsWith(part, stacked)) continue;
    return absl::StrCat(tensor.substr(0, tensor.size() - part.size()), part.substr(0, 4));
  }
  return std::string(tensor);
}

// worker/model/model_weights.cc. The embedding table stays in the file.
std::vector<HeldTensor> HeldTensors(const ModelConfig& config, const WorkerMemory& worker) {
  const bool is_last = worker.placement.first_layer() + worker.placement.num_layers() ==
                       static_cast<uint32_t>(config.num_layers);
  std::vector<HeldTensor> held;
  for (const TensorRequirement& tensor : RequiredTensors(config)) {
    absl::string_view part;
    if (IsLayers(worker.placement, tensor.name, part)) {
      held.push_back({tensor.name, MatrixOf(tensor.name, part),
                      HeldShape(part, tensor.shape, worker.share, config.head_dim)});
    } else if (is_last && tensor.name == "output_norm.weight") {
      held.push_back({tensor.name, tensor.name, tensor.shape});
    } else if (is_last && tensor.name == (config.tie_word_embeddings ? "token_embd.weight"
                                                                     : "output.weight")) {
      held.push_back({tensor.name, tensor.name, {worker.share.vocabulary.count, tensor.shape[1]}});
    }
  }
  return held;
}

uint64_t RoundUpToMultiple(uint64_t number, uint64_t of) { return (number + of - 1) / of * of; }

// kernels/cuda/cuda_weight.cc: features are rounded up, and a row has a scale.
uint64_t EightBitBytes(uint64_t rows, uint64_t cols) {
  return RoundUpToMultiple(rows, kEightBitFeatures) * RoundUpToMultiple(cols, kEightBitFeatures) +
         kFloatBytes * rows;
}

uint64_t WeightBytes(const ModelOutline& outline, const WorkerMemory& worker, HeldWeights weights) {
  uint64_t bytes = 0;
  std::map<std::string, std::pair<uint64_t, uint64_t>> matrices;  // rows and cols
  for (const HeldTensor& tensor : HeldTensors(outline.config, worker)) {
    if (tensor.shape.size() == 2 && IsEightBit(weights)) {
      auto& [rows, cols] = matrices[tensor.matrix];
      rows += static_cast<uint64_t>(tensor.shape[0]);
      cols = static_cast<uint64_t>(tensor.shape[1]);
      continue;
    }
    const TensorType missing = MissingWeightType(weights);
    bytes += DeviceBytes(tensor.shape, weights == HeldWeights::kInFiles
                                           ? outline.TypeOf(tensor.name, missing)
                                           : missing);
  }
  for (const auto& [name, size] : matrices) bytes += EightBitBytes(size.first, size.second);
  return bytes;
}

// worker/model/transformer.cc.
uint64_t ActivationBytes(const ModelConfig& config, const WorkerMemory& worker,
                         const MemoryOptions& options) {
  const RankShare& share = worker.share;
  const uint64_t qkv_heads =
      static_cast<uint64_t>(share.heads.count) + 2 * static_cast<uint64_t>(share.kv_heads.count);
  const auto head_dim = static_cast<uint64_t>(config.head_dim);
  const auto hidden = static_cast<uint64_t>(config.hidden_size);
  const uint64_t row_floats = (config.has_post_norms ? 2 : 1) * hidden + qkv_heads * head_dim +
                              2 * static_cast<uint64_t>(share.mlp.held.count) + 2 * head_dim;
  const uint64_t row_inputs = hidden + static_cast<uint64_t>(share.attention_output.stored.count) +
                              static_cast<uint64_t>(share.mlp.stored.count);
  uint64_t floats = options.step_tokens * row_floats;
  if (worker.placement.stage() + 1 == worker.placement.num_stages()) {
    floats += kLogitRows *
              static_cast<uint64_t>(share.rank == 0 ? config.vocab_size : share.vocabulary.count);
  }
  return kFloatBytes * floats + InputBytes(options.weights) * options.step_tokens * row_inputs;
}

// Attention of prompts before it is rounded; of 8 bits x as products take it, and the sums that
// they leave: kernels/cuda/scaled_product.cc.
uint64_t ScratchBytes(const ModelConfig& config, const WorkerMemory& worker,
                      const MemoryOptions& options) {
  const RankShare& share = worker.share;
  const auto hidden = static_cast<uint64_t>(config.hidden_size);
  const auto attention = static_cast<uint64_t>(share.attention_output.stored.count);
  const auto mlp = static_cast<uint64_t>(share.mlp.stored.count);
  if (!IsEightBit(options.weights)) {
    return kFloatBytes * options.step_tokens * attention;
  }
  const auto row_bytes = [](uint64_t in_features, uint64_t out_features) {
    return RoundUpToMultiple(in_features, kEightBitFeatures) +
           kFloatBytes * (1 + RoundUpToMultiple(out_features, kEightBitFeatures));
  };
  const uint64_t qkv =
      (static_cast<uint64_t>(share.heads.count) + 2 * static_cast<uint64_t>(share.kv_heads.count)) *
      static_cast<uint64_t>(config.head_dim);
  const uint64_t of_layers =
      std::max({row_bytes(hidden, qkv), row_bytes(attention, hidden), row_bytes(mlp, hidden),
                row_bytes(hidden, 2 * static_cast<uint64_t>(share.mlp.held.count))});
  return std::max(RoundUpToMultiple(options.step_tokens, kEightBitRows) * of_layers,
                  kLogitRows * row_bytes(hidden, static_cast<uint64_t>(share.vocabulary.count)));
}

// kernels/cuda/cuda_entry_chooser.cc, and window_scores.cu's workspace. What is chosen is left out:
// it is little beside them.
uint64_t ScoreBytes(const ModelConfig& config, const WorkerMemory& worker,
                    const MemoryOptions& options) {
  const RankShare& share = worker.share;
  const auto heads = static_cast<uint64_t>(share.heads.count);
  const auto kv_heads = static_cast<uint64_t>(share.kv_heads.count);
  const auto all_kv_heads = static_cast<uint64_t>(config.num_kv_heads);
  const auto num_ranks = static_cast<uint64_t>(worker.placement.num_ranks());
  const uint64_t joined_rows = kScoreWindows * all_kv_heads + kFocusWindow;
  // Floats of each token. Two layers at a time have means, scores and focus.
  uint64_t floats = 2 * (kScoreWindows * heads + all_kv_heads + 1) + kFocusWindow * kv_heads;
  // Rows that are exchanged: of KV heads, or of query heads where ranks share a KV head.
  floats += num_ranks == 1 ? joined_rows
                           : num_ranks * (kScoreWindows * heads + kFocusWindow) + joined_rows;
  // Begins of spans, what coverage raises scores by in double precision, and bitmaps of 32 tokens.
  floats += 3 + (2 * all_kv_heads + 32) / 32;
  // The softmax of each query over parts of 16 entries: a maximum and a sum.
  floats += 2 * heads * kWindowQueries / 16;
  return kFloatBytes * options.context_tokens * floats;
}

// kernels/cuda, and worker/cache/query_window.h.
uint64_t WorkspaceBytes(const ModelConfig& config, const WorkerMemory& worker,
                        const MemoryOptions& options) {
  const RankShare& share = worker.share;
  const auto heads = static_cast<uint64_t>(share.heads.count);
  // Embeddings come from the host's memory; what Steps bring has room for twice as much.
  const uint64_t upload = kUploadBytes + 2 * kFloatBytes * options.step_tokens *
                                             static_cast<uint64_t>(config.hidden_size);
  const uint64_t sampling = kFloatBytes * kLogitRows * static_cast<uint64_t>(config.vocab_size);
  const uint64_t query_windows = kFloatBytes * kPromptsAtOnce * kWindowQueries *
                                 worker.placement.num_layers() * heads *
                                 static_cast<uint64_t>(config.head_dim);
  return kProductWorkspaceBytes + kSplitBytes + upload + ScratchBytes(config, worker, options) +
         sampling + ScoreBytes(config, worker, options) + query_windows;
}

}  // namespace

TensorType MissingWeightType(HeldWeights weights) {
  return weights == HeldWeights::kQ4 ? TensorType::kQ4_0 : TensorType::kBF16;
}

absl::StatusOr<WorkerMemory> MeasureWorker(const ModelOutline& outline,
                                           const v1::Placement& placement,
                                           const MemoryOptions& options) {
  const ModelConfig& config = outline.config;
  const TensorType stored = MissingWeightType(options.weights);
  WorkerMemory worker;
  worker.placement = placement;
  KVEC_ASSIGN_OR_RETURN(worker.share, ShareOfRank(config, OutlineBlocks(outline, stored),
                                                  static_cast<int>(placement.rank()),
                                                  static_cast<int>(placement.num_ranks())));
  worker.weight_bytes = WeightBytes(outline, worker, options.weights);
  worker.activation_bytes = ActivationBytes(config, worker, options);
  worker.workspace_bytes = WorkspaceBytes(config, worker, options);
  worker.reserve_bytes = options.reserve_bytes;
  worker.page_bytes = 2 * uint64_t{scheduler::kPageTokens} *
                      EntryBytes(options.kv_type, static_cast<uint64_t>(config.head_dim));
  const uint64_t stored_page_bytes =
      worker.page_bytes + uint64_t{scheduler::kPageTokens} * kPositionBytes;
  const uint64_t beside = worker.bytes_beside_arena();
  worker.num_pages = beside < options.gpu_bytes
                         ? (options.gpu_bytes - beside) / (stored_page_bytes + kTableBytes)
                         : 0;
  worker.workspace_bytes += worker.num_pages * kTableBytes;
  worker.arena_bytes = worker.num_pages * stored_page_bytes;
  return worker;
}

}  // namespace kvec::coordinator::cluster
