#ifndef KVEC_COMMON_MODEL_END_TOKENS_H_
#define KVEC_COMMON_MODEL_END_TOKENS_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

#include "absl/strings/string_view.h"

namespace kvec {

// Whether a special token ends a turn or a text, by its name in the known model families. Many
// files give only one of them an id of its own (eos_token_id), while a chat ends with another.
// "</s>" is not among them: where it ends a text it is eos_token_id, and in Gemma's vocabulary it
// is HTML.
inline bool IsEndToken(absl::string_view token) {
  constexpr absl::string_view kEndTokens[] = {"<|endoftext|>", "<|end_of_text|>", "<|im_end|>",
                                              "<|eot_id|>",    "<|eom_id|>",      "<|end|>",
                                              "<end_of_turn>", "<|end_of_turn|>", "<EOT>"};
  return std::find(std::begin(kEndTokens), std::end(kEndTokens), token) != std::end(kEndTokens);
}

inline void SortAndDeduplicate(std::vector<int32_t>& ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_END_TOKENS_H_
