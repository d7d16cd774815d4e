#include "coordinator/client/token_texts.h"

#include <algorithm>
#include <cstddef>

#include "common/status_macros.h"

namespace kvec::coordinator::client {
namespace {

constexpr char kReplacementCharacter[] = "\uFFFD";
constexpr size_t kMaxTokensOfCharacter = 4;  // UTF-8 has no longer ones

}  // namespace

absl::StatusOr<std::vector<std::string>> TokenTexts(const Connection& connection,
                                                    absl::Span<const uint32_t> token_ids) {
  std::vector<std::string> texts(token_ids.size());
  size_t begin = 0;
  while (begin < token_ids.size()) {
    size_t count = 0;
    const size_t most = std::min(kMaxTokensOfCharacter, token_ids.size() - begin);
    do {
      ++count;
      KVEC_ASSIGN_OR_RETURN(texts[begin], connection.Detokenize(token_ids.subspan(begin, count)));
    } while (texts[begin].find(kReplacementCharacter) != std::string::npos && count < most);
    begin += count;
  }
  return texts;
}

}  // namespace kvec::coordinator::client
