#include <algorithm>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "coordinator/text/tokenizer.h"

namespace kvec::coordinator::text {
namespace {

// KVEC.md's four, and those of scripts that have their own.
constexpr absl::string_view kMarks[] = {".", "!", "?", ";", "。", "！", "？", "；", "｡",
                                        "।", "॥", "؟", "۔", "؛", "…", "։", "።"};

// What may stand behind a mark in the same token: `."` closes a sentence too.
constexpr absl::string_view kClosers[] = {"\"", "'", ")",  "]",  "}", "»",
                                          "”",  "’", "」", "』", "）"};

bool EndsSentence(absl::string_view token) {
  if (absl::StrContains(token, '\n')) return true;
  const auto strip_closer = [&token](absl::string_view closer) {
    return absl::ConsumeSuffix(&token, closer);
  };
  while (std::any_of(std::begin(kClosers), std::end(kClosers), strip_closer)) {
  }
  return std::any_of(std::begin(kMarks), std::end(kMarks), [token](absl::string_view mark) {
    return absl::EndsWith(token, mark);
  });
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
