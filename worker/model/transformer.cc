#include "worker/model/transformer.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/model/rank_peers.h"
#include "worker/trace/span_recorder.h"

namespace kvec::worker::model {

using kernels::MatMulMode;
using kernels::ProductInput;
using kernels::Tensor;
using trace::ScopedSpan;

namespace {

// The part of x[rows, columns stored] that the rank fills.
ProductInput Held(ProductInput x, const ColumnShare& columns) {
  return x.Columns(columns.offset(), columns.held.count);
}

Tensor Columns(Tensor x, IndexRange columns) {
  return {x.data + columns.begin, x.rows, columns.count, x.stride};
}

// Of whole rows.
absl::Span<uint8_t> Bytes(Tensor x) {
  return {reinterpret_cast<uint8_t*>(x.data), sizeof(float) * static_cast<size_t>(x.rows) * x.cols};
}

size_t Bytes(ProductInput x) {
  return kernels::NumberBytes(x.type) * static_cast<size_t>(x.rows) * x.cols;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(
    const ModelConfig& config, const ModelWeights& weights, const kernels::HeadShape& heads,
    kernels::Device& device, kernels::KvArena& arena, const Options& options) {
  auto transformer =
      std::unique_ptr<Transformer>(new Transformer(config, weights, heads, device, arena, options));
  KVEC_RETURN_IF_ERROR(transformer->AllocateActivations());
  return transformer;
}

absl::StatusOr<void*> Transformer::AllocateBytes(size_t bytes) {
  KVEC_ASSIGN_OR_RETURN(auto memory, device_.Allocate(bytes));
  memory_.push_back(std::move(memory));
  return memory_.back()->data();
}

absl::StatusOr<Tensor> Transformer::AllocateTensor(int rows, int cols) {
  KVEC_ASSIGN_OR_RETURN(void* const data,
                        AllocateBytes(size_t{4} * static_cast<size_t>(rows) * cols));
  return Tensor{static_cast<float*>(data), rows, cols, cols};
}

absl::StatusOr<ProductInput> Transformer::AllocateInput(int cols) {
  ProductInput input{nullptr, device_.input_type(), options_.max_rows, cols, cols};
  KVEC_ASSIGN_OR_RETURN(input.data, AllocateBytes(Bytes(input)));
  return input;
}

absl::StatusOr<ProductInput> Transformer::AllocateColumns(const ColumnShare& columns) {
  KVEC_ASSIGN_OR_RETURN(const ProductInput input, AllocateInput(columns.stored.count));
  if (columns.is_padded()) {
    const std::vector<uint8_t> zeros(Bytes(input));
    KVEC_RETURN_IF_ERROR(device_.Upload(zeros, input.data));
    KVEC_RETURN_IF_ERROR(device_.Synchronize());
  }
  return input;
}

absl::Status Transformer::AllocateActivations() {
  const int rows = options_.max_rows;
  const RankShare& share = weights_.share().rank;
  KVEC_ASSIGN_OR_RETURN(hidden_, AllocateTensor(rows, config_.hidden_size));
  KVEC_ASSIGN_OR_RETURN(normed_, AllocateInput(config_.hidden_size));
  KVEC_ASSIGN_OR_RETURN(qkv_, AllocateTensor(rows, heads_.qkv_cols()));
  KVEC_ASSIGN_OR_RETURN(attention_, AllocateColumns(share.attention_output));
  KVEC_ASSIGN_OR_RETURN(gate_up_, AllocateTensor(rows, 2 * share.mlp.held.count));
  KVEC_ASSIGN_OR_RETURN(activated_, AllocateColumns(share.mlp));
  if (config_.has_post_norms) {
    KVEC_ASSIGN_OR_RETURN(block_output_, AllocateTensor(rows, config_.hidden_size));
  }
  KVEC_ASSIGN_OR_RETURN(angles_, AllocateTensor(rows, heads_.head_dim));
  KVEC_ASSIGN_OR_RETURN(local_angles_, AllocateTensor(rows, heads_.head_dim));
  if (weights_.has_head()) {
    const int cols = share.rank == 0 ? config_.vocab_size : share.vocabulary.count;
    KVEC_ASSIGN_OR_RETURN(logits_, AllocateTensor(options_.max_logit_rows, cols));
  }
  return absl::OkStatus();
}

absl::Status Transformer::CheckBatch(const TokenBatch& batch) const {
  if (batch.num_rows() > options_.max_rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("step: ", batch.num_rows(), " rows, at most ", options_.max_rows));
  }
  for (int32_t id : batch.token_ids) {
    if (id < 0 || id >= config_.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("token_ids: ", id, " outside the vocabulary of ", config_.vocab_size));
    }
  }
  return absl::OkStatus();
}

absl::Status Transformer::Forward(const TokenBatch& batch, LogitsConsumer consume) {
  KVEC_RETURN_IF_ERROR(CheckBatch(batch));
  const int rows = batch.num_rows();
  if (rows == 0) return absl::OkStatus();
  KVEC_RETURN_IF_ERROR(BeginHidden(batch));
  const int tensor_rows =
      ComesAgain(batch) ? std::min(replayer_->PaddedRows(rows), options_.max_rows) : rows;
  KVEC_RETURN_IF_ERROR(PrepareAttention(batch, tensor_rows));
  KVEC_RETURN_IF_ERROR(RunLayers(batch, tensor_rows));
  return weights_.has_head() ? RunHead(batch, consume) : SendHidden(rows);
}

bool Transformer::ComesAgain(const TokenBatch& batch) const {
  // Sums of the host are not the device's.
  if (weights_.share().rank.num_ranks > 1 && !comm_->is_queued()) return false;
  return std::all_of(batch.sequences.begin(), batch.sequences.end(),
                     [](const SequenceRows& rows) { return !rows.is_prompt; });
}

absl::Status Transformer::RunLayers(const TokenBatch& batch, int num_rows) {
  const ScopedSpan span("layers");
  const LayerRange range = weights_.range();
  int num_run = 0;
  const auto run = [&]() -> absl::Status {
    KVEC_RETURN_IF_ERROR(ComputeAngles(batch, num_rows));
    for (int layer = range.first; layer < range.end(); ++layer) {
      KVEC_RETURN_IF_ERROR(RunLayer(layer, batch, num_rows));
      options_.layers_done->fetch_add(1, std::memory_order_relaxed);
      ++num_run;
    }
    return absl::OkStatus();
  };
  if (ComesAgain(batch)) {
    std::optional<RankPeers> peers;
    if (weights_.share().rank.num_ranks > 1) peers.emplace(*comm_);
    KVEC_RETURN_IF_ERROR(
        replayer_->Run({.part = kernels::WorkReplayer::Key::Part::kLayers, .num_rows = num_rows},
                       run, peers.has_value() ? &*peers : nullptr));
    if (num_run == 0) options_.layers_done->fetch_add(range.count, std::memory_order_relaxed);
  } else {
    KVEC_RETURN_IF_ERROR(run());
  }
  // What a device still has to do belongs here.
  return span.is_recorded() ? device_.Synchronize() : absl::OkStatus();
}

absl::Status Transformer::ComputeAngles(const TokenBatch& batch, int num_rows) {
  KVEC_RETURN_IF_ERROR(
      device_.RopeAngles(batch.positions, config_.rope, angles_.Rows(0, num_rows)));
  const auto& windows = config_.sliding_windows;
  if (std::none_of(windows.begin(), windows.end(), [](int window) { return window > 0; })) {
    return absl::OkStatus();
  }
  return device_.RopeAngles(batch.positions, config_.local_rope, local_angles_.Rows(0, num_rows));
}

absl::Status Transformer::BeginHidden(const TokenBatch& batch) {
  const Tensor hidden = hidden_.Rows(0, batch.num_rows());
  if (weights_.range().first == 0) {
    return device_.EmbeddingLookup(weights_.embedding(), batch.token_ids, config_.embedding_scale,
                                   hidden);
  }
  return comm_->TensorGroup().Receive(comm_->Index(comm_->stage - 1, comm_->rank), Bytes(hidden));
}

absl::Status Transformer::AwaitDevice() {
  return comm_->is_queued() ? absl::OkStatus() : device_.Synchronize();
}

absl::Status Transformer::SendHidden(int num_rows) {
  KVEC_RETURN_IF_ERROR(AwaitDevice());
  return comm_->TensorGroup().Send(comm_->Index(comm_->stage + 1, comm_->rank),
                                   Bytes(hidden_.Rows(0, num_rows)));
}

absl::Status Transformer::SumOverRanks(Tensor x) {
  if (weights_.share().rank.num_ranks == 1) return absl::OkStatus();
  KVEC_RETURN_IF_ERROR(AwaitDevice());
  return comm_->TensorRanks().AllReduceSum(x);
}

absl::Status Transformer::AddToHidden(const kernels::Weight& weight, ProductInput input,
                                      const float* post_norm, int num_rows) {
  const Tensor hidden = hidden_.Rows(0, num_rows);
  if (!config_.has_post_norms) {
    // What is summed over the ranks holds the residual stream once: rank 0's.
    const MatMulMode mode =
        weights_.share().rank.rank == 0 ? MatMulMode::kAccumulate : MatMulMode::kOverwrite;
    KVEC_RETURN_IF_ERROR(device_.MatMul(weight, input, nullptr, mode, hidden));
    return SumOverRanks(hidden);
  }
  const Tensor output = block_output_.Rows(0, num_rows);
  KVEC_RETURN_IF_ERROR(device_.MatMul(weight, input, nullptr, MatMulMode::kOverwrite, output));
  KVEC_RETURN_IF_ERROR(SumOverRanks(output));
  return device_.AddRmsNorm(output, post_norm, config_.rms_norm_eps, hidden);
}

absl::Status Transformer::RunLayer(int layer, const TokenBatch& batch, int num_rows) {
  KVEC_RETURN_IF_ERROR(RunAttention(layer, batch, num_rows));
  return RunMlp(layer, num_rows);
}

absl::Status Transformer::PrepareAttention(const TokenBatch& batch, int num_rows) {
  const LayerRange& range = weights_.range();
  const size_t num_sequences = batch.sequences.size();
  attention_sequences_.clear();
  for (int layer = 0; layer < range.count; ++layer) {
    for (const SequenceRows& rows : batch.sequences) {
      attention_sequences_.push_back(
          {rows.row_begin, rows.num_rows, rows.is_prompt, rows.cache->Layer(layer)});
    }
  }
  layer_batches_.clear();
  for (int layer = 0; layer < range.count; ++layer) {
    layer_batches_.push_back(
        {absl::MakeConstSpan(attention_sequences_)
             .subspan(static_cast<size_t>(layer) * num_sequences, num_sequences),
         config_.sliding_windows[range.first + layer], config_.attention_scale, layer});
  }
  kept_rows_.clear();
  for (const SequenceRows& rows : batch.sequences) {
    if (rows.query_window == nullptr) continue;
    rows.query_window->Keep(batch.positions[rows.row_begin], rows.row_begin, rows.num_rows,
                            kept_rows_);
  }
  return device_.PrepareStep({layer_batches_, batch.positions, num_rows, kept_rows_});
}

absl::Status Transformer::RunAttention(int layer, const TokenBatch& batch, int num_rows) {
  const LayerWeights& weights = weights_.layer(layer);
  const Tensor hidden = hidden_.Rows(0, num_rows);
  const ProductInput normed = normed_.Rows(0, num_rows);
  const Tensor qkv = qkv_.Rows(0, num_rows);
  const ProductInput attention = attention_.Rows(0, num_rows);
  const kernels::AttentionBatch& layer_batch = layer_batches_[layer - weights_.range().first];
  const Tensor angles =
      (layer_batch.sliding_window > 0 ? local_angles_ : angles_).Rows(0, num_rows);

  KVEC_RETURN_IF_ERROR(
      device_.RmsNorm(hidden, weights.attention_norm.data(), config_.rms_norm_eps, normed));
  KVEC_RETURN_IF_ERROR(
      device_.MatMul(*weights.qkv, normed, weights.qkv_bias.data(), MatMulMode::kOverwrite, qkv));
  const kernels::HeadRotation rotation{
      {weights.q_norm.data(), weights.k_norm.data(), config_.rms_norm_eps},
      angles,
      config_.rope_pairing};
  KVEC_RETURN_IF_ERROR(
      device_.RotateAndAppendKv(qkv, heads_, rotation, batch.positions, layer_batch, arena_));
  if (!kept_rows_.empty()) {
    const Tensor queries{qkv.data, num_rows, heads_.num_heads * heads_.head_dim, qkv.stride};
    KVEC_RETURN_IF_ERROR(device_.KeepRows(queries, kept_rows_, layer - weights_.range().first));
  }
  KVEC_RETURN_IF_ERROR(device_.Attention(qkv, heads_, layer_batch, arena_,
                                         Held(attention, weights_.share().rank.attention_output)));
  return AddToHidden(*weights.attention_output, attention, weights.post_attention_norm.data(),
                     num_rows);
}

absl::Status Transformer::RunMlp(int layer, int num_rows) {
  const LayerWeights& weights = weights_.layer(layer);
  const Tensor hidden = hidden_.Rows(0, num_rows);
  const ProductInput normed = normed_.Rows(0, num_rows);
  const Tensor gate_up = gate_up_.Rows(0, num_rows);
  const ProductInput activated = activated_.Rows(0, num_rows);

  KVEC_RETURN_IF_ERROR(
      device_.RmsNorm(hidden, weights.mlp_norm.data(), config_.rms_norm_eps, normed));
  KVEC_RETURN_IF_ERROR(
      device_.MatMul(*weights.gate_up, normed, nullptr, MatMulMode::kOverwrite, gate_up));
  KVEC_RETURN_IF_ERROR(device_.GatedActivation(gate_up, config_.activation,
                                               Held(activated, weights_.share().rank.mlp)));
  return AddToHidden(*weights.down, activated, weights.post_mlp_norm.data(), num_rows);
}

absl::Status Transformer::RunHead(const TokenBatch& batch, LogitsConsumer consume) {
  const ScopedSpan span("head");
  const int num_logit_rows = static_cast<int>(batch.logit_rows.size());
  for (int begin = 0; begin < num_logit_rows; begin += options_.max_logit_rows) {
    const int count = std::min(options_.max_logit_rows, num_logit_rows - begin);
    KVEC_RETURN_IF_ERROR(ComputeLogits(batch, begin, count));
    KVEC_RETURN_IF_ERROR(GatherLogits(count));
    if (weights_.share().rank.rank == 0) {
      KVEC_RETURN_IF_ERROR(consume(logits_.Rows(0, count), begin));
    }
  }
  return absl::OkStatus();
}

absl::Status Transformer::ComputeLogits(const TokenBatch& batch, int begin, int count) {
  const auto logit_rows = absl::MakeConstSpan(batch.logit_rows).subspan(begin, count);
  const int first_row = logit_rows.front();
  int next_row = first_row;
  const bool are_neighbours = std::all_of(logit_rows.begin(), logit_rows.end(),
                                          [&](int32_t row) { return row == next_row++; });
  const auto run = [&](int num_rows) -> absl::Status {
    const RankShare& share = weights_.share().rank;
    const ProductInput normed = normed_.Rows(0, num_rows);
    const auto norm = [&](Tensor hidden, ProductInput out) {
      return device_.RmsNorm(hidden, weights_.output_norm(), config_.rms_norm_eps, out);
    };
    if (are_neighbours) {
      KVEC_RETURN_IF_ERROR(norm(hidden_.Rows(first_row, num_rows), normed));
    } else {
      for (int i = 0; i < count; ++i) {
        KVEC_RETURN_IF_ERROR(norm(hidden_.Rows(logit_rows[i], 1), normed.Rows(i, 1)));
      }
    }
    const Tensor logits = logits_.Rows(0, num_rows);
    return device_.MatMul(weights_.head(), normed, nullptr, MatMulMode::kOverwrite,
                          share.rank == 0 ? Columns(logits, share.vocabulary) : logits);
  };
  if (!are_neighbours || !ComesAgain(batch)) return run(count);
  const int padded = std::min(
      {replayer_->PaddedRows(count), options_.max_logit_rows, options_.max_rows - first_row});
  return replayer_->Run(
      {.part = kernels::WorkReplayer::Key::Part::kHead, .first_row = first_row, .num_rows = padded},
      [&] { return run(padded); }, nullptr);
}

// Row by row, so that each goes to its place.
absl::Status Transformer::GatherLogits(int count) {
  const RankShare& share = weights_.share().rank;
  if (share.num_ranks == 1) return absl::OkStatus();
  KVEC_RETURN_IF_ERROR(AwaitDevice());
  const ScopedSpan span("gather logits");
  for (int row = 0; row < count; ++row) {
    const Tensor logits = logits_.Rows(row, 1);
    if (share.rank > 0) {
      KVEC_RETURN_IF_ERROR(comm_->TensorRanks().Send(0, Bytes(logits)));
      continue;
    }
    for (int rank = 1; rank < share.num_ranks; ++rank) {
      const IndexRange rows = VocabularyOf(config_, rank, share.num_ranks);
      KVEC_RETURN_IF_ERROR(comm_->TensorRanks().Receive(rank, Bytes(Columns(logits, rows))));
    }
  }
  return absl::OkStatus();
}

}  // namespace kvec::worker::model
