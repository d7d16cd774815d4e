#ifndef KVEC_COORDINATOR_TEXT_VOCABULARY_H_
#define KVEC_COORDINATOR_TEXT_VOCABULARY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/tokenizer_data.h"
#include "coordinator/text/special_token_matcher.h"
#include "coordinator/text/subword_model.h"

namespace kvec::coordinator::text {

// What a tokenizer knows of its tokens, whatever model cuts the text.
struct Vocabulary {
  std::vector<std::string> token_bytes = {};  // [vocab_size], what each adds to a text
  std::vector<bool> is_control = {};          // [vocab_size]
  SpecialTokenMatcher special_tokens = {};
  std::optional<int32_t> bos_id = {};
  std::vector<int32_t> eos_ids = {};
  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = false;  // text begins with a space that its writer did not type
};

struct VocabularyAndModel {
  Vocabulary vocabulary;
  std::unique_ptr<SubwordModel> model;
};

// INVALID_ARGUMENT names the field for ids outside [0, vocab_size), and for add_bos or add_eos
// without such an id.
absl::Status CheckSpecialIds(const Vocabulary& vocabulary);

// One for each kind of vocabulary; INVALID_ARGUMENT names the field that is wrong.
absl::StatusOr<VocabularyAndModel> LoadByteLevelBpe(const TokenizerData& data);
absl::StatusOr<VocabularyAndModel> LoadSentencePieceBpe(const TokenizerData& data);
absl::StatusOr<VocabularyAndModel> LoadTokenizerJson(const TokenizerData& data);

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_VOCABULARY_H_
