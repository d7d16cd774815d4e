#include "absl/strings/match.h"
#include "coordinator/text/tokenizer.h"

namespace kvec::coordinator::text {
namespace {

bool EndsSentence(absl::string_view token) {
  constexpr absl::string_view kMarks = ".!?;";
  if (token.empty()) return false;
  return absl::StrContains(token, '\n') || absl::StrContains(kMarks, token.back());
}

}  // namespace

std::string SentenceEndBits(const Tokenizer& tokenizer) {
  std::string bits((tokenizer.vocab_size() + 7) / 8, '\0');
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (EndsSentence(tokenizer.TokenBytes(id))) bits[id / 8] |= static_cast<char>(1 << (id % 8));
  }
  return bits;
}

}  // namespace kvec::coordinator::text
