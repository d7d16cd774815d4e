#include "coordinator/server/vllm/tokenizer_bundle.h"

#include <vector>

#include "common/status_macros.h"
#include "coordinator/server/vllm/zip_archive.h"
#include "coordinator/text/tokenizer_json_writer.h"
#include "nlohmann/json.hpp"

namespace kvec::coordinator::server::vllm {
namespace {

using nlohmann::json;

std::string Text(const json& document) {
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string TokenText(const text::Tokenizer& tokenizer, int32_t id) {
  return std::string(tokenizer.TokenBytes(id));
}

std::string TokenizerConfig(const TokenizerData& data, const text::Tokenizer& tokenizer,
                            const ModelConfig& config) {
  json document = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                   {"model_max_length", config.context_length},
                   {"add_bos_token", data.add_bos},
                   {"add_eos_token", data.add_eos},
                   {"clean_up_tokenization_spaces", false}};
  if (!data.chat_template.empty()) document["chat_template"] = data.chat_template;
  if (const auto bos = tokenizer.bos_id()) document["bos_token"] = TokenText(tokenizer, *bos);
  if (!tokenizer.eos_ids().empty()) {
    document["eos_token"] = TokenText(tokenizer, tokenizer.eos_ids()[0]);
  }
  return Text(document);
}

std::string Config(const text::Tokenizer& tokenizer, const ModelConfig& config) {
  const FamilyNames names = NamesOf(config.family);
  json document = {{"model_type", std::string(names.model_type)},
                   {"architectures", json::array({std::string(names.architecture)})},
                   {"vocab_size", config.vocab_size},
                   {"max_position_embeddings", config.context_length},
                   {"num_hidden_layers", config.num_layers},
                   {"hidden_size", config.hidden_size},
                   {"intermediate_size", config.intermediate_size},
                   {"num_attention_heads", config.num_heads},
                   {"num_key_value_heads", config.num_kv_heads},
                   {"head_dim", config.head_dim},
                   {"tie_word_embeddings", config.tie_word_embeddings}};
  if (const auto bos = tokenizer.bos_id()) document["bos_token_id"] = *bos;
  const absl::Span<const int32_t> eos = tokenizer.eos_ids();
  if (!eos.empty()) document["eos_token_id"] = std::vector<int32_t>(eos.begin(), eos.end());
  return Text(document);
}

}  // namespace

FamilyNames NamesOf(ModelFamily family) {
  switch (family) {
    case ModelFamily::kLlama:
      return {"llama", "LlamaForCausalLM"};
    case ModelFamily::kQwen2:
      return {"qwen2", "Qwen2ForCausalLM"};
    case ModelFamily::kQwen3:
      return {"qwen3", "Qwen3ForCausalLM"};
    case ModelFamily::kGemma3:
      return {"gemma3_text", "Gemma3ForCausalLM"};
  }
  return {};
}

absl::StatusOr<std::string> MakeTokenizerBundle(const TokenizerData& data,
                                                const text::Tokenizer& tokenizer,
                                                const ModelConfig& config) {
  KVEC_ASSIGN_OR_RETURN(std::string tokenizer_json, text::WriteTokenizerJson(data));
  return ZipArchive({{"tokenizer.json", std::move(tokenizer_json)},
                     {"tokenizer_config.json", TokenizerConfig(data, tokenizer, config)},
                     {"config.json", Config(tokenizer, config)}});
}

}  // namespace kvec::coordinator::server::vllm
