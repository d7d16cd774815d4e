#ifndef KVEC_TESTS_COORDINATOR_SERVER_SERVER_FIXTURE_H_
#define KVEC_TESTS_COORDINATOR_SERVER_SERVER_FIXTURE_H_

#include <grpcpp/create_channel.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/server/coordinator_server.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "gtest/gtest.h"
#include "kvec/v1/inference.grpc.pb.h"
#include "tests/coordinator/server/fake_worker.h"
#include "tests/coordinator/server/test_model.h"

namespace kvec::coordinator::server {

// The token that follows `index` others in every choice of a script that repeats this text.
inline std::function<int32_t(uint32_t, uint32_t)> Repeat(std::string text) {
  return [text = std::move(text)](uint32_t, uint32_t index) {
    return static_cast<int32_t>(static_cast<uint8_t>(text[index % text.size()]));
  };
}

// A coordinator with the test model on free ports, and a client of it.
class ServerFixture : public testing::Test {
 protected:
  // What a call gave, choice by choice.
  struct Answer {
    struct Choice {
      std::string text;
      std::vector<uint32_t> token_ids;
      std::vector<v1::TokenLogProbs> logprobs;
      v1::GenerateResponse last;
    };
    std::vector<v1::GenerateResponse> messages;
    std::vector<Choice> choices;
    grpc::Status status;
  };

  void StartServer(CoordinatorServer::Options options = {}) {
    options.listen = "127.0.0.1:0";
    options.cluster_listen = "127.0.0.1:0";
    // Fake workers send no heartbeats.
    if (options.heartbeat_timeout == CoordinatorServer::Options().heartbeat_timeout) {
      options.heartbeat_timeout = absl::Hours(1);
    }
    auto server = CoordinatorServer::Start(options, MakeTestModel());
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    stub_ = v1::Inference::NewStub(channel_);
  }

  std::unique_ptr<FakeWorker> MakeWorker(FakeWorker::Options options) {
    return std::make_unique<FakeWorker>(server_->cluster_address(), std::move(options));
  }

  // Returns when requests are accepted.
  std::unique_ptr<FakeWorker> AttachWorker(FakeWorker::Options options) {
    std::unique_ptr<FakeWorker> worker = MakeWorker(std::move(options));
    EXPECT_TRUE(AwaitHealth(grpc::health::v1::HealthCheckResponse::SERVING));
    return worker;
  }

  // Watches the health of the service until it is `wanted`.
  bool AwaitHealth(grpc::health::v1::HealthCheckResponse::ServingStatus wanted,
                   const std::string& service = "kvec.v1.Inference") {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    const auto health = grpc::health::v1::Health::NewStub(channel_);
    const auto stream = health->Watch(&context, request);
    grpc::health::v1::HealthCheckResponse response;
    while (stream->Read(&response)) {
      if (response.status() != wanted) continue;
      context.TryCancel();
      return true;
    }
    return false;
  }

  static v1::GenerateRequest TextRequest(const std::string& text, uint32_t max_tokens) {
    v1::GenerateRequest request;
    request.set_text(text);
    request.mutable_stopping()->set_max_tokens(max_tokens);
    return request;
  }

  static Answer ReadAll(grpc::ClientReader<v1::GenerateResponse>& stream) {
    Answer answer;
    v1::GenerateResponse response;
    while (stream.Read(&response)) {
      if (response.choice() >= answer.choices.size()) answer.choices.resize(response.choice() + 1);
      Answer::Choice& choice = answer.choices[response.choice()];
      choice.text += response.text();
      choice.token_ids.insert(choice.token_ids.end(), response.token_ids().begin(),
                              response.token_ids().end());
      choice.logprobs.insert(choice.logprobs.end(), response.logprobs().begin(),
                             response.logprobs().end());
      if (response.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) choice.last = response;
      answer.messages.push_back(response);
    }
    answer.status = stream.Finish();
    return answer;
  }

  Answer Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    return ReadAll(*stub_->Generate(&context, request));
  }

  std::unique_ptr<CoordinatorServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_TESTS_COORDINATOR_SERVER_SERVER_FIXTURE_H_
