#include "tests/worker/model/golden_file.h"

#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace kvec {
namespace {

using nlohmann::json;

Golden::Generation ParseGeneration(const json& value) {
  Golden::Generation generation;
  value.at("prompt_ids").get_to(generation.prompt_ids);
  value.at("prompt_logprobs").get_to(generation.prompt_logprobs);
  value.at("generated_ids").get_to(generation.generated_ids);
  for (const json& step : value.at("top_logprobs")) {
    std::vector<Golden::TokenLogProb>& best = generation.top_logprobs.emplace_back();
    for (const json& token : step) {
      best.push_back({token.at(0).get<int32_t>(), token.at(1).get<double>()});
    }
  }
  return generation;
}

Golden ParseGolden(const json& value) {
  Golden golden;
  value.at("model").get_to(golden.model);
  for (const json& item : value.at("tokenize")) {
    golden.tokenize.push_back(
        {item.at("text").get<std::string>(), item.at("ids").get<std::vector<int32_t>>()});
  }
  for (const json& item : value.at("generate")) {
    golden.generate.push_back(ParseGeneration(item));
  }
  return golden;
}

absl::Status CheckLengths(const Golden& golden) {
  for (size_t i = 0; i < golden.generate.size(); ++i) {
    const Golden::Generation& generation = golden.generate[i];
    if (generation.prompt_logprobs.size() + 1 != generation.prompt_ids.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("generate[", i, "].prompt_logprobs: ", generation.prompt_logprobs.size(),
                       " values for a prompt of ", generation.prompt_ids.size(), " tokens"));
    }
    if (generation.top_logprobs.size() != generation.generated_ids.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("generate[", i, "].top_logprobs: ", generation.top_logprobs.size(),
                       " steps for ", generation.generated_ids.size(), " generated tokens"));
    }
  }
  return absl::OkStatus();
}

std::string TinyModelsFolder() { return absl::StrCat(KVEC_SOURCE_DIR, "/tests/worker/model/tiny"); }

}  // namespace

std::vector<std::string> TinyModelNames() {
  return {"gemma3", "llama", "llama3", "mistral", "qwen2", "qwen3"};
}

std::string TinyModelFolder(const std::string& name) {
  return absl::StrCat(TinyModelsFolder(), "/", name);
}

absl::StatusOr<Golden> ReadTinyModelGolden(const std::string& name) {
  return ReadGoldenFile(absl::StrCat(TinyModelsFolder(), "/", name, ".json"));
}

absl::StatusOr<Golden> ReadGoldenFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be opened"));
  Golden golden;
  // The only way to learn what nlohmann::json dislikes; the exception ends here.
  try {
    golden = ParseGolden(json::parse(file));
  } catch (const json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.what()));
  }
  if (absl::Status status = CheckLengths(golden); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", std::string(status.message())));
  }
  return golden;
}

}  // namespace kvec
