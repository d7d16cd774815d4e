#include "coordinator/server/prompt_encoding.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "coordinator/server/quoted.h"

namespace kvec::coordinator::server {
namespace {

constexpr size_t kAnyLength = 0;
constexpr absl::string_view kRoles[] = {"system", "user", "assistant", "tool"};

template <typename Request>
absl::StatusOr<std::vector<int32_t>> EncodeText(const Request& request, const ServedModel& model,
                                                size_t max_tokens) {
  if (request.text().empty()) return absl::InvalidArgumentError("text: empty");
  text::EncodeOptions options;
  options.add_special = !request.has_add_special_tokens() || request.add_special_tokens();
  options.parse_special = !request.has_parse_special_tokens() || request.parse_special_tokens();
  options.max_tokens = max_tokens;
  return model.tokenizer->Encode(request.text(), options);
}

absl::StatusOr<std::vector<int32_t>> EncodeChat(const v1::ChatMessages& chat,
                                                const ServedModel& model, size_t max_tokens) {
  if (chat.messages().empty()) return absl::InvalidArgumentError("chat.messages: empty");
  std::vector<text::ChatMessage> messages;
  for (int i = 0; i < chat.messages_size(); ++i) {
    const v1::ChatMessage& message = chat.messages(i);
    if (std::find(std::begin(kRoles), std::end(kRoles), message.role()) == std::end(kRoles)) {
      return absl::InvalidArgumentError(
          absl::StrCat("chat.messages[", i, "].role: ", Quoted(message.role()),
                       " is unknown; known: ", absl::StrJoin(kRoles, ", ")));
    }
    messages.push_back({message.role(), message.content()});
  }
  absl::StatusOr<std::vector<int32_t>> ids =
      model.chat_template->Encode(messages, chat.template_arguments_json(), max_tokens);
  if (!ids.ok()) {
    return absl::Status(ids.status().code(), absl::StrCat("chat: ", ids.status().message()));
  }
  return ids;
}

absl::StatusOr<std::vector<int32_t>> NotEmpty(absl::string_view field,
                                              absl::StatusOr<std::vector<int32_t>> ids) {
  if (ids.ok() && ids->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": gives no tokens"));
  }
  return ids;
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> CheckTokenIds(absl::string_view field,
                                                   absl::Span<const uint32_t> ids,
                                                   const ServedModel& model) {
  const auto vocab_size = static_cast<uint32_t>(model.config.vocab_size);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          field, "[", i, "]: ", ids[i], " is outside the vocabulary of ", vocab_size, " tokens"));
    }
  }
  return std::vector<int32_t>(ids.begin(), ids.end());
}

absl::StatusOr<std::vector<int32_t>> EncodePrompt(const v1::GenerateRequest& request,
                                                  const ServedModel& model) {
  const auto max_tokens = static_cast<size_t>(model.config.context_length);
  switch (request.input_case()) {
    case v1::GenerateRequest::kText:
      return NotEmpty("text", EncodeText(request, model, max_tokens));
    case v1::GenerateRequest::kChat:
      return NotEmpty("chat", EncodeChat(request.chat(), model, max_tokens));
    case v1::GenerateRequest::kTokenIds:
      return NotEmpty("token_ids.ids",
                      CheckTokenIds("token_ids.ids", request.token_ids().ids(), model));
    case v1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("input: one of text, chat and token_ids is needed");
}

absl::StatusOr<std::vector<int32_t>> EncodePrompt(const v1::TokenizeRequest& request,
                                                  const ServedModel& model) {
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText:
      return EncodeText(request, model, kAnyLength);
    case v1::TokenizeRequest::kChat:
      return EncodeChat(request.chat(), model, kAnyLength);
    case v1::TokenizeRequest::INPUT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("input: one of text and chat is needed");
}

}  // namespace kvec::coordinator::server
