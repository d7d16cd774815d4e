#ifndef KVEC_COORDINATOR_TEXT_NAMED_PRE_TOKENIZERS_H_
#define KVEC_COORDINATOR_TEXT_NAMED_PRE_TOKENIZERS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/pre_tokenizer.h"

namespace kvec::coordinator::text {

// GPT-2's pattern, which tokenizer.json calls ByteLevel.
extern const char kGpt2Pattern[];

// What a byte-level vocabulary's pre-tokenizer stands for, beyond its merges.
struct NamedPreTokenizer {
  std::vector<SplitRule> rules = {};
  bool nfc = false;            // text is brought into Unicode's composed form first
  bool ignore_merges = false;  // a piece that is a token as a whole is that token
};

// GGUF's tokenizer.ggml.pre; INVALID_ARGUMENT for an unknown name lists the known ones.
absl::StatusOr<NamedPreTokenizer> FindPreTokenizer(absl::string_view name);

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_NAMED_PRE_TOKENIZERS_H_
