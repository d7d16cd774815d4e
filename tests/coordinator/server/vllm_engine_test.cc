// vLLM's engine protocol, from a gateway's side.

#include <grpcpp/generic/generic_stub.h>

#include <future>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "coordinator/server/vllm_engine_service.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/server/server_fixture.h"

namespace kvec::coordinator::server {
namespace {

namespace engine = ::vllm::grpc::engine;
using ::smg::grpc::common::KvEventBatch;
using ::smg::grpc::common::SubscribeKvEventsRequest;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using HealthResponse = grpc::health::v1::HealthCheckResponse;

class VllmEngineTest : public ServerFixture {
 protected:
  struct EngineAnswer {
    std::vector<engine::GenerateStreamChunk> chunks;
    std::vector<engine::GenerateComplete> completes;
    grpc::Status status;
  };

  void StartEngine(const CoordinatorServer::Options& options = {}) {
    StartServer(options);
    if (server_ != nullptr) engine_ = VllmEngine::NewStub(channel_);
  }

  static engine::GenerateRequest Request(const std::string& prompt, uint32_t max_tokens) {
    engine::GenerateRequest request;
    for (const char byte : prompt) {
      request.mutable_tokenized()->add_input_ids(static_cast<uint8_t>(byte));
    }
    request.mutable_sampling_params()->set_max_tokens(max_tokens);
    request.set_stream(true);
    return request;
  }

  static EngineAnswer ReadAll(grpc::ClientReader<engine::GenerateResponse>& stream) {
    EngineAnswer answer;
    engine::GenerateResponse response;
    while (stream.Read(&response)) {
      if (response.has_chunk()) answer.chunks.push_back(response.chunk());
      if (response.has_complete()) answer.completes.push_back(response.complete());
    }
    answer.status = stream.Finish();
    return answer;
  }

  EngineAnswer Ask(const engine::GenerateRequest& request) {
    grpc::ClientContext context;
    return ReadAll(*engine_->Generate(&context, request));
  }

  template <typename Request, typename Response>
  Response Call(grpc::Status (VllmEngine::Stub::*method)(grpc::ClientContext*, const Request&,
                                                         Response*),
                const Request& request = {}) {
    grpc::ClientContext context;
    Response response;
    const grpc::Status status = (engine_.get()->*method)(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  std::unique_ptr<VllmEngine::Stub> engine_;
};

TEST_F(VllmEngineTest, IsHealthyWhileAGroupIsReady) {
  StartEngine();
  engine::HealthCheckResponse health = Call(&VllmEngine::Stub::HealthCheck);
  EXPECT_FALSE(health.healthy());
  EXPECT_THAT(health.message(), HasSubstr("no group"));
  const auto worker = AttachWorker({.script = Repeat("x")});
  EXPECT_TRUE(Call(&VllmEngine::Stub::HealthCheck).healthy());
  EXPECT_TRUE(AwaitHealth(HealthResponse::SERVING, "vllm.grpc.engine.VllmEngine"));
}

TEST_F(VllmEngineTest, IsUnavailableWhileDraining) {
  StartEngine();
  const auto worker = AttachWorker({.script = Repeat("x"), .allowed_steps = 2});
  grpc::ClientContext context;
  const auto stream = engine_->Generate(&context, Request("prompt", 10));
  ASSERT_TRUE(worker->AwaitHeldStep());
  const auto stopped = std::async(std::launch::async, [this] { server_->Stop(absl::Seconds(60)); });
  ASSERT_TRUE(AwaitHealth(HealthResponse::NOT_SERVING));
  grpc::ClientContext health_context;
  engine::HealthCheckResponse health;
  EXPECT_EQ(engine_->HealthCheck(&health_context, {}, &health).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Ask(Request("late", 1)).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  worker->AllowSteps(1 << 20);
  EXPECT_THAT(ReadAll(*stream).completes, SizeIs(1));
  stopped.wait();
}

TEST_F(VllmEngineTest, DescribesTheModelAndTheServer) {
  CoordinatorServer::Options options;
  options.scheduler.max_running_sequences = 17;
  StartEngine(options);
  const engine::GetModelInfoResponse model = Call(&VllmEngine::Stub::GetModelInfo);
  EXPECT_EQ(model.served_model_name(), "test");
  EXPECT_NE(model.model_path(), "");
  EXPECT_TRUE(model.is_generation());
  EXPECT_EQ(model.max_context_length(), kTestContext);
  EXPECT_EQ(model.vocab_size(), kTestVocabSize);
  EXPECT_THAT(model.eos_token_ids(), ElementsAre(kTestEos));
  EXPECT_EQ(model.model_type(), "llama");
  const engine::GetServerInfoResponse server = Call(&VllmEngine::Stub::GetServerInfo);
  EXPECT_EQ(server.max_num_seqs(), 17);
  EXPECT_EQ(server.data_parallel_size(), 1);
  EXPECT_EQ(server.active_requests(), 0);
}

TEST_F(VllmEngineTest, SendsTheTokenizerInChunksWithADigestOnTheLast) {
  StartEngine();
  std::set<std::string> digests;
  std::set<std::string> archives;
  for (int i = 0; i < 2; ++i) {
    grpc::ClientContext context;
    const auto stream = engine_->GetTokenizer(&context, {});
    smg::grpc::common::GetTokenizerChunk chunk;
    std::string archive;
    std::string digest;
    while (stream->Read(&chunk)) {
      EXPECT_EQ(digest, "") << "only the last chunk has one";
      EXPECT_LE(chunk.data().size(), 64 << 10);
      archive += chunk.data();
      digest = chunk.sha256();
    }
    EXPECT_TRUE(stream->Finish().ok());
    EXPECT_THAT(archive, HasSubstr("tokenizer_config.json"));
    EXPECT_THAT(digest, SizeIs(64));
    digests.insert(digest);
    archives.insert(archive);
  }
  EXPECT_THAT(digests, SizeIs(1));
  EXPECT_THAT(archives, SizeIs(1));
}

TEST_F(VllmEngineTest, StreamsIds) {
  StartEngine();
  const auto worker = AttachWorker({.script = Repeat("hello ")});
  const EngineAnswer answer = Ask(Request("ab", 8));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  std::string streamed;
  for (const auto& chunk : answer.chunks) {
    EXPECT_EQ(chunk.prompt_tokens(), 2);
    streamed.append(chunk.token_ids().begin(), chunk.token_ids().end());
    EXPECT_EQ(chunk.completion_tokens(), streamed.size());
  }
  EXPECT_EQ(streamed, "hello he");
  ASSERT_THAT(answer.completes, SizeIs(1));
  EXPECT_EQ(
      std::string(answer.completes[0].output_ids().begin(), answer.completes[0].output_ids().end()),
      streamed);
  EXPECT_EQ(answer.completes[0].finish_reason(), "length");
}

TEST_F(VllmEngineTest, AnswersWithoutAStreamHaveAMessagePerChoice) {
  StartEngine();
  const auto worker = AttachWorker({.script = [](uint32_t choice, uint32_t index) {
    return static_cast<int32_t>('a' + (choice * 10 + index) % 26);
  }});
  engine::GenerateRequest request = Request("ab", 3);
  request.set_stream(false);
  request.mutable_sampling_params()->set_n(2);
  const EngineAnswer answer = Ask(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(answer.chunks, IsEmpty());
  ASSERT_THAT(answer.completes, SizeIs(2));
  EXPECT_THAT(answer.completes[0].output_ids(), ElementsAre('a', 'b', 'c'));
  EXPECT_THAT(answer.completes[1].output_ids(), ElementsAre('k', 'l', 'm'));
}

TEST_F(VllmEngineTest, TheEngineStopsAtAStopString) {
  StartEngine();
  const auto worker = AttachWorker({.script = Repeat("one two three ")});
  engine::GenerateRequest request = Request("p", 4000);
  request.mutable_sampling_params()->add_stop(" thr");
  const EngineAnswer answer = Ask(request);
  ASSERT_THAT(answer.completes, SizeIs(1));
  EXPECT_EQ(answer.completes[0].finish_reason(), "stop");
  EXPECT_EQ(answer.completes[0].matched_stop_str(), " thr");
  EXPECT_EQ(answer.completes[0].completion_tokens(), 11);
  EXPECT_TRUE(worker->AwaitIdle());
}

TEST_F(VllmEngineTest, TellsTheStopToken) {
  StartEngine();
  const auto worker = AttachWorker(
      {.script = [](uint32_t, uint32_t index) { return index == 3 ? kTestEos : 'x'; }});
  const EngineAnswer answer = Ask(Request("p", 100));
  ASSERT_THAT(answer.completes, SizeIs(1));
  EXPECT_EQ(answer.completes[0].matched_token_id(), kTestEos);
  EXPECT_EQ(answer.completes[0].finish_reason(), "stop");
}

TEST_F(VllmEngineTest, AbortEndsARequestAndIsIdempotent) {
  StartEngine();
  const auto worker = AttachWorker({.script = Repeat("x"), .allowed_steps = 2});
  engine::GenerateRequest request = Request("prompt", 4000);
  request.set_request_id("chatcmpl-1");
  grpc::ClientContext context;
  const auto stream = engine_->Generate(&context, request);
  ASSERT_TRUE(worker->AwaitHeldStep());
  engine::AbortRequest abort;
  abort.add_request_ids("chatcmpl-1");
  abort.add_request_ids("nobody");
  for (int i = 0; i < 2; ++i) Call(&VllmEngine::Stub::Abort, abort);
  EXPECT_EQ(ReadAll(*stream).status.error_code(), grpc::StatusCode::CANCELLED);
  worker->AllowSteps(1 << 20);
  EXPECT_TRUE(worker->AwaitIdle());
}

TEST_F(VllmEngineTest, TellsTheLoadOfEachReplica) {
  CoordinatorServer::Options options;
  options.shape = cluster::ParallelShape{.num_replicas = 2};
  StartEngine(options);
  const auto first = AttachWorker({.worker_id = "w0", .script = Repeat("x"), .allowed_steps = 1});
  const auto second = MakeWorker({.worker_id = "w1", .script = Repeat("x")});
  grpc::ClientContext context;
  const auto running = engine_->Generate(&context, Request("prompt", 10));
  ASSERT_TRUE(first->AwaitHeldStep());
  // The second Step may be sent before the first one's result, with the free pages, is read.
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  engine::GetLoadsResponse loads;
  do {
    loads = Call(&VllmEngine::Stub::GetLoads);
  } while (loads.loads_size() == 2 && loads.loads(0).token_usage() == 0 && absl::Now() < deadline);
  EXPECT_EQ(loads.dp_rank_count(), 2);
  ASSERT_THAT(loads.loads(), SizeIs(2));
  for (int rank : {0, 1}) {
    EXPECT_EQ(loads.loads(rank).dp_rank(), rank);
    EXPECT_EQ(loads.loads(rank).num_running_reqs(), 1 - rank);
  }
  EXPECT_GT(loads.loads(0).token_usage(), 0);
  EXPECT_EQ(loads.loads(1).token_usage(), 0);
  EXPECT_EQ(Call(&VllmEngine::Stub::GetServerInfo).data_parallel_size(), 2);
  first->AllowSteps(1 << 20);
  EXPECT_TRUE(ReadAll(*running).status.ok());
}

TEST_F(VllmEngineTest, TellsItsLoad) {
  CoordinatorServer::Options options;
  options.scheduler.max_running_sequences = 1;
  StartEngine(options);
  const auto worker = AttachWorker({.script = Repeat("x"), .allowed_steps = 2});
  grpc::ClientContext contexts[2];
  const auto running = engine_->Generate(&contexts[0], Request("prompt", 10));
  ASSERT_TRUE(worker->AwaitHeldStep());
  const auto waiting = engine_->Generate(&contexts[1], Request("waits", 10));
  engine::SchedulerLoad load;
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (load.num_waiting_reqs() == 0 && absl::Now() < deadline) {
    load = Call(&VllmEngine::Stub::GetLoads).loads(0);
  }
  EXPECT_EQ(load.num_running_reqs(), 1);
  EXPECT_EQ(load.num_waiting_reqs(), 1);
  EXPECT_EQ(load.num_total_reqs(), 2);
  EXPECT_EQ(load.num_waiting_uncached_tokens(), 5);
  EXPECT_EQ(load.max_running_requests(), 1);
  worker->AllowSteps(1 << 20);
  EXPECT_TRUE(ReadAll(*running).status.ok());
  EXPECT_TRUE(ReadAll(*waiting).status.ok());
}

TEST_F(VllmEngineTest, BadRequestsAreInvalidArgumentsAndNameTheField) {
  StartEngine();
  const auto worker = AttachWorker({.script = Repeat("x")});
  engine::GenerateRequest regex = Request("p", 5);
  regex.mutable_sampling_params()->set_regex("a+");
  engine::GenerateRequest many = Request("p", 5);
  many.mutable_sampling_params()->set_n(4'000'000'000);
  engine::GenerateRequest outside = Request("p", 5);
  outside.mutable_tokenized()->add_input_ids(kTestVocabSize);
  const std::pair<engine::GenerateRequest, const char*> cases[] = {
      {regex, "regex"},
      {many, "n: 4000000000"},
      {outside, "outside the vocabulary"},
      {Request("p", 100'000'000), "max_tokens: 100000000"},
      {Request("", 5), "token_ids"}};
  for (const auto& [request, message] : cases) {
    const EngineAnswer answer = Ask(request);
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << message;
    EXPECT_THAT(answer.status.error_message(), HasSubstr(message));
  }
}

// A gateway asks five engines' services whether they are there, and has no time for it.
TEST_F(VllmEngineTest, WhatIsNotOfferedIsUnimplementedAtOnce) {
  StartEngine();
  for (const char* method :
       {"/sglang.grpc.scheduler.SglangScheduler/HealthCheck", "/trtllm.TrtllmService/HealthCheck",
        "/vllm.grpc.engine.VllmEngine/FlushCache", "/vllm.grpc.engine.VllmEngine/Embed"}) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    grpc::CompletionQueue queue;
    grpc::GenericStub stub(channel_);
    const auto call = stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(), &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << method;
  }
}

TEST_F(VllmEngineTest, TellsWhatThePrefixCacheHolds) {
  StartEngine();
  auto worker = AttachWorker({.script = Repeat("x")});
  const std::string prompt(40, 'a');
  EXPECT_THAT(Ask(Request(prompt, 2)).completes, SizeIs(1));
  grpc::ClientContext context;
  SubscribeKvEventsRequest request;
  request.set_start_sequence_number(5);
  const auto stream = engine_->SubscribeKvEvents(&context, request);
  KvEventBatch batch;
  ASSERT_TRUE(stream->Read(&batch));
  EXPECT_EQ(batch.sequence_number(), 5);
  ASSERT_EQ(batch.events_size(), 2);
  EXPECT_TRUE(batch.events(0).has_cleared());
  ASSERT_EQ(batch.events(1).stored().blocks_size(), 2);
  EXPECT_THAT(batch.events(1).stored().blocks(1).token_ids(), Each('a'));

  EXPECT_THAT(Ask(Request(prompt + std::string(20, 'b'), 2)).completes, SizeIs(1));
  ASSERT_TRUE(stream->Read(&batch));
  ASSERT_EQ(batch.events_size(), 1);
  EXPECT_EQ(batch.events(0).stored().blocks_size(), 1);
  EXPECT_TRUE(batch.events(0).stored().has_parent_block_hash());

  worker->Disconnect();
  ASSERT_TRUE(stream->Read(&batch));
  EXPECT_TRUE(batch.events(0).has_cleared());
  context.TryCancel();
  EXPECT_FALSE(stream->Read(&batch));
}

TEST_F(VllmEngineTest, SubscribersThatLeaveMakeRoomForOthers) {
  StartEngine();
  KvEventBatch batch;
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  for (size_t num_told = 0; num_told < 3 * scheduler::PrefixFeeds::kMaxFeeds;) {
    ASSERT_LT(absl::Now(), deadline);  // one that has left is forgotten a moment later
    grpc::ClientContext context;
    const auto stream = engine_->SubscribeKvEvents(&context, {});
    if (stream->Read(&batch)) ++num_told;
    context.TryCancel();
  }
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<KvEventBatch>>> streams;
  grpc::Status status;
  while (status.ok() && streams.size() <= scheduler::PrefixFeeds::kMaxFeeds) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    streams.push_back(engine_->SubscribeKvEvents(contexts.back().get(), {}));
    if (!streams.back()->Read(&batch)) status = streams.back()->Finish();
  }
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(VllmEngineTest, AServerEndsWithASubscriber) {
  StartEngine();
  grpc::ClientContext context;
  const auto stream = engine_->SubscribeKvEvents(&context, {});
  KvEventBatch batch;
  ASSERT_TRUE(stream->Read(&batch));
  server_->Stop(absl::Seconds(60));
  EXPECT_FALSE(stream->Read(&batch));
}

TEST_F(VllmEngineTest, EachAliasHasAListenerAndAName) {
  CoordinatorServer::Options options;
  for (const char* alias : {"kvec-64=127.0.0.1:0", "full=127.0.0.1:0"}) {
    options.aliases.push_back(*ParseModelAlias(alias));
  }
  StartEngine(options);
  const auto worker = AttachWorker({.script = Repeat("hello ")});
  const std::vector<std::string> addresses = server_->alias_addresses();
  ASSERT_THAT(addresses, SizeIs(2));
  const char* names[] = {"test@kvec-64", "test@full"};
  for (int i = 0; i < 2; ++i) {
    channel_ = grpc::CreateChannel(addresses[i], grpc::InsecureChannelCredentials());
    engine_ = VllmEngine::NewStub(channel_);
    EXPECT_EQ(Call(&VllmEngine::Stub::GetModelInfo).served_model_name(), names[i]);
    EXPECT_TRUE(Call(&VllmEngine::Stub::HealthCheck).healthy());
    EXPECT_TRUE(AwaitHealth(HealthResponse::SERVING, "vllm.grpc.engine.VllmEngine"));
    EXPECT_THAT(Ask(Request("prompt", 4)).completes, SizeIs(1));
  }
}

TEST_F(VllmEngineTest, AnAliasWithAPolicyThatIsUnknownDoesNotStart) {
  CoordinatorServer::Options options;
  options.listen = options.cluster_listen = "127.0.0.1:0";
  options.aliases.push_back(*ParseModelAlias("lru-64=127.0.0.1:0"));
  const absl::Status status = CoordinatorServer::Start(options, MakeTestModel()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("alias lru-64"));
}

}  // namespace
}  // namespace kvec::coordinator::server
