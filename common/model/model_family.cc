#include "common/model/model_config.h"

namespace kvec {

absl::string_view ModelFamilyName(ModelFamily family) {
  switch (family) {
    case ModelFamily::kLlama:
      return "llama";
    case ModelFamily::kQwen2:
      return "qwen2";
    case ModelFamily::kQwen3:
      return "qwen3";
    case ModelFamily::kGemma3:
      return "gemma3";
  }
  return "unknown";
}

absl::string_view KnownModelFamilyNames() { return "llama (also Mistral), qwen2, qwen3, gemma3"; }

}  // namespace kvec
