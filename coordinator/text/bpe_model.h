#ifndef KVEC_COORDINATOR_TEXT_BPE_MODEL_H_
#define KVEC_COORDINATOR_TEXT_BPE_MODEL_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/merge_table.h"
#include "coordinator/text/normalizer.h"
#include "coordinator/text/pre_tokenizer.h"
#include "coordinator/text/subword_model.h"

namespace kvec::coordinator::text {

// Byte-pair encoding by a list of merges: text is normalised, cut into pieces, and every piece is
// merged from its smallest symbols up.
class BpeModel final : public SubwordModel {
 public:
  enum class Symbols {
    kBytes,       // GPT-2, Llama 3, Qwen
    kCharacters,  // SentencePiece vocabularies in a tokenizer.json: Gemma, Llama 2
  };

  struct Options {
    Symbols symbols = Symbols::kBytes;
    std::vector<NormalizerStep> normalizer = {};
    PreTokenizer pre_tokenizer = {};
    MergeTable merges = {};
    // Tokens by the text they stand for. kCharacters needs all, kBytes only with ignore_merges.
    absl::flat_hash_map<std::string, int32_t> vocabulary = {};
    std::array<int32_t, 256> byte_ids =
        {};                      // -1: none. kCharacters: what unknown characters become
    bool ignore_merges = false;  // a piece that is a token as a whole is that token
    std::optional<int32_t> unknown_id = {};  // for symbols without id; they are left out without it
    bool fuse_unknown = false;               // neighbouring unknown symbols become one
  };

  explicit BpeModel(Options options) : options_(std::move(options)) {}

  absl::Status Encode(absl::string_view text, Place place,
                      std::vector<int32_t>& ids) const override;
  size_t max_shrink() const override;

 private:
  void EncodePiece(absl::string_view piece, std::vector<int32_t>& symbols) const;
  void AppendBytes(absl::string_view piece, std::vector<int32_t>& symbols) const;
  void AppendCharacters(absl::string_view piece, std::vector<int32_t>& symbols) const;

  const Options options_;
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_BPE_MODEL_H_
