#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/text/bpe_model.h"
#include "coordinator/text/byte_alphabet.h"
#include "coordinator/text/gguf_vocabulary.h"
#include "coordinator/text/named_pre_tokenizers.h"
#include "coordinator/text/vocabulary.h"

namespace kvec::coordinator::text {
namespace {

using IdByToken = absl::flat_hash_map<absl::string_view, int32_t>;

absl::StatusOr<MergeTable> ReadMerges(const TokenizerData& data, const IdByToken& ids) {
  MergeTable merges;
  merges.Reserve(data.merges.size());
  std::string merged;
  for (size_t i = 0; i < data.merges.size(); ++i) {
    const absl::string_view merge = data.merges[i];
    // From 1: the left symbol is not empty, and in some old vocabularies it is a space.
    const size_t space = merge.find(' ', 1);
    if (space == absl::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.merges[", i, "]: \"", merge, "\" has no two symbols"));
    }
    const absl::string_view left = merge.substr(0, space);
    const absl::string_view right = merge.substr(space + 1);
    merged.assign(left.data(), left.size());
    merged.append(right.data(), right.size());
    const auto left_id = ids.find(left);
    const auto right_id = ids.find(right);
    const auto merged_id = ids.find(merged);
    if (left_id == ids.end() || right_id == ids.end() || merged_id == ids.end()) {
      return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.merges[", i, "]: \"", merge,
                                                     "\" is not made of and into known tokens"));
    }
    merges.Add(left_id->second, right_id->second, merged_id->second);
  }
  return merges;
}

}  // namespace

absl::StatusOr<VocabularyAndModel> LoadByteLevelBpe(const TokenizerData& data) {
  KVEC_ASSIGN_OR_RETURN(Vocabulary vocabulary, ReadGgufVocabulary(data));
  KVEC_ASSIGN_OR_RETURN(NamedPreTokenizer named, FindPreTokenizer(data.pre_tokenizer));
  KVEC_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::Create(named.rules));
  BpeModel::Options options = {.symbols = BpeModel::Symbols::kBytes,
                               .pre_tokenizer = std::move(pre_tokenizer),
                               .ignore_merges = named.ignore_merges};
  if (named.nfc) options.normalizer.push_back({NormalizerStep::Kind::kNfc});

  IdByToken ids;
  ids.reserve(data.tokens.size());
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const TokenizerData::TokenType type = TokenTypeOf(data, i);
    if (type == TokenizerData::kUserDefined) {
      KVEC_RETURN_IF_ERROR(vocabulary.special_tokens.Add(data.tokens[i], id,
                                                         SpecialTokenMatcher::Kind::kUserDefined));
    }
    if (type != TokenizerData::kNormal) continue;
    ids.try_emplace(data.tokens[i], id);
    std::optional<std::string> bytes = AlphabetToBytes(data.tokens[i]);
    if (!bytes.has_value()) continue;
    if (named.ignore_merges) options.vocabulary.try_emplace(*bytes, id);
    vocabulary.token_bytes[i] = *std::move(bytes);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids.find(ByteToAlphabet(static_cast<uint8_t>(byte)));
    options.byte_ids[byte] = found == ids.end() ? -1 : found->second;
  }
  KVEC_ASSIGN_OR_RETURN(options.merges, ReadMerges(data, ids));
  return VocabularyAndModel{std::move(vocabulary), std::make_unique<BpeModel>(std::move(options))};
}

}  // namespace kvec::coordinator::text
