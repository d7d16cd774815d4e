#include "coordinator/text/tokenizer_json_writer.h"

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "common/status_macros.h"
#include "coordinator/text/byte_piece.h"
#include "coordinator/text/gguf_vocabulary.h"
#include "coordinator/text/named_pre_tokenizers.h"
#include "coordinator/text/utf8.h"
#include "nlohmann/json.hpp"

namespace kvec::coordinator::text {
namespace {

using nlohmann::json;

std::string Quote(absl::string_view text) {
  // Nearly all tokens, and many times faster.
  const bool is_plain = std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < ' ' || c == '"' || c == '\\';
  });
  if (is_plain) return absl::StrCat("\"", text, "\"");
  return json(std::string(text)).dump(-1, ' ', false, json::error_handler_t::replace);
}

bool IsUtf8(absl::string_view text) { return FindInvalidUtf8(text) == absl::string_view::npos; }

// The document's parts, each JSON text: as values of a library they would take a gigabyte.
class Writer {
 public:
  explicit Writer(const TokenizerData& data)
      : data_(data), is_byte_level_(data.kind == TokenizerData::Kind::kByteLevelBpe) {}

  absl::StatusOr<std::string> Write() {
    NamedPreTokenizer named;
    if (is_byte_level_) {
      KVEC_ASSIGN_OR_RETURN(named, FindPreTokenizer(data_.pre_tokenizer));
    }
    const std::string vocabulary = Vocabulary();
    const std::string merges = is_byte_level_ ? ByteLevelMerges() : SentencePieceMerges();
    const json unknown = is_byte_level_ ? json() : json(data_.tokens[UnknownId()]);
    return absl::StrCat(
        R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)", AddedTokens(),
        R"(],"normalizer":)", Normalizer(named).dump(), R"(,"pre_tokenizer":)",
        PreTokenizerSteps(named).dump(), R"(,"post_processor":)", PostProcessor().dump(),
        R"(,"decoder":)", Decoder().dump(),
        R"(,"model":{"type":"BPE","dropout":null,"continuing_subword_prefix":null,)",
        R"("end_of_word_suffix":null,"unk_token":)", unknown.dump(), R"(,"fuse_unk":)",
        json(!is_byte_level_).dump(), R"(,"byte_fallback":)", json(HasAllBytePieces()).dump(),
        R"(,"ignore_merges":)", json(named.ignore_merges).dump(), R"(,"vocab":{)", vocabulary,
        R"(},"merges":[)", merges, "]}}");
  }

 private:
  size_t num_tokens() const { return data_.tokens.size(); }

  // As it is looked up; user-defined pieces of SentencePiece are stored with plain spaces.
  std::string KeyOf(size_t id) const {
    if (is_byte_level_ || TokenTypeOf(data_, id) != TokenizerData::kUserDefined) {
      return data_.tokens[id];
    }
    return absl::StrReplaceAll(data_.tokens[id], {{" ", kSpaceSymbol}});
  }

  std::string Vocabulary() {
    absl::flat_hash_set<std::string> keys;
    std::string text;
    for (size_t id = 0; id < num_tokens(); ++id) {
      std::string key = KeyOf(id);
      // Of equal tokens only the first is ever found, by our tokenizer too.
      if (!IsUtf8(key) || !keys.insert(key).second) continue;
      absl::StrAppend(&text, text.empty() ? "" : ",", Quote(key), ":", id);
    }
    return text;
  }

  std::string AddedTokens() const {
    std::string text;
    for (size_t id = 0; id < num_tokens(); ++id) {
      const TokenizerData::TokenType type = TokenTypeOf(data_, id);
      const bool is_control = type == TokenizerData::kControl;
      if (!is_control && type != TokenizerData::kUserDefined) continue;
      if (!IsUtf8(data_.tokens[id])) continue;
      // Normalized: looked for where spaces are U+2581 already.
      const json token = {{"id", id},
                          {"content", KeyOf(id)},
                          {"single_word", false},
                          {"lstrip", false},
                          {"rstrip", false},
                          {"special", is_control},
                          {"normalized", !is_control && !is_byte_level_}};
      absl::StrAppend(&text, text.empty() ? "" : ",", token.dump());
    }
    return text;
  }

  std::string ByteLevelMerges() const {
    std::string text;
    for (const absl::string_view merge : data_.merges) {
      const size_t space = merge.find(' ', 1);  // checked when the file was read
      if (!IsUtf8(merge)) continue;
      absl::StrAppend(&text, text.empty() ? "[" : ",[", Quote(merge.substr(0, space)), ",",
                      Quote(merge.substr(space + 1)), "]");
    }
    return text;
  }

  // Every way to make a piece of two others; the best pieces first.
  std::string SentencePieceMerges() const {
    absl::flat_hash_map<absl::string_view, int32_t> ids;
    for (size_t id = 0; id < num_tokens(); ++id) {
      const std::string& piece = data_.tokens[id];
      if (TokenTypeOf(data_, id) != TokenizerData::kNormal || id == UnknownId()) continue;
      if (!piece.empty() && IsUtf8(piece)) ids.try_emplace(piece, static_cast<int32_t>(id));
    }
    std::vector<int32_t> pieces;
    for (const auto& [piece, id] : ids) pieces.push_back(id);
    std::sort(pieces.begin(), pieces.end(), [&](int32_t a, int32_t b) {
      return std::make_pair(-data_.scores[a], a) < std::make_pair(-data_.scores[b], b);
    });
    std::string text;
    for (const int32_t id : pieces) {
      const absl::string_view piece = data_.tokens[id];
      std::vector<std::tuple<int32_t, int32_t, size_t>> ways;  // left, right, bytes of left
      for (size_t cut = CharacterLength(piece[0]); cut < piece.size();
           cut += CharacterLength(piece[cut])) {
        const auto left = ids.find(piece.substr(0, cut));
        const auto right = ids.find(piece.substr(cut));
        if (left == ids.end() || right == ids.end()) continue;
        ways.emplace_back(left->second, right->second, cut);
      }
      std::sort(ways.begin(), ways.end());
      for (const auto& [left, right, cut] : ways) {
        absl::StrAppend(&text, text.empty() ? "[" : ",[", Quote(piece.substr(0, cut)), ",",
                        Quote(piece.substr(cut)), "]");
      }
    }
    return text;
  }

  json Normalizer(const NamedPreTokenizer& named) const {
    if (is_byte_level_) return named.nfc ? json{{"type", "NFC"}} : json();
    const std::string space(kSpaceSymbol);
    const json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", space}};
    if (!data_.add_space_prefix) return replace;
    return {{"type", "Sequence"},
            {"normalizers", {{{"type", "Prepend"}, {"prepend", space}}, replace}}};
  }

  json PreTokenizerSteps(const NamedPreTokenizer& named) const {
    if (!is_byte_level_) return nullptr;
    json steps = json::array();
    for (const SplitRule& rule : named.rules) {  // all of these isolate what matches
      steps.push_back({{"type", "Split"},
                       {"pattern", {{"Regex", rule.pattern}}},
                       {"behavior", "Isolated"},
                       {"invert", false}});
    }
    steps.push_back(ByteLevel());
    return {{"type", "Sequence"}, {"pretokenizers", steps}};
  }

  static json ByteLevel() {
    return {{"type", "ByteLevel"},
            {"add_prefix_space", false},
            {"trim_offsets", true},
            {"use_regex", false}};
  }

  // Puts BOS and EOS around a text where the model asks for them.
  json PostProcessor() const {
    if (!data_.add_bos && !data_.add_eos) return nullptr;
    json single = json::array();
    json tokens = json::object();
    const auto add = [&](int32_t id) {
      const std::string& token = data_.tokens[id];
      single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
      tokens[token] = {{"id", token}, {"ids", {id}}, {"tokens", {token}}};
    };
    if (data_.add_bos) add(*data_.bos_id);
    single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
    if (data_.add_eos) add(data_.eos_ids[0]);
    json pair = single;
    pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
    return {{"type", "TemplateProcessing"},
            {"single", single},
            {"pair", pair},
            {"special_tokens", tokens}};
  }

  json Decoder() const {
    if (is_byte_level_) return ByteLevel();
    json steps = {{{"type", "Replace"},
                   {"pattern", {{"String", std::string(kSpaceSymbol)}}},
                   {"content", " "}},
                  {{"type", "ByteFallback"}},
                  {{"type", "Fuse"}}};
    if (data_.add_space_prefix) {
      steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    }
    return {{"type", "Sequence"}, {"decoders", steps}};
  }

  bool HasAllBytePieces() const {
    return std::count(data_.token_types.begin(), data_.token_types.end(), TokenizerData::kByte) ==
           256;
  }

  size_t UnknownId() const {
    if (data_.unknown_id.has_value()) return static_cast<size_t>(*data_.unknown_id);
    const auto found =
        std::find(data_.token_types.begin(), data_.token_types.end(), TokenizerData::kUnknown);
    return static_cast<size_t>(found - data_.token_types.begin());
  }

  const TokenizerData& data_;
  const bool is_byte_level_;
};

}  // namespace

absl::StatusOr<std::string> WriteTokenizerJson(const TokenizerData& data) {
  // So that the writer can rely on ids and sizes.
  KVEC_RETURN_IF_ERROR(Tokenizer::Create(data).status());
  if (!data.tokenizer_json.empty()) return data.tokenizer_json;
  return Writer(data).Write();
}

}  // namespace kvec::coordinator::text
