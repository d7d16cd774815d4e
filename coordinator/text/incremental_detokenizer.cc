#include "coordinator/text/incremental_detokenizer.h"

#include "coordinator/text/utf8.h"

namespace kvec::coordinator::text {

std::string IncrementalDetokenizer::Push(int32_t id) {
  if (skip_special_ && tokenizer_.IsSpecial(id)) return "";
  const absl::string_view bytes = tokenizer_.TokenBytes(id);
  pending_.append(bytes.data(), bytes.size());
  std::string text;
  pending_.erase(0, AppendWholeCharacters(pending_, text));
  return text;
}

std::string IncrementalDetokenizer::Flush() {
  if (pending_.empty()) return "";
  pending_.clear();
  return std::string(kReplacementCharacter);
}

}  // namespace kvec::coordinator::text
