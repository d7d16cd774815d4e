#include "coordinator/text/tokenizer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/text/incremental_detokenizer.h"
#include "coordinator/text/utf8.h"
#include "coordinator/text/vocabulary.h"

namespace kvec::coordinator::text {
namespace {

class VocabularyTokenizer final : public Tokenizer {
 public:
  explicit VocabularyTokenizer(VocabularyAndModel parts)
      : vocabulary_(std::move(parts.vocabulary)), model_(std::move(parts.model)) {
    size_t longest = 0;
    for (const std::string& bytes : vocabulary_.token_bytes) {
      longest = std::max(longest, bytes.size());
    }
    max_bytes_per_token_ = longest * model_->max_shrink();
  }

  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                              const EncodeOptions& options) const override {
    if (text.size() > std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError(absl::StrCat("text: ", text.size(), " bytes"));
    }
    KVEC_RETURN_IF_ERROR(CheckLength(text, options.max_tokens));
    if (const size_t offset = FindInvalidUtf8(text); offset != absl::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrCat("text: byte ", offset, " is not valid UTF-8"));
    }
    std::vector<int32_t> ids;
    if (options.add_special && vocabulary_.add_bos) ids.push_back(*vocabulary_.bos_id);
    size_t done = 0;
    while (done < text.size()) {
      const auto special = vocabulary_.special_tokens.Next(text, done, options);
      const size_t end = special.has_value() ? special->begin : text.size();
      if (end > done) {
        const Place place = done == 0 ? Place::kStart : Place::kBehindSpecialToken;
        KVEC_RETURN_IF_ERROR(model_->Encode(text.substr(done, end - done), place, ids));
      }
      if (!special.has_value()) break;
      ids.push_back(special->id);
      done = special->end;
    }
    if (options.add_special && vocabulary_.add_eos) ids.push_back(vocabulary_.eos_ids[0]);
    return ids;
  }

  absl::string_view TokenBytes(int32_t id) const override {
    return id < vocab_size() ? vocabulary_.token_bytes[id] : absl::string_view();
  }
  bool IsSpecial(int32_t id) const override {
    return id < vocab_size() && vocabulary_.is_control[id];
  }
  int vocab_size() const override { return static_cast<int>(vocabulary_.token_bytes.size()); }
  std::optional<int32_t> bos_id() const override { return vocabulary_.bos_id; }
  absl::Span<const int32_t> eos_ids() const override { return vocabulary_.eos_ids; }
  bool adds_space_prefix() const override { return vocabulary_.add_space_prefix; }

 private:
  absl::Status CheckLength(absl::string_view text, size_t max_tokens) const {
    if (max_tokens == 0 || max_bytes_per_token_ == 0) return absl::OkStatus();
    const size_t min_tokens = text.size() / max_bytes_per_token_;
    if (min_tokens <= max_tokens) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("text: ", text.size(), " bytes are at least ",
                                                   min_tokens, " tokens, at most ", max_tokens,
                                                   " are possible"));
  }

  const Vocabulary vocabulary_;
  const std::unique_ptr<SubwordModel> model_;
  size_t max_bytes_per_token_ = 0;  // of a text; 0: no bound
};

absl::StatusOr<VocabularyAndModel> Load(const TokenizerData& data) {
  if (!data.tokenizer_json.empty()) return LoadTokenizerJson(data);
  if (data.kind == TokenizerData::Kind::kSentencePieceBpe) return LoadSentencePieceBpe(data);
  return LoadByteLevelBpe(data);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(const TokenizerData& data) {
  KVEC_ASSIGN_OR_RETURN(VocabularyAndModel parts, Load(data));
  return std::make_unique<VocabularyTokenizer>(std::move(parts));
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids, bool skip_special) const {
  IncrementalDetokenizer detokenizer(*this, skip_special);
  std::string text;
  for (const int32_t id : ids) text += detokenizer.Push(id);
  text += detokenizer.Flush();
  if (adds_space_prefix() && absl::StartsWith(text, " ")) text.erase(0, 1);
  return text;
}

}  // namespace kvec::coordinator::text
