#include "coordinator/cluster/model_outline.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/model/hf_config.h"
#include "common/model/json_file.h"
#include "common/model/model_files.h"
#include "common/model/tensor_requirements.h"
#include "common/status_macros.h"

namespace kvec::coordinator::cluster {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<ModelOutline> ReadConfigOnly(const std::string& path) {
  KVEC_ASSIGN_OR_RETURN(const nlohmann::json json, ReadJsonFile(path));
  absl::StatusOr<ModelConfig> config = ReadHfConfig(json);
  if (!config.ok()) {
    return absl::Status(config.status().code(),
                        absl::StrCat(path, ": ", config.status().message()));
  }
  ModelOutline outline{.config = *std::move(config), .types = {}};
  outline.config.name = fs::path(path).lexically_normal().parent_path().filename().string();
  if (outline.config.name.empty()) outline.config.name = path;
  return outline;
}

// Whether a folder has weights. An unreadable one has none: reading its config.json says why.
bool HasWeights(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().extension() == ".safetensors") return true;
  }
  return false;
}

}  // namespace

TensorType ModelOutline::TypeOf(const std::string& name, TensorType otherwise) const {
  const auto found = types.find(name);
  return found == types.end() ? otherwise : found->second;
}

absl::StatusOr<ModelOutline> ReadModelOutline(const std::string& path) {
  std::error_code error;
  if (absl::EndsWith(path, ".json")) return ReadConfigOnly(path);
  if (fs::is_directory(path, error) && !HasWeights(path)) {
    return ReadConfigOnly((fs::path(path) / "config.json").string());
  }
  KVEC_ASSIGN_OR_RETURN(const std::unique_ptr<ModelFiles> files, ModelFiles::Open(path));
  ModelOutline outline{.config = files->config(), .types = {}};
  for (const FileTensor& tensor : files->tensors()) outline.types[tensor.name] = tensor.type;
  return outline;
}

ModelBytes OutlineBytes(const ModelOutline& outline, TensorType otherwise) {
  std::vector<TensorBytes> tensors;
  for (const TensorRequirement& tensor : RequiredTensors(outline.config)) {
    // What has one dimension is never quantised.
    const TensorType missing = tensor.shape.size() < 2 ? TensorType::kF32 : otherwise;
    const TensorTypeTraits& traits = GetTraits(outline.TypeOf(tensor.name, missing));
    uint64_t numbers = 1;
    for (int64_t dimension : tensor.shape) numbers *= static_cast<uint64_t>(dimension);
    tensors.push_back({tensor.name, numbers / traits.block_elements * traits.block_bytes});
  }
  return MeasureModelBytes(outline.config, tensors);
}

ColumnBlocks OutlineBlocks(const ModelOutline& outline, TensorType otherwise) {
  ColumnBlocks blocks;
  for (int layer = 0; layer < outline.config.num_layers; ++layer) {
    const auto block_of = [&](absl::string_view part) {
      return GetTraits(outline.TypeOf(absl::StrCat("blk.", layer, ".", part), otherwise))
          .block_elements;
    };
    blocks.attention_output = std::max(blocks.attention_output, block_of("attn_output.weight"));
    blocks.down = std::max(blocks.down, block_of("ffn_down.weight"));
  }
  return blocks;
}

}  // namespace kvec::coordinator::cluster
