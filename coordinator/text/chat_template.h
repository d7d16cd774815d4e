#ifndef KVEC_COORDINATOR_TEXT_CHAT_TEMPLATE_H_
#define KVEC_COORDINATOR_TEXT_CHAT_TEMPLATE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "coordinator/text/tokenizer.h"

namespace kvec::coordinator::text {

struct ChatMessage {
  std::string role;
  std::string content;
};

// A model's chat template (Jinja). Immutable after Create; any thread.
class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;

  // INVALID_ARGUMENT for a template that cannot be parsed. `tokenizer` must outlive the result. An
  // empty source gives a template whose Encode is FAILED_PRECONDITION: the model has none.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Create(absl::string_view source,
                                                              const Tokenizer& tokenizer);

  // The prompt's token ids, with the generation prompt. Special tokens of the template become
  // tokens; the same text typed by a user stays text. arguments_json is empty or one JSON object.
  // INVALID_ARGUMENT for what the template refuses, in its words, or cannot render, and for a text
  // too long for max_tokens as in EncodeOptions.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(absl::Span<const ChatMessage> messages,
                                                      absl::string_view arguments_json,
                                                      size_t max_tokens = 0) const = 0;
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_CHAT_TEMPLATE_H_
