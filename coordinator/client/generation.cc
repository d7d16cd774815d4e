#include "coordinator/client/generation.h"

#include "absl/strings/str_cat.h"
#include "common/grpc_status.h"

namespace kvec::coordinator::client {
namespace {

// The protocol's limit on n: a choice beyond it is a broken peer, not a reason to allocate.
constexpr uint32_t kMaxChoices = 64;

}  // namespace

void Append(const v1::GenerateResponse& message, Generation& generation) {
  if (generation.choices.size() <= message.choice()) {
    generation.choices.resize(message.choice() + 1);
  }
  Choice& choice = generation.choices[message.choice()];
  choice.text += message.text();
  choice.token_ids.insert(choice.token_ids.end(), message.token_ids().begin(),
                          message.token_ids().end());
  choice.logprobs.insert(choice.logprobs.end(), message.logprobs().begin(),
                         message.logprobs().end());
  if (message.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    choice.finish_reason = message.finish_reason();
    choice.stop_string = message.stop_string();
  }
  if (message.prompt_token_ids_size() > 0) {
    generation.prompt_token_ids.assign(message.prompt_token_ids().begin(),
                                       message.prompt_token_ids().end());
  }
  generation.prompt_logprobs.insert(generation.prompt_logprobs.end(),
                                    message.prompt_logprobs().begin(),
                                    message.prompt_logprobs().end());
  if (!message.request_id().empty()) generation.request_id = message.request_id();
  if (message.seed() != 0) generation.seed = message.seed();
  if (message.has_usage()) generation.usage = message.usage();
}

std::string FinishReasonName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stop";
    case v1::FINISH_REASON_LENGTH:
      return "length";
    case v1::FINISH_REASON_FORCED:
      return "forced";
    default:
      return "";
  }
}

absl::Status Generate(v1::Inference::StubInterface& inference, grpc::ClientContext& context,
                      const v1::GenerateRequest& request, const MessageCallback& on_message,
                      Generation& generation) {
  const auto stream = inference.Generate(&context, request);
  v1::GenerateResponse message;
  while (stream->Read(&message)) {
    if (message.choice() >= kMaxChoices) {
      context.TryCancel();
      stream->Finish();
      return absl::InternalError(absl::StrCat("choice: ", message.choice(), " is beyond n"));
    }
    Append(message, generation);
    on_message(message);
  }
  return FromGrpcStatus(stream->Finish());
}

}  // namespace kvec::coordinator::client
