#include "common/model/hf_model.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/model/error_text.h"
#include "common/model/hf_config.h"
#include "common/model/hf_tokenizer.h"
#include "common/model/hf_weights.h"
#include "common/model/json_file.h"
#include "common/model/mapped_model.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

// "models/SmolLM2/" is SmolLM2.
std::string FolderName(const std::string& folder) {
  const std::filesystem::path path = std::filesystem::path(folder).lexically_normal();
  return path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelFiles>> OpenHfModel(const std::string& folder) {
  MappedModel::Parts parts;
  const std::string config_path = absl::StrCat(folder, "/config.json");
  KVEC_ASSIGN_OR_RETURN(const nlohmann::json config_json, ReadJsonFile(config_path));
  absl::StatusOr<ModelConfig> config = ReadHfConfig(config_json);
  if (!config.ok()) return Annotate(config.status(), config_path);
  parts.config = *std::move(config);
  parts.config.name = FolderName(folder);

  KVEC_RETURN_IF_ERROR(ReadHfWeights(folder, parts));
  absl::StatusOr<TokenizerData> tokenizer =
      ReadHfTokenizer(folder, config_json, parts.config.vocab_size);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), folder);
  parts.tokenizer = *std::move(tokenizer);

  absl::StatusOr<std::unique_ptr<ModelFiles>> model = MappedModel::Create(std::move(parts));
  if (!model.ok()) return Annotate(model.status(), folder);
  return model;
}

}  // namespace kvec
