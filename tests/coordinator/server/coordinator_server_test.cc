// The coordinator as a process would run it: workers, health, reflection, status, draining.

#include <chrono>
#include <future>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "common/security/secret.h"
#include "common/version.h"
#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/common/model/temp_folder.h"
#include "tests/coordinator/server/server_fixture.h"

namespace kvec::coordinator::server {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using HealthResponse = grpc::health::v1::HealthCheckResponse;

class CoordinatorServerTest : public ServerFixture {
 protected:
  v1::GetStatusResponse GetStatus() {
    grpc::ClientContext context;
    v1::GetStatusResponse response;
    EXPECT_TRUE(stub_->GetStatus(&context, {}, &response).ok());
    return response;
  }

  bool AwaitReplica(int replica, bool serving) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (GetStatus().replicas(replica).serving() != serving) {
      if (absl::Now() > deadline) return false;
    }
    return true;
  }
};

TEST_F(CoordinatorServerTest, RefusesAWorkerOfAnotherModelAndNamesBoth) {
  StartServer();
  const auto worker = MakeWorker({.fingerprint = "other-fingerprint"});
  const std::optional<absl::Status> end = worker->AwaitEnd();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(end->message()),
              AllOf(HasSubstr("other-fingerprint"), HasSubstr("test-fingerprint")));
}

TEST_F(CoordinatorServerTest, RefusesAWorkerOfAnotherVersionAndNamesBoth) {
  StartServer();
  const auto worker = MakeWorker({.version = "0.0.9"});
  const std::optional<absl::Status> end = worker->AwaitEnd();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(end->message()),
              AllOf(HasSubstr("0.0.9"), HasSubstr(std::string(Version()))));
}

TEST_F(CoordinatorServerTest, GivesUpAWorkerWithoutHeartbeats) {
  CoordinatorServer::Options options;
  options.heartbeat_timeout = absl::Milliseconds(100);
  StartServer(options);
  const auto worker = MakeWorker({.is_silent = true});
  const std::optional<absl::Status> end = worker->AwaitEnd();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(end->message()), HasSubstr("heartbeat"));
}

TEST_F(CoordinatorServerTest, IsHealthyWhileAGroupIsReady) {
  StartServer();
  for (const char* service : {"", "kvec.v1.Inference"}) {
    EXPECT_TRUE(AwaitHealth(HealthResponse::NOT_SERVING, service)) << service;
  }
  auto worker = MakeWorker({});
  for (const char* service : {"", "kvec.v1.Inference"}) {
    EXPECT_TRUE(AwaitHealth(HealthResponse::SERVING, service)) << service;
  }
  worker->Leave();
  for (const char* service : {"", "kvec.v1.Inference"}) {
    EXPECT_TRUE(AwaitHealth(HealthResponse::NOT_SERVING, service)) << service;
  }
}

TEST_F(CoordinatorServerTest, IsAliveWithoutAWorkerAndWhenOneIsLost) {
  StartServer();
  EXPECT_TRUE(AwaitHealth(HealthResponse::SERVING, ServingHealth::kLiveness));
  AttachWorker({})->Leave();
  EXPECT_TRUE(AwaitHealth(HealthResponse::NOT_SERVING));
  EXPECT_TRUE(AwaitHealth(HealthResponse::SERVING, ServingHealth::kLiveness));
}

TEST_F(CoordinatorServerTest, ListsItsServicesByReflection) {
  StartServer();
  // Debian has no header for this service; a request for all services is field 7, "*".
  const grpc::Slice slice("\x3A\x01*");
  const grpc::ByteBuffer request(&slice, 1);
  const grpc::internal::RpcMethod method(
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      grpc::internal::RpcMethod::BIDI_STREAMING);
  grpc::ClientContext context;
  const std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream(
      grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
          channel_.get(), method, &context));
  ASSERT_TRUE(stream->Write(request));
  grpc::ByteBuffer response;
  ASSERT_TRUE(stream->Read(&response));
  grpc::Slice bytes;
  ASSERT_TRUE(response.DumpToSingleSlice(&bytes).ok());
  const std::string names(bytes.begin(), bytes.end());
  EXPECT_THAT(names, HasSubstr("kvec.v1.Inference"));
  EXPECT_THAT(names, HasSubstr("grpc.health.v1.Health"));
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(CoordinatorServerTest, DrainingFinishesRunningRequestsAndRefusesNewOnes) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("x"), .allowed_steps = 2});
  grpc::ClientContext context;
  const auto stream = stub_->Generate(&context, TextRequest("prompt", 10));
  ASSERT_TRUE(worker->AwaitHeldStep());
  const auto stopped = std::async(std::launch::async, [this] { server_->Stop(absl::Seconds(60)); });
  ASSERT_TRUE(AwaitHealth(HealthResponse::NOT_SERVING));
  EXPECT_EQ(Generate(TextRequest("late", 1)).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  worker->AllowSteps(1 << 20);
  const Answer answer = ReadAll(*stream);
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(answer.choices[0].token_ids, SizeIs(10));
  stopped.wait();
  const std::optional<absl::Status> end = worker->AwaitEnd();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->code(), absl::StatusCode::kUnavailable);
}

TEST_F(CoordinatorServerTest, DrainingCancelsWhatTakesTooLong) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("x"), .allowed_steps = 2});
  grpc::ClientContext context;
  const auto stream = stub_->Generate(&context, TextRequest("prompt", 10));
  ASSERT_TRUE(worker->AwaitHeldStep());
  server_->Stop(absl::ZeroDuration());
  EXPECT_FALSE(ReadAll(*stream).status.ok());
}

TEST_F(CoordinatorServerTest, FormsAGroupOfAsManyWorkersAsTheShapeWants) {
  CoordinatorServer::Options options;
  options.shape = {.num_ranks = 1, .num_stages = 2};
  StartServer(options);
  const auto first = MakeWorker({.worker_id = "a", .script = Repeat("ab")});
  const auto second = AttachWorker({.worker_id = "b", .script = Repeat("ab")});
  const Answer answer = Generate(TextRequest("prompt", 4));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.choices[0].text, "abab");
  const v1::GetStatusResponse status = GetStatus();
  ASSERT_THAT(status.workers(), SizeIs(2));
  EXPECT_EQ(status.workers(0).num_layers(), 1);
  EXPECT_EQ(status.workers(1).num_layers(), 1);
  EXPECT_NE(status.workers(0).stage(), status.workers(1).stage());
}

TEST_F(CoordinatorServerTest, ReplicasServeWhileOneOfThemIsLost) {
  CoordinatorServer::Options options;
  options.shape = cluster::ParallelShape{.num_replicas = 2};
  StartServer(options);
  auto first = AttachWorker({.worker_id = "w0", .script = Repeat("x"), .allowed_steps = 1});
  EXPECT_FALSE(GetStatus().replicas(1).serving());
  const auto second = MakeWorker({.worker_id = "w1", .script = Repeat("x")});
  ASSERT_TRUE(AwaitReplica(1, true));
  grpc::ClientContext context;
  const auto held = stub_->Generate(&context, TextRequest("held", 5));
  ASSERT_TRUE(first->AwaitHeldStep());
  // The other replica has less to do.
  ASSERT_TRUE(Generate(TextRequest("prompt", 5)).status.ok());
  ASSERT_TRUE(second->AwaitIdle());

  first->Disconnect();
  ASSERT_TRUE(AwaitReplica(0, false));
  v1::GetStatusResponse status = GetStatus();
  EXPECT_TRUE(status.serving());
  ASSERT_THAT(status.replicas(), SizeIs(2));
  EXPECT_FALSE(status.replicas(0).serving());
  EXPECT_TRUE(status.replicas(1).serving());
  EXPECT_EQ(status.replicas(0).num_requests_waiting(), 1);
  EXPECT_EQ(status.num_requests_waiting(), 1);
  ASSERT_TRUE(Generate(TextRequest("prompt", 5)).status.ok());

  const auto third = MakeWorker({.worker_id = "w2", .script = Repeat("x")});
  const Answer answer = ReadAll(*held);
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_THAT(answer.choices, SizeIs(1));
  EXPECT_EQ(answer.choices[0].text, "xxxxx");
  status = GetStatus();
  EXPECT_TRUE(status.replicas(0).serving());
  EXPECT_EQ(status.generated_tokens(), 15);
}

TEST_F(CoordinatorServerTest, StatusTellsOfWorkersAndTokens) {
  StartServer();
  auto worker = AttachWorker({.worker_id = "w7", .script = Repeat("x")});
  ASSERT_TRUE(Generate(TextRequest("prompt", 5)).status.ok());
  v1::GetStatusResponse status = GetStatus();
  EXPECT_TRUE(status.serving());
  EXPECT_EQ(status.version(), std::string(Version()));
  EXPECT_EQ(status.generated_tokens(), 5);
  EXPECT_EQ(status.prompt_tokens(), 6);
  ASSERT_THAT(status.workers(), SizeIs(1));
  EXPECT_EQ(status.workers(0).worker_id(), "w7");
  EXPECT_EQ(status.workers(0).state(), "ready");
  EXPECT_EQ(status.workers(0).total_pages(), 20'000);
  worker->Disconnect();
  ASSERT_TRUE(AwaitHealth(HealthResponse::NOT_SERVING));
  status = GetStatus();
  EXPECT_FALSE(status.serving());
  ASSERT_THAT(status.workers(), SizeIs(1));
  EXPECT_EQ(status.workers(0).state(), "lost");
}

TEST_F(CoordinatorServerTest, DescribesTheModel) {
  StartServer();
  grpc::ClientContext context;
  v1::GetModelResponse model;
  ASSERT_TRUE(stub_->GetModel(&context, {}, &model).ok());
  EXPECT_EQ(model.name(), "test");
  EXPECT_EQ(model.family(), "llama");
  EXPECT_EQ(model.vocab_size(), kTestVocabSize);
  EXPECT_EQ(model.context_length(), kTestContext);
  EXPECT_THAT(model.eos_token_ids(), ElementsAre(kTestEos));
  EXPECT_THAT(model.cache_policies(), Contains("full"));
  EXPECT_EQ(model.default_cache_policy().policy(), "full");
}

TEST_F(CoordinatorServerTest, TokenizesAndDetokenizes) {
  StartServer();
  grpc::ClientContext contexts[3];
  v1::TokenizeRequest request;
  request.set_text("a<|mark|>");
  v1::TokenizeResponse ids;
  ASSERT_TRUE(stub_->Tokenize(&contexts[0], request, &ids).ok());
  EXPECT_THAT(ids.token_ids(), ElementsAre('a', kTestMarker));
  v1::DetokenizeRequest back;
  *back.mutable_token_ids() = ids.token_ids();
  v1::DetokenizeResponse text;
  ASSERT_TRUE(stub_->Detokenize(&contexts[1], back, &text).ok());
  EXPECT_EQ(text.text(), "a<|mark|>");
  back.add_token_ids(kTestVocabSize);
  const grpc::Status status = stub_->Detokenize(&contexts[2], back, &text);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("token_ids[2]: 258"));
}

TEST_F(CoordinatorServerTest, RefusesAnAddressThatIsTaken) {
  StartServer();
  CoordinatorServer::Options options;
  options.listen = server_->address();
  options.cluster_listen = "127.0.0.1:0";
  const auto second = CoordinatorServer::Start(options, MakeTestModel());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(server_->address()));
}

TEST_F(CoordinatorServerTest, RefusesAShapeThatTheModelCannotTake) {
  CoordinatorServer::Options options;
  options.shape = {.num_ranks = 1, .num_stages = 3};
  const auto server = CoordinatorServer::Start(options, MakeTestModel());
  EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("pp=3"));
}

TEST_F(CoordinatorServerTest, AnswersATraceWhenItsStepsAreDone) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("x")});
  v1::TraceRequest request;
  request.set_num_steps(3);
  v1::TraceResponse trace;
  auto traced = std::async(std::launch::async, [&] {
    grpc::ClientContext context;
    return stub_->Trace(&context, request, &trace);
  });
  // Requests go on until the trace, which may begin late, has its Steps.
  while (traced.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    EXPECT_TRUE(Generate(TextRequest("prompt", 10)).status.ok());
  }
  EXPECT_TRUE(traced.get().ok());
  EXPECT_EQ(trace.num_steps(), 3u);
  ASSERT_EQ(trace.rows_size(), 2);
  EXPECT_EQ(trace.rows(0).name(), "coordinator");
  EXPECT_EQ(trace.rows(1).name(), "w0");
}

TEST_F(CoordinatorServerTest, ATraceOfAClientThatLeavesMakesRoomForAnother) {
  StartServer();
  v1::TraceRequest request;
  {
    grpc::ClientContext context;
    v1::TraceResponse trace;
    EXPECT_EQ(stub_->Trace(&context, request, &trace).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
  }
  request.set_num_steps(3);
  for (int i = 0; i < 3; ++i) {
    v1::TraceResponse trace;
    // Its end may be heard of late: ABORTED until then.
    grpc::StatusCode code = grpc::StatusCode::ABORTED;
    while (code == grpc::StatusCode::ABORTED) {
      grpc::ClientContext attempt;
      attempt.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(20));
      code = stub_->Trace(&attempt, request, &trace).error_code();
    }
    EXPECT_EQ(code, grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  // And one that waits does not keep the server from stopping.
  auto waiting = std::async(std::launch::async, [&] {
    grpc::ClientContext context;
    v1::TraceResponse trace;
    return stub_->Trace(&context, request, &trace);
  });
  server_->Stop(absl::ZeroDuration());
  waiting.wait();
}

// Of a call of any method, with an empty request.
grpc::Status CallMethod(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                        const std::string& authorization = "") {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  if (!authorization.empty()) context.AddMetadata("authorization", authorization);
  grpc::CompletionQueue queue;
  const grpc::Slice empty;
  const auto call = stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(&empty, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  return status;
}

TEST_F(CoordinatorServerTest, AsksForATokenInEveryServiceButHealth) {
  const TempFolder folder;
  CoordinatorServer::Options options;
  options.tokens_file = folder.Write("tokens", security::Sha256Hex("one"));
  options.local_listen = "unix:" + folder.File("socket");
  options.aliases = {{"kvec-64", "127.0.0.1:0", {}}};
  StartServer(options);
  const auto alias =
      grpc::CreateChannel(server_->alias_addresses().at(0), grpc::InsecureChannelCredentials());
  const auto local = grpc::CreateChannel(options.local_listen, grpc::InsecureChannelCredentials());
  for (const char* method :
       {"/kvec.v1.Inference/GetModel", "/kvec.v1.Inference/GetStatus", "/kvec.v1.Inference/Trace",
        "/kvec.v1.Inference/Generate", "/vllm.grpc.engine.VllmEngine/HealthCheck",
        "/vllm.grpc.engine.VllmEngine/GetServerInfo", "/vllm.grpc.engine.VllmEngine/Abort",
        "/no.such.Service/Method"}) {
    EXPECT_EQ(CallMethod(channel_, method).error_code(), grpc::StatusCode::UNAUTHENTICATED)
        << method;
    EXPECT_EQ(CallMethod(alias, method).error_code(), grpc::StatusCode::UNAUTHENTICATED) << method;
    EXPECT_NE(CallMethod(channel_, method, "Bearer one").error_code(),
              grpc::StatusCode::UNAUTHENTICATED)
        << method;
    EXPECT_NE(CallMethod(local, method).error_code(), grpc::StatusCode::UNAUTHENTICATED) << method;
  }
  EXPECT_TRUE(CallMethod(channel_, "/kvec.v1.Inference/GetModel", "Bearer one").ok());
  EXPECT_TRUE(CallMethod(local, "/kvec.v1.Inference/GetModel").ok());
  EXPECT_TRUE(CallMethod(channel_, "/grpc.health.v1.Health/Check").ok());
  EXPECT_TRUE(CallMethod(alias, "/grpc.health.v1.Health/Check").ok());
}

}  // namespace
}  // namespace kvec::coordinator::server
