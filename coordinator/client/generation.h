#ifndef KVEC_COORDINATOR_CLIENT_GENERATION_H_
#define KVEC_COORDINATOR_CLIENT_GENERATION_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "grpcpp/grpcpp.h"
#include "kvec/v1/inference.grpc.pb.h"

namespace kvec::coordinator::client {

// One continuation of a prompt.
struct Choice {
  std::string text;
  std::vector<uint32_t> token_ids;
  std::vector<v1::TokenLogProbs> logprobs;  // one per token, when asked for
  v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  std::string stop_string;  // what matched, if a stop string did
};

// Everything a Generate call has streamed so far.
struct Generation {
  std::vector<Choice> choices;
  std::vector<uint32_t> prompt_token_ids;
  std::vector<v1::TokenLogProbs> prompt_logprobs;
  std::string request_id;
  uint64_t seed = 0;
  v1::Usage usage;
};

// Adds the stream's next message.
void Append(const v1::GenerateResponse& message, Generation& generation);

// "stop", "length", "forced"; "" before the end.
std::string FinishReasonName(v1::FinishReason reason);

using MessageCallback = std::function<void(const v1::GenerateResponse&)>;

// Runs one Generate call to its end. `on_message` sees each message as it arrives, on the calling
// thread; `generation` has what arrived before an error too. `context` is the caller's, so that
// another thread can cancel it.
absl::Status Generate(v1::Inference::StubInterface& inference, grpc::ClientContext& context,
                      const v1::GenerateRequest& request, const MessageCallback& on_message,
                      Generation& generation);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_GENERATION_H_
