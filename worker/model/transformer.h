#ifndef KVEC_WORKER_MODEL_TRANSFORMER_H_
#define KVEC_WORKER_MODEL_TRANSFORMER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/model_config.h"
#include "kernels/device.h"
#include "worker/cache/query_window.h"
#include "worker/cache/sequence_cache.h"
#include "worker/comm/group_comm.h"
#include "worker/model/model_weights.h"

namespace kvec::worker::model {

// Consecutive rows of a batch that belong to one sequence. The cache has room for them already.
struct SequenceRows {
  int row_begin = 0;
  int num_rows = 0;
  bool is_prompt = false;  // which arithmetic: see kernels::AttentionSequence
  const cache::SequenceCache* cache = nullptr;
  cache::QueryWindow* query_window = nullptr;  // null: the sequence's queries are not kept
};

// What the model runs over in one Step.
struct TokenBatch {
  std::vector<int32_t> token_ids;  // [rows]
  std::vector<int32_t> positions;  // [rows]
  std::vector<SequenceRows> sequences;
  std::vector<int32_t> logit_rows;  // ascending: rows whose logits are wanted

  int num_rows() const { return static_cast<int>(token_ids.size()); }
};

// A decoder-only transformer over paged caches: the forward pass of every family, whose differences
// ModelConfig spells out; of the layers and heads that this worker holds. Owned by the engine,
// called from its thread; everything it works in is allocated by Create.
//
// Between the workers of a group, in the order of the pass: hidden states [rows, hidden] from each
// rank of a stage to the same rank of the next; in every layer two sums over the stage's ranks,
// after which all have the same bits; and logits from the last stage's other ranks to its rank 0.
class Transformer {
 public:
  struct Options {
    int max_rows = 0;                              // of a batch
    int max_logit_rows = 64;                       // computed at a time
    std::atomic<uint64_t>* layers_done = nullptr;  // counts layers run; outlives the transformer
  };

  // Receives logits[count, vocab] of logit_rows[begin … begin + count); they are valid during the
  // call only. Called where logits are whole: rank 0 of the last stage.
  using LogitsConsumer = absl::FunctionRef<absl::Status(kernels::Tensor logits, int begin)>;

  // All arguments must outlive the result.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(
      const ModelConfig& config, const ModelWeights& weights, const kernels::HeadShape& heads,
      kernels::Device& device, kernels::KvArena& arena, const Options& options);

  // Lends it the group that the rest of the model is in; null: there is no rest. Outlives its use,
  // which ends with the next call: what the device took down of the group's sums is gone then.
  void SetComm(comm::GroupComm* comm) {
    replayer_->Forget();
    comm_ = comm;
  }

  // Runs the batch, leaves its keys and values in the caches, and hands its logits to `consume`.
  // INVALID_ARGUMENT for an id outside the vocabulary or more than max_rows rows; a
  // communicator's error.
  absl::Status Forward(const TokenBatch& batch, LogitsConsumer consume);

  const Options& options() const { return options_; }

 private:
  Transformer(const ModelConfig& config, const ModelWeights& weights,
              const kernels::HeadShape& heads, kernels::Device& device, kernels::KvArena& arena,
              const Options& options)
      : config_(config),
        weights_(weights),
        heads_(heads),
        device_(device),
        arena_(arena),
        options_(options),
        replayer_(device.MakeReplayer()) {}

  absl::Status AllocateActivations();
  absl::StatusOr<kernels::Tensor> AllocateTensor(int rows, int cols);
  absl::StatusOr<void*> AllocateBytes(size_t bytes);
  // [max_rows, cols]
  absl::StatusOr<kernels::ProductInput> AllocateInput(int cols);
  // The input of a weight split by columns: [max_rows, columns stored], zeros where it is padded.
  absl::StatusOr<kernels::ProductInput> AllocateColumns(const ColumnShare& columns);
  absl::Status CheckBatch(const TokenBatch& batch) const;
  // Whether the batch is work that comes again: generated tokens, nothing but operations that are
  // queued on the device.
  bool ComesAgain(const TokenBatch& batch) const;
  // Tensors have num_rows, of which the batch's are the first.
  absl::Status RunLayers(const TokenBatch& batch, int num_rows);
  absl::Status ComputeAngles(const TokenBatch& batch, int num_rows);
  absl::Status RunLayer(int layer, const TokenBatch& batch, int num_rows);
  absl::Status RunAttention(int layer, const TokenBatch& batch, int num_rows);
  absl::Status RunMlp(int layer, int num_rows);
  absl::Status RunHead(const TokenBatch& batch, LogitsConsumer consume);
  // logits[count, vocab], this rank's columns of it, of logit_rows[begin … begin + count).
  absl::Status ComputeLogits(const TokenBatch& batch, int begin, int count);
  absl::Status BeginHidden(const TokenBatch& batch);
  // hidden += input · weightᵀ over all ranks' columns, normed first where the model does so.
  absl::Status AddToHidden(const kernels::Weight& weight, kernels::ProductInput input,
                           const float* post_norm, int num_rows);
  // Before the group's operations: they see what the device has done.
  absl::Status AwaitDevice();
  absl::Status SumOverRanks(kernels::Tensor x);
  absl::Status SendHidden(int num_rows);
  // Rank 0's logits[count, vocab] become whole.
  absl::Status GatherLogits(int count);
  // Fills layer_batches_ and kept_rows_ and tells the device.
  absl::Status PrepareAttention(const TokenBatch& batch, int num_rows);

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const kernels::HeadShape heads_;
  kernels::Device& device_;
  kernels::KvArena& arena_;
  const Options options_;
  comm::GroupComm* comm_ = nullptr;

  std::vector<std::unique_ptr<kernels::DeviceMemory>> memory_;  // of the tensors below
  kernels::Tensor hidden_;           // [max_rows, hidden]: the residual stream
  kernels::ProductInput normed_;     // [max_rows, hidden]
  kernels::Tensor qkv_;              // [max_rows, heads.qkv_cols()]
  kernels::ProductInput attention_;  // [max_rows, columns stored of attention_output]
  kernels::Tensor gate_up_;          // [max_rows, 2 columns held of the MLP]
  kernels::ProductInput activated_;  // [max_rows, columns stored of the MLP]
  kernels::Tensor block_output_;     // [max_rows, hidden]; where it is normed
  kernels::Tensor angles_;           // [max_rows, head_dim]
  kernels::Tensor local_angles_;     // [max_rows, head_dim]; layers with a sliding window
  kernels::Tensor logits_;           // [max_logit_rows, vocab], other ranks: their vocabulary rows
  std::unique_ptr<kernels::WorkReplayer> replayer_;  // gone before the tensors
  // Of the batch being run.
  std::vector<kernels::AttentionSequence> attention_sequences_;  // [layers][sequences]
  std::vector<kernels::AttentionBatch> layer_batches_;           // [layers]
  std::vector<kernels::KeptRow> kept_rows_;                      // whose queries are kept
};

}  // namespace kvec::worker::model

#endif  // KVEC_WORKER_MODEL_TRANSFORMER_H_
