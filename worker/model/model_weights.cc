#include "worker/model/model_weights.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/tensor/dequantize.h"

namespace kvec::worker::model {
namespace {

// Reads tensors of one model onto one device and counts their bytes.
class WeightLoader {
 public:
  WeightLoader(const ModelFiles& files, kernels::Device& device) : files_(files), device_(device) {}

  absl::StatusOr<kernels::WeightSource> Source(const std::string& name) const {
    KVEC_ASSIGN_OR_RETURN(const FileTensor tensor, files_.FindTensor(name));
    if (tensor.shape.size() != 2) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", name, ": ", tensor.shape.size(), " dimensions, expected 2"));
    }
    return kernels::WeightSource{tensor.type, static_cast<int>(tensor.shape[0]),
                                 static_cast<int>(tensor.shape[1]), tensor.data};
  }

  // The named tensors on top of each other.
  absl::StatusOr<std::unique_ptr<kernels::Weight>> Stack(const std::vector<std::string>& names) {
    std::vector<kernels::WeightSource> sources;
    for (const std::string& name : names) {
      KVEC_ASSIGN_OR_RETURN(sources.emplace_back(), Source(name));
    }
    auto weight = device_.PrepareWeight(sources);
    if (!weight.ok()) {
      return absl::Status(weight.status().code(),
                          absl::StrCat("tensor ", names[0], ": ", weight.status().message()));
    }
    bytes_ += (*weight)->bytes();
    return weight;
  }

  // The named tensors one after the other.
  absl::StatusOr<DeviceVector> Vector(const std::vector<std::string>& names) {
    std::vector<float> values;
    for (const std::string& name : names) {
      KVEC_ASSIGN_OR_RETURN(const FileTensor tensor, files_.FindTensor(name));
      int64_t count = 1;
      for (int64_t dimension : tensor.shape) count *= dimension;
      const size_t begin = values.size();
      values.resize(begin + count);
      Dequantize(tensor.type, tensor.data, absl::MakeSpan(values).subspan(begin));
    }
    const size_t bytes = values.size() * sizeof(float);
    KVEC_ASSIGN_OR_RETURN(auto memory, device_.Allocate(bytes));
    KVEC_RETURN_IF_ERROR(
        device_.Upload({reinterpret_cast<const uint8_t*>(values.data()), bytes}, memory->data()));
    bytes_ += bytes;
    return DeviceVector(std::move(memory));
  }

  absl::StatusOr<LayerWeights> Layer(int index) {
    const ModelConfig& config = files_.config();
    const auto name = [index](absl::string_view part) {
      return absl::StrCat("blk.", index, ".", part);
    };
    LayerWeights layer;
    KVEC_ASSIGN_OR_RETURN(layer.attention_norm, Vector({name("attn_norm.weight")}));
    KVEC_ASSIGN_OR_RETURN(
        layer.qkv, Stack({name("attn_q.weight"), name("attn_k.weight"), name("attn_v.weight")}));
    if (config.has_attention_bias) {
      KVEC_ASSIGN_OR_RETURN(
          layer.qkv_bias, Vector({name("attn_q.bias"), name("attn_k.bias"), name("attn_v.bias")}));
    }
    if (config.has_qk_norm) {
      KVEC_ASSIGN_OR_RETURN(layer.q_norm, Vector({name("attn_q_norm.weight")}));
      KVEC_ASSIGN_OR_RETURN(layer.k_norm, Vector({name("attn_k_norm.weight")}));
    }
    KVEC_ASSIGN_OR_RETURN(layer.attention_output, Stack({name("attn_output.weight")}));
    KVEC_ASSIGN_OR_RETURN(layer.mlp_norm, Vector({name("ffn_norm.weight")}));
    KVEC_ASSIGN_OR_RETURN(layer.gate_up, Stack({name("ffn_gate.weight"), name("ffn_up.weight")}));
    KVEC_ASSIGN_OR_RETURN(layer.down, Stack({name("ffn_down.weight")}));
    if (config.has_post_norms) {
      KVEC_ASSIGN_OR_RETURN(layer.post_attention_norm,
                            Vector({name("post_attention_norm.weight")}));
      KVEC_ASSIGN_OR_RETURN(layer.post_mlp_norm, Vector({name("post_ffw_norm.weight")}));
    }
    return layer;
  }

  size_t bytes() const { return bytes_; }

 private:
  const ModelFiles& files_;
  kernels::Device& device_;
  size_t bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ModelWeights>> ModelWeights::Load(const ModelFiles& files,
                                                                 LayerRange range,
                                                                 kernels::Device& device) {
  const ModelConfig& config = files.config();
  if (range.first < 0 || range.count <= 0 || range.end() > config.num_layers) {
    return absl::InvalidArgumentError(absl::StrCat("layers ", range.first, " … ", range.end(),
                                                   ": the model has ", config.num_layers));
  }
  WeightLoader loader(files, device);
  auto weights = std::unique_ptr<ModelWeights>(new ModelWeights);
  weights->range_ = range;
  KVEC_ASSIGN_OR_RETURN(weights->embedding_, loader.Source("token_embd.weight"));
  for (int index = range.first; index < range.end(); ++index) {
    KVEC_ASSIGN_OR_RETURN(weights->layers_.emplace_back(), loader.Layer(index));
    // What was copied to the device needs no second copy in the page cache's mapping, not even
    // until the last layer is there.
    files.ReleasePages();
  }
  if (range.end() == config.num_layers) {
    KVEC_ASSIGN_OR_RETURN(weights->output_norm_, loader.Vector({"output_norm.weight"}));
    KVEC_ASSIGN_OR_RETURN(
        weights->head_,
        loader.Stack({config.tie_word_embeddings ? "token_embd.weight" : "output.weight"}));
  }
  weights->bytes_ = loader.bytes();
  files.ReleasePages();
  return weights;
}

}  // namespace kvec::worker::model
