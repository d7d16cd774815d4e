#ifndef KVEC_COORDINATOR_SERVER_VLLM_RESPONSE_TRANSLATION_H_
#define KVEC_COORDINATOR_SERVER_VLLM_RESPONSE_TRANSLATION_H_

#include <cstdint>
#include <vector>

#include "kvec/v1/inference.pb.h"
#include "vllm/engine.pb.h"

namespace kvec::coordinator::server::vllm {

// Turns the messages of one of our own streams into those that the gateway expects: token ids in
// chunks where it asked for a stream, and one message with everything per choice. One thread at a
// time.
class ResponseTranslation {
 public:
  using Messages = std::vector<::vllm::grpc::engine::GenerateResponse>;

  ResponseTranslation(const ::vllm::grpc::engine::GenerateRequest& request,
                      uint32_t num_prompt_tokens);

  // What is to be sent for `response`; often nothing.
  Messages Translate(const v1::GenerateResponse& response);

 private:
  struct Choice {
    ::vllm::grpc::engine::GenerateComplete complete;  // so far
    bool is_finished = false;
    bool is_sent = false;
  };

  void AddPromptLogProbs(const v1::GenerateResponse& response);
  void AddChunk(const v1::GenerateResponse& response, Messages& messages);
  // Sends the choices that have finished, if they need not wait for the stream's usage.
  void AddComplete(bool has_usage, Messages& messages);

  const bool is_stream_;
  const uint32_t num_choices_;
  uint32_t num_prompt_tokens_;
  uint32_t first_prompt_token_ = 0;
  uint32_t num_finished_ = 0;
  std::vector<Choice> choices_;  // grows with what arrives: a request may ask for any number
  // Until choice 0's first tokens are sent.
  ::vllm::grpc::engine::InputLogProbs prompt_logprobs_;
};

}  // namespace kvec::coordinator::server::vllm

#endif  // KVEC_COORDINATOR_SERVER_VLLM_RESPONSE_TRANSLATION_H_
