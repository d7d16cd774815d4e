#include "tests/worker/model/memory_model.h"

#include <cmath>
#include <cstring>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/model/tensor_requirements.h"
#include "tests/kernels/cpu/random_weight.h"

namespace kvec {
namespace {

// Norm weights and biases: around 1, so that no layer dies.
std::vector<uint8_t> RandomVector(int64_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(0.7f, 1.3f);
  std::vector<uint8_t> bytes(sizeof(float) * static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i) {
    const float value = uniform(random);
    std::memcpy(bytes.data() + sizeof(float) * i, &value, sizeof(value));
  }
  return bytes;
}

}  // namespace

MemoryModel::MemoryModel(const ModelConfig& config, const TypeOf& type_of, uint32_t seed)
    : config_(config) {
  for (const TensorRequirement& required : RequiredTensors(config)) {
    FileTensor tensor;
    tensor.name = required.name;
    tensor.shape = required.shape;
    if (required.shape.size() == 2) {
      tensor.type = type_of(required.name);
      const kernels::cpu::RandomWeight weight(tensor.type, static_cast<int>(required.shape[0]),
                                              static_cast<int>(required.shape[1]), ++seed);
      const auto bytes = weight.source().data;
      data_.emplace_back(bytes.begin(), bytes.end());
    } else {
      data_.push_back(RandomVector(required.shape[0], ++seed));
    }
    tensor.data = data_.back();
    tensors_.emplace(required.name, std::move(tensor));
  }
}

absl::StatusOr<FileTensor> MemoryModel::FindTensor(absl::string_view name) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) return found->second;
  return absl::NotFoundError(absl::StrCat("tensor ", name));
}

std::vector<FileTensor> MemoryModel::tensors() const {
  std::vector<FileTensor> all;
  for (const auto& [name, tensor] : tensors_) all.push_back(tensor);
  return all;
}

ModelConfig SmallConfig(int num_heads, int num_kv_heads, int head_dim, int intermediate_size,
                        std::vector<int> sliding_windows) {
  ModelConfig config;
  config.name = "Small";
  config.num_layers = static_cast<int>(sliding_windows.size());
  config.hidden_size = 64;
  config.intermediate_size = intermediate_size;
  config.num_heads = num_heads;
  config.num_kv_heads = num_kv_heads;
  config.head_dim = head_dim;
  config.vocab_size = 300;
  config.context_length = 512;
  config.rms_norm_eps = 1e-5f;
  config.sliding_windows = std::move(sliding_windows);
  config.attention_scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  return config;
}

}  // namespace kvec
