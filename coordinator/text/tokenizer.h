#ifndef KVEC_COORDINATOR_TEXT_TOKENIZER_H_
#define KVEC_COORDINATOR_TEXT_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/model/tokenizer_data.h"

namespace kvec::coordinator::text {

// Bytes [begin, end) of a text.
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
};

struct EncodeOptions {
  bool add_special = true;    // BOS (and EOS) where the model asks for them
  bool parse_special = true;  // special tokens' text becomes these tokens
  // Ascending, disjoint. Text that touches one of these is never a special token: what a user typed
  // inside a chat template's text. The ordinary tokens around are as if the ranges were not there.
  absl::Span<const ByteRange> plain_ranges = {};
  // A text that cannot be so few tokens is refused by its length, before it takes time; one that
  // might be is encoded whole, to however many it is. 0: any text is encoded.
  size_t max_tokens = 0;
};

// Text ↔ token ids for one vocabulary. Immutable after Create; any thread.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // INVALID_ARGUMENT for a vocabulary that no tokenizer can be made of; names what is wrong.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const TokenizerData& data);

  // INVALID_ARGUMENT for text that is not UTF-8 (names the byte's offset), and for text that is too
  // long for max_tokens.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                                      const EncodeOptions& options) const = 0;

  // What the token adds to the text: bytes, perhaps a part of a UTF-8 character. `id` is not
  // negative; beyond the vocabulary it adds nothing (models may have more rows than tokens).
  virtual absl::string_view TokenBytes(int32_t id) const = 0;

  // Control tokens (BOS, end of turn …): not shown to people. User-defined tokens (<think>, Gemma's
  // runs of newlines) are text like any other and not special.
  virtual bool IsSpecial(int32_t id) const = 0;

  virtual int vocab_size() const = 0;
  virtual std::optional<int32_t> bos_id() const = 0;
  virtual absl::Span<const int32_t> eos_ids() const = 0;

  // Whether Encode begins a text with a space that its writer did not type (Llama 2).
  virtual bool adds_space_prefix() const { return false; }

  // Decoded text of the ids with invalid UTF-8 replaced by U+FFFD, without a space that Encode put
  // before it. Ids are as for TokenBytes.
  std::string Decode(absl::Span<const int32_t> ids, bool skip_special) const;
};

// One bit per token: its text has a newline or ends in . ! ? ; (spaces after the mark are not
// looked through; KVEC.md). Bit t is bit t % 8 of byte t / 8.
std::string SentenceEndBits(const Tokenizer& tokenizer);

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_TOKENIZER_H_
