#include "coordinator/text/chat_template.h"

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "coordinator/text/jinja_template.h"
#include "coordinator/text/utf8.h"
#include "nlohmann/json.hpp"

namespace kvec::coordinator::text {
namespace {

using nlohmann::ordered_json;

constexpr int kMaxArgumentsDepth = 32;

// A client's JSON. In the order of its keys: templates print tool descriptions.
absl::StatusOr<ordered_json> ParseArguments(absl::string_view text) {
  if (text.empty()) return ordered_json::object();
  bool too_deep = false;
  const auto watch_depth = [&](int depth, ordered_json::parse_event_t, ordered_json&) {
    too_deep = too_deep || depth > kMaxArgumentsDepth;
    return !too_deep;
  };
  ordered_json arguments = ordered_json::parse(text.begin(), text.end(), watch_depth,
                                               /*allow_exceptions=*/false);
  if (too_deep) {
    return absl::InvalidArgumentError(
        absl::StrCat("template arguments: nested deeper than ", kMaxArgumentsDepth));
  }
  if (!arguments.is_object()) {
    return absl::InvalidArgumentError("template arguments: not a JSON object");
  }
  for (const char* name : {"messages", "bos_token", "eos_token", "add_generation_prompt"}) {
    if (arguments.contains(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("template arguments: ", name, " is not for the client to set"));
    }
  }
  return arguments;
}

absl::Status CheckMessages(absl::Span<const ChatMessage> messages) {
  if (messages.empty()) return absl::InvalidArgumentError("messages: empty");
  for (size_t i = 0; i < messages.size(); ++i) {
    for (const auto& [field, text] :
         {std::pair("role", &messages[i].role), std::pair("content", &messages[i].content)}) {
      const size_t offset = FindInvalidUtf8(*text);
      if (offset == absl::string_view::npos) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("messages[", i, "].", field, ": byte ", offset, " is not valid UTF-8"));
    }
  }
  return absl::OkStatus();
}

std::string TextOf(const Tokenizer& tokenizer, std::optional<int32_t> id) {
  return id.has_value() ? std::string(tokenizer.TokenBytes(*id)) : "";
}

class ModelChatTemplate final : public ChatTemplate {
 public:
  // `jinja` is nullopt for a model without a template.
  ModelChatTemplate(std::optional<JinjaTemplate> jinja, const Tokenizer& tokenizer)
      : jinja_(std::move(jinja)), tokenizer_(tokenizer) {}

  absl::StatusOr<std::vector<int32_t>> Encode(absl::Span<const ChatMessage> messages,
                                              absl::string_view arguments_json,
                                              size_t max_tokens) const override {
    if (!jinja_.has_value()) {
      return absl::FailedPreconditionError("messages: the model has no chat template");
    }
    KVEC_RETURN_IF_ERROR(CheckMessages(messages));
    KVEC_ASSIGN_OR_RETURN(ordered_json arguments, ParseArguments(arguments_json));
    const absl::Span<const int32_t> eos_ids = tokenizer_.eos_ids();
    KVEC_ASSIGN_OR_RETURN(
        const std::vector<JinjaTemplate::Part> parts,
        jinja_->Render(
            {.messages = messages,
             .bos_token = TextOf(tokenizer_, tokenizer_.bos_id()),
             .eos_token = TextOf(tokenizer_,
                                 eos_ids.empty() ? std::nullopt : std::optional(eos_ids.front())),
             .arguments = std::move(arguments),
             .now = absl::Now()}));
    std::string text;
    std::vector<ByteRange> user_ranges;
    for (const JinjaTemplate::Part& part : parts) {
      if (part.is_user_text && !part.text.empty()) {
        user_ranges.push_back({text.size(), text.size() + part.text.size()});
      }
      text += part.text;
    }
    // BOS is the template's affair.
    return tokenizer_.Encode(
        text, {.add_special = false, .plain_ranges = user_ranges, .max_tokens = max_tokens});
  }

 private:
  const std::optional<JinjaTemplate> jinja_;
  const Tokenizer& tokenizer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Create(absl::string_view source,
                                                                   const Tokenizer& tokenizer) {
  std::optional<JinjaTemplate> jinja;
  if (!source.empty()) {
    KVEC_ASSIGN_OR_RETURN(jinja, JinjaTemplate::Parse(source));
  }
  return std::make_unique<ModelChatTemplate>(std::move(jinja), tokenizer);
}

}  // namespace kvec::coordinator::text
