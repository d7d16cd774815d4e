// generate_example HOST:PORT PROMPT: asks a kvec service and prints the answer as it comes. Of the
// prompt, 256 tokens per KV head stay in the cache.
#include <grpcpp/grpcpp.h>

#include <iostream>
#include <memory>

#include "kvec/v1/inference.grpc.pb.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: " << argv[0] << " HOST:PORT PROMPT\n";
    return 2;
  }
  const auto channel = grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials());
  const auto stub = kvec::v1::Inference::NewStub(channel);

  kvec::v1::GenerateRequest request;
  kvec::v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content(argv[2]);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(64);
  request.mutable_cache()->set_policy("kvec");
  request.mutable_cache()->set_budget_tokens(256);

  grpc::ClientContext context;  // context.TryCancel() ends the request and frees its pages
  const auto stream = stub->Generate(&context, request);
  kvec::v1::GenerateResponse response;
  while (stream->Read(&response)) {
    std::cout << response.text() << std::flush;
    if (response.has_usage()) {
      std::cout << "\n[" << response.usage().prompt_tokens() << " prompt tokens, "
                << response.usage().evicted_tokens() << " evicted, "
                << response.usage().completion_tokens() << " generated]\n";
    }
  }
  const grpc::Status status = stream->Finish();
  if (!status.ok()) {
    std::cerr << "error: " << status.error_message() << '\n';
    return 1;
  }
}
