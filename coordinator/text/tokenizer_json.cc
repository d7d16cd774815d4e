#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/model/error_text.h"
#include "common/model/json.h"
#include "common/model/json_fields.h"
#include "common/status_macros.h"
#include "coordinator/text/bpe_model.h"
#include "coordinator/text/byte_alphabet.h"
#include "coordinator/text/byte_piece.h"
#include "coordinator/text/tokenizer_json_model.h"
#include "coordinator/text/tokenizer_json_steps.h"
#include "coordinator/text/vocabulary.h"

namespace kvec::coordinator::text {
namespace {

using nlohmann::json;
using IdByToken = absl::flat_hash_map<std::string, int32_t>;

// A vocabulary may have holes, but none that make it much larger than its file.
constexpr size_t kMaxMissingIds = 65536;

absl::Status CheckModel(const JsonFields& model) {
  KVEC_ASSIGN_OR_RETURN(const std::string type, model.String("type"));
  if (type != "BPE") {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.json: model.type ", Quoted(type), " is not supported; known: BPE"));
  }
  for (const char* field : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    KVEC_ASSIGN_OR_RETURN(const std::string affix, model.StringOr(field, ""));
    if (!affix.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.json: model.", field, " ", Quoted(affix), " is not supported"));
    }
  }
  return absl::OkStatus();
}

// A token that the tokenizer finds in the text by itself, before the model sees the rest.
struct AddedToken {
  int32_t id;
  std::string content;
  bool special;
};

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(const JsonFields& tokenizer) {
  std::vector<AddedToken> added;
  const json* list = tokenizer.Find("added_tokens");
  if (list == nullptr) return added;
  if (!list->is_array()) return tokenizer.WrongValue("added_tokens", *list, "an array");
  for (const json& value : *list) {
    const std::string context = absl::StrCat("added_tokens[", added.size(), "].");
    KVEC_ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(value, context));
    KVEC_ASSIGN_OR_RETURN(const int64_t id, fields.Int("id", 0, INT32_MAX));
    KVEC_ASSIGN_OR_RETURN(std::string content, fields.String("content"));
    KVEC_ASSIGN_OR_RETURN(const bool special, fields.BoolOr("special", false));
    for (const char* option : {"single_word", "lstrip", "rstrip"}) {
      KVEC_ASSIGN_OR_RETURN(const bool is_set, fields.BoolOr(option, false));
      if (is_set) return fields.WrongValue(option, true, "false: it is not supported");
    }
    added.push_back({static_cast<int32_t>(id), std::move(content), special});
  }
  return added;
}

absl::Status CheckIds(const TokenizerJsonModel& model, const std::vector<AddedToken>& added,
                      size_t& vocab_size) {
  int64_t max_id = -1;
  for (const auto& [token, id] : model.vocabulary) max_id = std::max<int64_t>(max_id, id);
  for (const AddedToken& token : added) max_id = std::max<int64_t>(max_id, token.id);
  vocab_size = static_cast<size_t>(max_id + 1);
  const size_t num_tokens = model.vocabulary.size() + added.size();
  if (vocab_size == 0) return absl::InvalidArgumentError("tokenizer.json: model.vocab is empty");
  if (vocab_size > num_tokens + kMaxMissingIds) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: the largest id is ", max_id,
                                                   ", but there are only ", num_tokens, " tokens"));
  }
  return absl::OkStatus();
}

absl::StatusOr<MergeTable> MakeMerges(const TokenizerJsonModel& model, const IdByToken& ids) {
  MergeTable merges;
  merges.Reserve(model.merges.size());
  for (size_t i = 0; i < model.merges.size(); ++i) {
    const auto& [left, right] = model.merges[i];
    const auto left_id = ids.find(left);
    const auto right_id = ids.find(right);
    const auto merged_id = ids.find(absl::StrCat(left, right));
    if (left_id == ids.end() || right_id == ids.end() || merged_id == ids.end()) {
      return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: model.merges[", i,
                                                     "]: ", Quoted(left), " and ", Quoted(right),
                                                     " are not made of and into known tokens"));
    }
    merges.Add(left_id->second, right_id->second, merged_id->second);
  }
  return merges;
}

// The bytes that a token adds to a text.
absl::StatusOr<std::string> BytesOf(const std::string& token, bool is_byte_level,
                                    bool byte_fallback) {
  if (is_byte_level) return AlphabetToBytes(token).value_or(token);
  if (byte_fallback) {
    if (const auto byte = ParseBytePiece(token); byte.ok()) return std::string(1, *byte);
  }
  return absl::StrReplaceAll(token, {{kSpaceSymbol, " "}});
}

class Loader {
 public:
  absl::StatusOr<VocabularyAndModel> Load(const TokenizerData& data) && {
    KVEC_ASSIGN_OR_RETURN(const json document, ParseJson(data.tokenizer_json, "model"));
    KVEC_ASSIGN_OR_RETURN(const JsonFields tokenizer, JsonFields::Of(document, "tokenizer.json: "));
    KVEC_ASSIGN_OR_RETURN(model_, ReadTokenizerJsonModel(data.tokenizer_json));
    KVEC_ASSIGN_OR_RETURN(const JsonFields fields,
                          JsonFields::Of(model_.fields, "tokenizer.json: model."));
    KVEC_RETURN_IF_ERROR(CheckModel(fields));
    KVEC_RETURN_IF_ERROR(ReadSteps(tokenizer));
    KVEC_RETURN_IF_ERROR(ReadOptions(fields));
    KVEC_ASSIGN_OR_RETURN(const std::vector<AddedToken> added, ReadAddedTokens(tokenizer));
    KVEC_RETURN_IF_ERROR(ReadVocabulary(data, added));
    return VocabularyAndModel{std::move(vocabulary_),
                              std::make_unique<BpeModel>(std::move(options_))};
  }

 private:
  absl::Status ReadSteps(const JsonFields& tokenizer) {
    const json* normalizer = tokenizer.Find("normalizer");
    const json* pre_tokenizer = tokenizer.Find("pre_tokenizer");
    KVEC_ASSIGN_OR_RETURN(
        TokenizerJsonSteps steps,
        ReadTokenizerJsonSteps(normalizer == nullptr ? json() : *normalizer,
                               pre_tokenizer == nullptr ? json() : *pre_tokenizer));
    options_.symbols =
        steps.is_byte_level ? BpeModel::Symbols::kBytes : BpeModel::Symbols::kCharacters;
    options_.normalizer = std::move(steps.normalizer);
    vocabulary_.add_space_prefix =
        std::any_of(options_.normalizer.begin(), options_.normalizer.end(),
                    [](const NormalizerStep& step) { return AddsPrefix(step.kind); });
    KVEC_ASSIGN_OR_RETURN(options_.pre_tokenizer, PreTokenizer::Create(steps.rules));
    return absl::OkStatus();
  }

  absl::Status ReadOptions(const JsonFields& fields) {
    KVEC_ASSIGN_OR_RETURN(options_.ignore_merges, fields.BoolOr("ignore_merges", false));
    KVEC_ASSIGN_OR_RETURN(options_.fuse_unknown, fields.BoolOr("fuse_unk", false));
    KVEC_ASSIGN_OR_RETURN(byte_fallback_, fields.BoolOr("byte_fallback", false));
    KVEC_ASSIGN_OR_RETURN(unknown_token_, fields.StringOr("unk_token", ""));
    return absl::OkStatus();
  }

  absl::Status ReadVocabulary(const TokenizerData& data, const std::vector<AddedToken>& added) {
    size_t vocab_size = 0;
    KVEC_RETURN_IF_ERROR(CheckIds(model_, added, vocab_size));
    vocabulary_.token_bytes.resize(vocab_size);
    vocabulary_.is_control.resize(vocab_size);
    vocabulary_.bos_id = data.bos_id;
    vocabulary_.eos_ids = data.eos_ids;
    vocabulary_.add_bos = data.add_bos;
    KVEC_RETURN_IF_ERROR(CheckSpecialIds(vocabulary_));
    KVEC_RETURN_IF_ERROR(ReadModelTokens());
    const bool is_byte_level = options_.symbols == BpeModel::Symbols::kBytes;
    for (const AddedToken& token : added) {
      vocabulary_.token_bytes[token.id] =
          is_byte_level ? token.content : absl::StrReplaceAll(token.content, {{kSpaceSymbol, " "}});
      vocabulary_.is_control[token.id] = token.special;
      using Kind = SpecialTokenMatcher::Kind;
      KVEC_RETURN_IF_ERROR(vocabulary_.special_tokens.Add(
          token.content, token.id, token.special ? Kind::kControl : Kind::kUserDefined));
    }
    return absl::OkStatus();
  }

  // Pieces are looked up by the text that they stand for; merges are written with the stored
  // tokens.
  absl::Status ReadModelTokens() {
    const bool is_byte_level = options_.symbols == BpeModel::Symbols::kBytes;
    IdByToken ids(model_.vocabulary.begin(), model_.vocabulary.end());
    for (const auto& [token, id] : model_.vocabulary) {
      KVEC_ASSIGN_OR_RETURN(vocabulary_.token_bytes[id],
                            BytesOf(token, is_byte_level, byte_fallback_));
    }
    for (int byte = 0; byte < 256; ++byte) {
      options_.byte_ids[byte] = -1;
      if (!is_byte_level && !byte_fallback_) continue;
      const auto value = static_cast<uint8_t>(byte);
      const auto found = ids.find(is_byte_level ? ByteToAlphabet(value) : BytePiece(value));
      if (found != ids.end()) options_.byte_ids[byte] = found->second;
    }
    if (const auto unknown = ids.find(unknown_token_); unknown != ids.end()) {
      options_.unknown_id = unknown->second;
    }
    KVEC_ASSIGN_OR_RETURN(options_.merges, MakeMerges(model_, ids));
    if (!is_byte_level) {
      options_.vocabulary = std::move(ids);
    } else if (options_.ignore_merges) {
      for (const auto& [token, id] : model_.vocabulary) {
        options_.vocabulary.try_emplace(vocabulary_.token_bytes[id], id);
      }
    }
    return absl::OkStatus();
  }

  TokenizerJsonModel model_;
  bool byte_fallback_ = false;
  std::string unknown_token_;
  BpeModel::Options options_;
  Vocabulary vocabulary_;
};

}  // namespace

absl::StatusOr<VocabularyAndModel> LoadTokenizerJson(const TokenizerData& data) {
  return Loader().Load(data);
}

}  // namespace kvec::coordinator::text
