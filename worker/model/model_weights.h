#ifndef KVEC_WORKER_MODEL_MODEL_WEIGHTS_H_
#define KVEC_WORKER_MODEL_MODEL_WEIGHTS_H_

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/model_files.h"
#include "common/model/rank_share.h"
#include "kernels/device.h"

namespace kvec::worker::model {

// The consecutive layers that a pipeline stage holds.
struct LayerRange {
  int first = 0;
  int count = 0;
  int end() const { return first + count; }
};

// What a worker holds of a model.
struct ModelShare {
  LayerRange layers;
  RankShare rank;
};

// A float vector on a device: a norm's weight or a bias. Empty: the model has none.
class DeviceVector {
 public:
  DeviceVector() = default;
  explicit DeviceVector(std::unique_ptr<kernels::DeviceMemory> memory)
      : memory_(std::move(memory)) {}
  const float* data() const {
    return memory_ == nullptr ? nullptr : static_cast<const float*>(memory_->data());
  }

 private:
  std::unique_ptr<kernels::DeviceMemory> memory_;
};

// Heads, columns and vocabulary rows are those of the rank; see RankShare.
struct LayerWeights {
  DeviceVector attention_norm;                        // [hidden]
  std::unique_ptr<kernels::Weight> qkv;               // [(heads + 2 KV heads) head_dim, hidden]
  DeviceVector qkv_bias;                              // [(heads + 2 KV heads) head_dim]; qwen2
  DeviceVector q_norm, k_norm;                        // [head_dim]; qwen3, gemma3
  std::unique_ptr<kernels::Weight> attention_output;  // [hidden, stored columns]
  DeviceVector post_attention_norm;                   // [hidden]; gemma3
  DeviceVector mlp_norm;                              // [hidden]
  std::unique_ptr<kernels::Weight> gate_up;           // [2 columns held, hidden]
  std::unique_ptr<kernels::Weight> down;              // [hidden, columns stored]
  DeviceVector post_mlp_norm;                         // [hidden]; gemma3
};

// The share of a model that a worker holds, on its device; nothing else is read of the file. Rows
// of the embedding table are read from it when they are needed, so `files` must outlive it.
class ModelWeights {
 public:
  // NOT_FOUND and INVALID_ARGUMENT name the tensor; RESOURCE_EXHAUSTED when memory ends.
  static absl::StatusOr<std::unique_ptr<ModelWeights>> Load(const ModelFiles& files,
                                                            const ModelShare& share,
                                                            kernels::Device& device);

  const ModelShare& share() const { return share_; }
  LayerRange range() const { return share_.layers; }
  const LayerWeights& layer(int index) const { return layers_[index - share_.layers.first]; }
  const kernels::WeightSource& embedding() const { return embedding_; }  // [vocab, hidden]
  bool has_head() const { return head_ != nullptr; }                     // the last stage
  const kernels::Weight& head() const { return *head_; }            // [vocabulary rows, hidden]
  const float* output_norm() const { return output_norm_.data(); }  // [hidden]
  size_t bytes() const { return bytes_; }

 private:
  explicit ModelWeights(const ModelShare& share) : share_(share) {}

  const ModelShare share_;
  kernels::WeightSource embedding_{};
  std::vector<LayerWeights> layers_;
  DeviceVector output_norm_;
  std::unique_ptr<kernels::Weight> head_;
  size_t bytes_ = 0;
};

}  // namespace kvec::worker::model

#endif  // KVEC_WORKER_MODEL_MODEL_WEIGHTS_H_
