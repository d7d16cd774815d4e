#include "common/model/hf_weights.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/model/error_text.h"
#include "common/model/hf_tensor_names.h"
#include "common/model/json_fields.h"
#include "common/model/json_file.h"
#include "common/model/model_limits.h"
#include "common/model/safetensors_file.h"
#include "common/model/tensor_directory.h"
#include "common/status_macros.h"
#include "common/tensor/dequantize.h"

namespace kvec {
namespace {

using nlohmann::json;

constexpr absl::string_view kIndexName = "model.safetensors.index.json";
constexpr absl::string_view kSingleName = "model.safetensors";
constexpr size_t kMaxShards = 4096;

// The files' names in the index's weight_map. They are from a file, so they must stay in the
// folder.
absl::StatusOr<std::set<std::string>> ShardsOfIndex(const json& index) {
  KVEC_ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(index, ""));
  KVEC_RETURN_IF_ERROR(fields.Object("weight_map").status());
  std::set<std::string> shards;
  for (const auto& [tensor, value] : fields.Find("weight_map")->items()) {
    const std::string name = value.is_string() ? value.get<std::string>() : "";
    if (!absl::EndsWith(name, ".safetensors") || absl::StrContains(name, '/') ||
        absl::StrContains(name, '\0')) {
      return absl::InvalidArgumentError(absl::StrCat(
          "weight_map.", Quoted(tensor), ": ", Quoted(name), " is no name of a .safetensors file"));
    }
    shards.insert(name);
  }
  return shards;
}

absl::StatusOr<std::set<std::string>> ShardsInFolder(const std::string& folder) {
  std::error_code error;
  std::filesystem::directory_iterator entries(folder, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat(folder, ": cannot list"));
  std::set<std::string> shards;
  for (const auto end = std::filesystem::directory_iterator(); entries != end && !error;
       entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (absl::EndsWith(name, ".safetensors")) shards.insert(name);
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat(folder, ": cannot list"));
  // Beside it there may be the same weights in another layout (consolidated.safetensors).
  if (shards.count(std::string(kSingleName)) > 0) return std::set{std::string(kSingleName)};
  if (shards.empty()) {
    return absl::NotFoundError(absl::StrCat(folder, ": has no .safetensors file"));
  }
  return shards;
}

absl::StatusOr<std::set<std::string>> FindShards(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/", kIndexName);
  KVEC_ASSIGN_OR_RETURN(const std::optional<json> index, ReadOptionalJsonFile(path));
  if (!index.has_value()) return ShardsInFolder(folder);
  absl::StatusOr<std::set<std::string>> shards = ShardsOfIndex(*index);
  if (!shards.ok()) return Annotate(shards.status(), path);
  if (shards->size() > kMaxShards) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": weight_map: names ", shards->size(),
                                                   " files, more than ", kMaxShards));
  }
  return shards;
}

// gemma3's norms multiply by 1 + weight; GGUF stores the sum, so that all families have one norm.
absl::Status AddOne(FileTensor& tensor, MappedModel::Parts& parts) {
  if (tensor.shape.size() != 1 || tensor.shape[0] > kMaxHiddenSize) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", tensor.name, ": has shape ",
                                                   ShapeText(tensor.shape),
                                                   ", a norm has one "
                                                   "dimension of at most ",
                                                   kMaxHiddenSize));
  }
  auto sums = std::make_unique<std::vector<float>>(tensor.shape[0]);
  Dequantize(tensor.type, tensor.data, absl::MakeSpan(*sums));
  for (float& value : *sums) value += 1.0f;
  tensor.type = TensorType::kF32;
  tensor.data = absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(sums->data()),
                                    sums->size() * sizeof(float));
  parts.converted.push_back(std::move(sums));
  return absl::OkStatus();
}

absl::Status ReadShard(const MappedFile& file, MappedModel::Parts& parts) {
  KVEC_ASSIGN_OR_RETURN(const std::vector<SafetensorsEntry> entries,
                        ParseSafetensors(file.bytes()));
  for (const SafetensorsEntry& entry : entries) {
    const std::optional<std::string> name = GgufTensorName(entry.name, parts.config.family);
    if (!name.has_value()) continue;
    if (*name == "output.weight" && parts.config.tie_word_embeddings) continue;
    KVEC_ASSIGN_OR_RETURN(FileTensor tensor, ToFileTensor(entry, *name));
    if (parts.config.family == ModelFamily::kGemma3 && absl::EndsWith(*name, "norm.weight")) {
      KVEC_RETURN_IF_ERROR(AddOne(tensor, parts));
    }
    parts.tensors.push_back(std::move(tensor));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadHfWeights(const std::string& folder, MappedModel::Parts& parts) {
  KVEC_ASSIGN_OR_RETURN(const std::set<std::string> shards, FindShards(folder));
  for (const std::string& shard : shards) {
    const std::string path = absl::StrCat(folder, "/", shard);
    KVEC_ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> file, MappedFile::Open(path));
    if (absl::Status status = ReadShard(*file, parts); !status.ok()) return Annotate(status, path);
    parts.files.push_back(std::move(file));
  }
  return Annotate(CheckDirectory(parts.tensors), folder);
}

}  // namespace kvec
