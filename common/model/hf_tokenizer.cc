#include "common/model/hf_tokenizer.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/model/end_tokens.h"
#include "common/model/error_text.h"
#include "common/model/json.h"
#include "common/model/json_fields.h"
#include "common/model/json_file.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

using nlohmann::json;

constexpr size_t kMaxTokenizerBytes = 256 << 20;
constexpr size_t kMaxTemplateBytes = 16 << 20;

using TokenIds = absl::flat_hash_map<std::string, int32_t>;

absl::StatusOr<int32_t> ReadId(const json& value, absl::string_view field, int vocab_size) {
  int64_t id = 0;
  if (LoadInteger(value, id) && id >= 0 && id < vocab_size) return static_cast<int32_t>(id);
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": is ", value.is_structured() ? value.type_name() : Quoted(value.dump()),
                   ", must be a token id in 0 … ", vocab_size - 1));
}

// The special tokens that tokenizer.json lists beside its vocabulary.
absl::StatusOr<TokenIds> ReadSpecialTokens(const JsonFields& tokenizer, int vocab_size) {
  TokenIds ids;
  const json* tokens = tokenizer.Find("added_tokens");
  if (tokens == nullptr) return ids;
  if (!tokens->is_array()) return tokenizer.WrongValue("added_tokens", *tokens, "an array");
  for (const json& token : *tokens) {
    KVEC_ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(token, "added_tokens[]."));
    KVEC_ASSIGN_OR_RETURN(const std::string content, fields.String("content"));
    KVEC_ASSIGN_OR_RETURN(const int64_t id, fields.Int("id", 0, INT32_MAX));
    // Some tokenizers list more tokens than the model has embeddings; those are never used.
    if (id < vocab_size) ids.emplace(content, static_cast<int32_t>(id));
  }
  return ids;
}

// A token of tokenizer_config.json: its text, or an object with the text as `content`.
std::optional<int32_t> FindToken(const json* value, const TokenIds& special_tokens) {
  if (value != nullptr && value->is_object()) {
    const auto content = value->find("content");
    value = content == value->end() ? nullptr : &*content;
  }
  if (value == nullptr || !value->is_string()) return std::nullopt;
  const auto it = special_tokens.find(value->get_ref<const std::string&>());
  if (it == special_tokens.end()) return std::nullopt;
  return it->second;
}

// eos_token_id: one id or a list.
absl::Status AppendIds(const JsonFields& fields, absl::string_view field, int vocab_size,
                       std::vector<int32_t>& ids) {
  const json* value = fields.Find(field);
  if (value == nullptr) return absl::OkStatus();
  const json list = value->is_array() ? *value : json::array({*value});
  for (const json& element : list) {
    KVEC_ASSIGN_OR_RETURN(const int32_t id, ReadId(element, fields.Name(field), vocab_size));
    ids.push_back(id);
  }
  return absl::OkStatus();
}

// Whether the post-processor puts the token `bos` first: a TemplateProcessing whose `single` begins
// with it, alone or in a Sequence.
bool TemplateBeginsWith(const json& processor, const std::string& bos) {
  if (!processor.is_object()) return false;
  const json type = processor.value("type", json());
  if (type == "Sequence") {
    for (const json& part : processor.value("processors", json::array())) {
      if (TemplateBeginsWith(part, bos)) return true;
    }
    return false;
  }
  const json single = processor.value("single", json());
  if (type != "TemplateProcessing" || !single.is_array() || single.empty()) return false;
  const json& first = single.front();
  if (!first.is_object()) return false;
  const json special = first.value("SpecialToken", json());
  return special.is_object() && special.value("id", json()) == bos;
}

// tokenizer_config.json's chat_template: the template, or a list of named ones.
absl::StatusOr<std::string> ReadChatTemplate(const JsonFields& tokenizer_config) {
  const json* value = tokenizer_config.Find("chat_template");
  if (value == nullptr) return std::string();
  if (!value->is_array()) return tokenizer_config.String("chat_template");
  for (const json& named : *value) {
    KVEC_ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(named, "chat_template[]."));
    KVEC_ASSIGN_OR_RETURN(const std::string name, fields.String("name"));
    if (name == "default") return fields.String("template");
  }
  return std::string();
}

absl::Status ReadTemplate(const std::string& folder, const JsonFields& tokenizer_config,
                          TokenizerData& data) {
  absl::StatusOr<std::string> file =
      ReadTextFile(absl::StrCat(folder, "/chat_template.jinja"), kMaxTemplateBytes);
  if (file.ok()) {
    data.chat_template = *std::move(file);
    return absl::OkStatus();
  }
  if (!absl::IsNotFound(file.status())) return file.status();
  KVEC_ASSIGN_OR_RETURN(data.chat_template, ReadChatTemplate(tokenizer_config));
  return absl::OkStatus();
}

absl::Status ReadBos(const JsonFields& tokenizer_config, const JsonFields& config,
                     const JsonFields& tokenizer, const TokenIds& special_tokens, int vocab_size,
                     TokenizerData& data) {
  data.bos_id = FindToken(tokenizer_config.Find("bos_token"), special_tokens);
  if (const json* id = config.Find("bos_token_id"); id != nullptr && !data.bos_id.has_value()) {
    KVEC_ASSIGN_OR_RETURN(data.bos_id, ReadId(*id, "bos_token_id", vocab_size));
  }
  bool in_template = false;
  if (const json* processor = tokenizer.Find("post_processor")) {
    for (const auto& [content, id] : special_tokens) {
      if (data.bos_id == id) in_template = in_template || TemplateBeginsWith(*processor, content);
    }
  }
  KVEC_ASSIGN_OR_RETURN(data.add_bos, tokenizer_config.BoolOr("add_bos_token", in_template));
  return absl::OkStatus();
}

absl::Status ReadEndIds(const JsonFields& generation_config, const JsonFields& config,
                        const JsonFields& tokenizer_config, const TokenIds& special_tokens,
                        int vocab_size, TokenizerData& data) {
  const JsonFields& stated = generation_config.Has("eos_token_id") ? generation_config : config;
  KVEC_RETURN_IF_ERROR(AppendIds(stated, "eos_token_id", vocab_size, data.eos_ids));
  if (const auto id = FindToken(tokenizer_config.Find("eos_token"), special_tokens)) {
    data.eos_ids.push_back(*id);
  }
  for (const auto& [content, id] : special_tokens) {
    if (IsEndToken(content)) data.eos_ids.push_back(id);
  }
  SortAndDeduplicate(data.eos_ids);
  return absl::OkStatus();
}

absl::StatusOr<json> ReadOrEmpty(const std::string& path) {
  KVEC_ASSIGN_OR_RETURN(std::optional<json> document, ReadOptionalJsonFile(path));
  return std::move(document).value_or(json::object());
}

}  // namespace

absl::StatusOr<TokenizerData> ReadHfTokenizer(const std::string& folder, const json& config_json,
                                              int vocab_size) {
  TokenizerData data;
  const std::string path = absl::StrCat(folder, "/tokenizer.json");
  KVEC_ASSIGN_OR_RETURN(data.tokenizer_json, ReadTextFile(path, kMaxTokenizerBytes));
  // The vocabulary itself is for coordinator/text to read.
  absl::StatusOr<json> tokenizer_json = ParseJson(data.tokenizer_json, "model");
  if (!tokenizer_json.ok()) return Annotate(tokenizer_json.status(), path);
  KVEC_ASSIGN_OR_RETURN(const json tokenizer_config_json,
                        ReadOrEmpty(absl::StrCat(folder, "/tokenizer_config.json")));
  KVEC_ASSIGN_OR_RETURN(const json generation_config_json,
                        ReadOrEmpty(absl::StrCat(folder, "/generation_config.json")));

  KVEC_ASSIGN_OR_RETURN(const JsonFields tokenizer,
                        JsonFields::Of(*tokenizer_json, "tokenizer.json: "));
  KVEC_ASSIGN_OR_RETURN(const JsonFields tokenizer_config,
                        JsonFields::Of(tokenizer_config_json, "tokenizer_config.json: "));
  KVEC_ASSIGN_OR_RETURN(const JsonFields generation_config,
                        JsonFields::Of(generation_config_json, "generation_config.json: "));
  KVEC_ASSIGN_OR_RETURN(const JsonFields config, JsonFields::Of(config_json, "config.json: "));

  KVEC_ASSIGN_OR_RETURN(const TokenIds special_tokens, ReadSpecialTokens(tokenizer, vocab_size));
  KVEC_RETURN_IF_ERROR(ReadTemplate(folder, tokenizer_config, data));
  KVEC_RETURN_IF_ERROR(
      ReadBos(tokenizer_config, config, tokenizer, special_tokens, vocab_size, data));
  KVEC_RETURN_IF_ERROR(
      ReadEndIds(generation_config, config, tokenizer_config, special_tokens, vocab_size, data));
  return data;
}

}  // namespace kvec
