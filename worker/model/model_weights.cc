#include "worker/model/model_weights.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/tensor/dequantize.h"

namespace kvec::worker::model {
namespace {

// Consecutive elements of a tensor's outermost dimension.
struct TensorRows {
  std::string name;
  IndexRange rows;
};

// Reads a worker's share of the tensors of one model onto one device, and counts its bytes.
class WeightLoader {
 public:
  WeightLoader(const ModelFiles& files, const RankShare& share, kernels::Device& device)
      : files_(files), share_(share), device_(device) {}

  absl::StatusOr<kernels::WeightSource> Source(const std::string& name) const {
    KVEC_ASSIGN_OR_RETURN(const FileTensor tensor, files_.FindTensor(name));
    if (tensor.shape.size() != 2) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", name, ": ", tensor.shape.size(), " dimensions, expected 2"));
    }
    return kernels::WeightSource{tensor.type, static_cast<int>(tensor.shape[0]),
                                 static_cast<int>(tensor.shape[1]), tensor.data};
  }

  // Rows of the named tensors on top of each other.
  absl::StatusOr<std::unique_ptr<kernels::Weight>> Stack(const std::vector<TensorRows>& parts) {
    std::vector<kernels::WeightSource> sources;
    for (const auto& [name, rows] : parts) {
      KVEC_ASSIGN_OR_RETURN(kernels::WeightSource source, Source(name));
      KVEC_RETURN_IF_ERROR(CheckRange(name, rows, source.num_rows));
      const size_t row_bytes = RowBytes(source.type, source.in_features);
      source.num_rows = rows.count;
      source.data = source.data.subspan(row_bytes * rows.begin, row_bytes * rows.count);
      sources.push_back(source);
    }
    return Prepare(parts[0].name, sources);
  }

  // Columns of a tensor, whole blocks.
  absl::StatusOr<std::unique_ptr<kernels::Weight>> Columns(const std::string& name,
                                                           IndexRange columns) {
    KVEC_ASSIGN_OR_RETURN(kernels::WeightSource source, Source(name));
    KVEC_RETURN_IF_ERROR(CheckRange(name, columns, source.in_features));
    if (columns.count == source.in_features) return Prepare(name, {source});
    const size_t row_bytes = RowBytes(source.type, source.in_features);
    const size_t skipped_bytes = RowBytes(source.type, columns.begin);
    const size_t part_bytes = RowBytes(source.type, columns.count);
    std::vector<uint8_t> part(part_bytes * static_cast<size_t>(source.num_rows));
    for (int row = 0; row < source.num_rows; ++row) {
      std::memcpy(part.data() + part_bytes * row,
                  source.data.data() + row_bytes * row + skipped_bytes, part_bytes);
    }
    source.in_features = columns.count;
    source.data = part;
    return Prepare(name, {source});
  }

  // Elements of the named tensors one after the other.
  absl::StatusOr<DeviceVector> Vector(const std::vector<TensorRows>& parts) {
    std::vector<float> values;
    for (const auto& [name, range] : parts) {
      KVEC_ASSIGN_OR_RETURN(const FileTensor tensor, files_.FindTensor(name));
      int64_t count = 1;
      for (int64_t dimension : tensor.shape) count *= dimension;
      KVEC_RETURN_IF_ERROR(CheckRange(name, range, count));
      std::vector<float> all(count);
      Dequantize(tensor.type, tensor.data, absl::MakeSpan(all));
      values.insert(values.end(), all.begin() + range.begin, all.begin() + range.end());
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
    const IndexRange hidden{0, config.hidden_size};
    const IndexRange head{0, config.head_dim};
    const IndexRange q{share_.heads.begin * config.head_dim, share_.heads.count * config.head_dim};
    const IndexRange kv{share_.kv_heads.begin * config.head_dim,
                        share_.kv_heads.count * config.head_dim};
    const IndexRange mlp = share_.mlp.held;
    LayerWeights layer;
    KVEC_ASSIGN_OR_RETURN(layer.attention_norm, Vector({{name("attn_norm.weight"), hidden}}));
    KVEC_ASSIGN_OR_RETURN(layer.qkv, Stack({{name("attn_q.weight"), q},
                                            {name("attn_k.weight"), kv},
                                            {name("attn_v.weight"), kv}}));
    if (config.has_attention_bias) {
      KVEC_ASSIGN_OR_RETURN(
          layer.qkv_bias,
          Vector({{name("attn_q.bias"), q}, {name("attn_k.bias"), kv}, {name("attn_v.bias"), kv}}));
    }
    if (config.has_qk_norm) {
      KVEC_ASSIGN_OR_RETURN(layer.q_norm, Vector({{name("attn_q_norm.weight"), head}}));
      KVEC_ASSIGN_OR_RETURN(layer.k_norm, Vector({{name("attn_k_norm.weight"), head}}));
    }
    KVEC_ASSIGN_OR_RETURN(layer.attention_output,
                          Columns(name("attn_output.weight"), share_.attention_output.stored));
    KVEC_ASSIGN_OR_RETURN(layer.mlp_norm, Vector({{name("ffn_norm.weight"), hidden}}));
    KVEC_ASSIGN_OR_RETURN(layer.gate_up,
                          Stack({{name("ffn_gate.weight"), mlp}, {name("ffn_up.weight"), mlp}}));
    KVEC_ASSIGN_OR_RETURN(layer.down, Columns(name("ffn_down.weight"), share_.mlp.stored));
    if (config.has_post_norms) {
      KVEC_ASSIGN_OR_RETURN(layer.post_attention_norm,
                            Vector({{name("post_attention_norm.weight"), hidden}}));
      KVEC_ASSIGN_OR_RETURN(layer.post_mlp_norm, Vector({{name("post_ffw_norm.weight"), hidden}}));
    }
    return layer;
  }

  size_t bytes() const { return bytes_; }

 private:
  static absl::Status CheckRange(const std::string& name, IndexRange range, int64_t size) {
    if (range.end() <= size) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", name, ": ", size, " long, expected ", range.end()));
  }

  absl::StatusOr<std::unique_ptr<kernels::Weight>> Prepare(
      const std::string& name, absl::Span<const kernels::WeightSource> sources) {
    auto weight = device_.PrepareWeight(sources);
    if (!weight.ok()) {
      return absl::Status(weight.status().code(),
                          absl::StrCat("tensor ", name, ": ", weight.status().message()));
    }
    bytes_ += (*weight)->bytes();
    return weight;
  }

  const ModelFiles& files_;
  const RankShare& share_;
  kernels::Device& device_;
  size_t bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ModelWeights>> ModelWeights::Load(const ModelFiles& files,
                                                                 const ModelShare& share,
                                                                 kernels::Device& device) {
  const ModelConfig& config = files.config();
  const LayerRange range = share.layers;
  if (range.first < 0 || range.count <= 0 || range.count > config.num_layers ||
      range.first > config.num_layers - range.count) {
    return absl::InvalidArgumentError(absl::StrCat("layers: ", range.count, " from ", range.first,
                                                   " on; the model has ", config.num_layers));
  }
  WeightLoader loader(files, share.rank, device);
  auto weights = std::unique_ptr<ModelWeights>(new ModelWeights(share));
  KVEC_ASSIGN_OR_RETURN(weights->embedding_, loader.Source("token_embd.weight"));
  for (int index = range.first; index < range.end(); ++index) {
    KVEC_ASSIGN_OR_RETURN(weights->layers_.emplace_back(), loader.Layer(index));
    // What was copied to the device needs no second copy in the page cache's mapping, not even
    // until the last layer is there.
    files.ReleasePages();
  }
  if (range.end() == config.num_layers) {
    KVEC_ASSIGN_OR_RETURN(weights->output_norm_,
                          loader.Vector({{"output_norm.weight", {0, config.hidden_size}}}));
    const char* const head = config.tie_word_embeddings ? "token_embd.weight" : "output.weight";
    KVEC_ASSIGN_OR_RETURN(weights->head_, loader.Stack({{head, share.rank.vocabulary}}));
  }
  weights->bytes_ = loader.bytes();
  files.ReleasePages();
  return weights;
}

}  // namespace kvec::worker::model
