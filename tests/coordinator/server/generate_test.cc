// Generate, from a client's side: a whole coordinator with a worker that follows a script.

#include <grpcpp/impl/codegen/proto_utils.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/server/server_fixture.h"

namespace kvec::coordinator::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using HealthResponse = grpc::health::v1::HealthCheckResponse;

class GenerateTest : public ServerFixture {};

TEST_F(GenerateTest, StreamsTextWithIdsReasonAndUsage) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("hello ")});
  v1::GenerateRequest request = TextRequest("ab", 8);
  request.set_request_id("mine");
  request.mutable_sampling()->set_seed(7);
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_THAT(answer.choices, SizeIs(1));
  EXPECT_EQ(answer.choices[0].text, "hello he");
  EXPECT_THAT(answer.choices[0].token_ids, ElementsAre('h', 'e', 'l', 'l', 'o', ' ', 'h', 'e'));
  EXPECT_EQ(answer.choices[0].last.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(answer.messages.front().request_id(), "mine");
  EXPECT_EQ(answer.messages.front().seed(), 7);
  EXPECT_THAT(answer.messages.front().prompt_token_ids(), ElementsAre('a', 'b'));
  ASSERT_TRUE(answer.messages.back().has_usage());
  EXPECT_EQ(answer.messages.back().usage().prompt_tokens(), 2);
  EXPECT_EQ(answer.messages.back().usage().completion_tokens(), 8);
}

TEST_F(GenerateTest, MakesUpAnIdAndASeedAndReportsThem) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("x")});
  const Answer first = Generate(TextRequest("a", 1));
  const Answer second = Generate(TextRequest("a", 1));
  ASSERT_TRUE(first.status.ok() && second.status.ok());
  EXPECT_NE(first.messages.front().request_id(), "");
  EXPECT_NE(first.messages.front().request_id(), second.messages.front().request_id());
  EXPECT_NE(first.messages.front().seed(), second.messages.front().seed());
}

TEST_F(GenerateTest, SendsWholeCharactersOnly) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("a\xE2\x82\xAC\xF0\x9F\x98\x80")});  // a€😀
  const Answer answer = Generate(TextRequest("a", 16));
  ASSERT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.choices[0].text, "a€😀a€😀");
  for (const v1::GenerateResponse& message : answer.messages) {
    // A client in another language would refuse the message.
    EXPECT_TRUE(v1::GenerateResponse().ParseFromString(message.SerializeAsString()));
  }
}

TEST_F(GenerateTest, EndsAnUnfinishedCharacterAtTheLengthLimitWithAReplacement) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("\xE2\x82\xAC")});
  const Answer answer = Generate(TextRequest("a", 5));
  ASSERT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.choices[0].text, "€\uFFFD");
}

TEST_F(GenerateTest, RunsEveryChoiceOnItsOwn) {
  StartServer();
  const auto worker = AttachWorker({.script = [](uint32_t choice, uint32_t index) {
    return static_cast<int32_t>('a' + (choice * 10 + index) % 26);
  }});
  v1::GenerateRequest request = TextRequest("prompt", 3);
  request.mutable_sampling()->set_n(3);
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_THAT(answer.choices, SizeIs(3));
  EXPECT_EQ(answer.choices[0].text, "abc");
  EXPECT_EQ(answer.choices[1].text, "klm");
  EXPECT_EQ(answer.choices[2].text, "uvw");
  EXPECT_EQ(answer.messages.back().usage().completion_tokens(), 9);
  EXPECT_TRUE(worker->AwaitIdle());
}

TEST_F(GenerateTest, StopsBeforeAStopStringThatSpansTokens) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("one two three ")});
  v1::GenerateRequest request = TextRequest("p", 100);
  request.mutable_stopping()->add_stop(" thr");
  request.mutable_stopping()->add_stop("never");
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.choices[0].text, "one two");
  EXPECT_EQ(answer.choices[0].last.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(answer.choices[0].last.stop_string(), " thr");
  EXPECT_EQ(answer.messages.back().usage().completion_tokens(), 11);
  EXPECT_TRUE(worker->AwaitIdle());
}

TEST_F(GenerateTest, KeepsTheStopStringWhenAsked) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("one two three ")});
  v1::GenerateRequest request = TextRequest("p", 100);
  request.mutable_stopping()->add_stop("two");
  request.mutable_stopping()->set_include_stop(true);
  EXPECT_EQ(Generate(request).choices[0].text, "one two");
}

TEST_F(GenerateTest, StopsAtTheModelsEndToken) {
  StartServer();
  const auto worker = AttachWorker(
      {.script = [](uint32_t, uint32_t index) { return index == 3 ? kTestEos : 'x'; }});
  const Answer answer = Generate(TextRequest("p", 100));
  ASSERT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.choices[0].text, "xxx");
  EXPECT_THAT(answer.choices[0].token_ids, ElementsAre('x', 'x', 'x', kTestEos));
  EXPECT_EQ(answer.choices[0].last.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(answer.choices[0].last.stop_token_id(), kTestEos);
}

TEST_F(GenerateTest, GoesOnPastTheEndTokenWithIgnoreEosButNotPastTheUsersStopToken) {
  StartServer();
  const auto worker = AttachWorker({.script = [](uint32_t, uint32_t index) {
    return index == 3 ? kTestEos : index == 5 ? 'z' : 'x';
  }});
  v1::GenerateRequest request = TextRequest("p", 100);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_stopping()->add_stop_token_ids('z');
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.choices[0].text, "xxxx");
  EXPECT_THAT(answer.choices[0].token_ids, SizeIs(6));
  EXPECT_EQ(answer.choices[0].last.stop_token_id(), 'z');
}

TEST_F(GenerateTest, FillsTheContextWhenMaxTokensIsUnset) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("x")});
  v1::GenerateRequest request;
  request.set_text(std::string(kTestContext - 5, 'p'));
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.choices[0].text, "xxxxx");
  EXPECT_EQ(answer.choices[0].last.finish_reason(), v1::FINISH_REASON_LENGTH);
}

TEST_F(GenerateTest, ReportsLogProbabilitiesOfPromptAndAnswer) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("xyz")});
  v1::GenerateRequest request = TextRequest("prompt", 3);
  request.set_logprobs(2);
  request.set_prompt_logprobs(1);
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_THAT(answer.choices[0].logprobs, SizeIs(3));
  EXPECT_EQ(answer.choices[0].logprobs[1].chosen().token_id(), 'y');
  EXPECT_THAT(answer.choices[0].logprobs[1].top(), SizeIs(2));
  int num_prompt_logprobs = 0;
  for (const v1::GenerateResponse& message : answer.messages) {
    num_prompt_logprobs += message.prompt_logprobs_size();
  }
  EXPECT_EQ(num_prompt_logprobs, 5);
}

TEST_F(GenerateTest, FeedsForcedTokensAndReturnsTheirLogProbabilities) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("x")});
  v1::GenerateRequest request;
  request.set_text("prompt");
  for (char c : std::string("abc")) request.add_forced_token_ids(c);
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.choices[0].text, "abc");
  EXPECT_THAT(answer.choices[0].logprobs, SizeIs(3));
  EXPECT_EQ(answer.choices[0].last.finish_reason(), v1::FINISH_REASON_FORCED);
}

TEST_F(GenerateTest, RendersChatsThroughTheTemplate) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("x")});
  v1::GenerateRequest request;
  request.mutable_stopping()->set_max_tokens(1);
  v1::ChatMessage& message = *request.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("hi");
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(answer.messages.front().prompt_token_ids(), ElementsAre('h', 'i', kTestMarker));
}

TEST_F(GenerateTest, IsUnavailableWithoutAGroup) {
  StartServer();
  const Answer answer = Generate(TextRequest("a", 1));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(GenerateTest, CancellationFreesTheSequence) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("x"), .allowed_steps = 4});
  grpc::ClientContext context;
  const auto stream = stub_->Generate(&context, TextRequest("prompt", 4000));
  v1::GenerateResponse response;
  ASSERT_TRUE(stream->Read(&response));
  ASSERT_TRUE(worker->AwaitHeldStep());
  context.TryCancel();
  while (stream->Read(&response)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  worker->AllowSteps(1 << 20);
  EXPECT_TRUE(worker->AwaitIdle());
}

TEST_F(GenerateTest, AClientThatIsGoneFreesTheSequence) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("x"), .allowed_steps = 4});
  {
    grpc::ClientContext context;
    const auto stream = stub_->Generate(&context, TextRequest("prompt", 4000));
    v1::GenerateResponse response;
    ASSERT_TRUE(stream->Read(&response));
    // The client forgets the call, as a process that ends does.
  }
  worker->AllowSteps(1 << 20);
  EXPECT_TRUE(worker->AwaitIdle());
}

TEST_F(GenerateTest, ADeadlineEndsTheRequestAndFreesTheSequence) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("x"), .allowed_steps = 3});
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  const Answer answer = ReadAll(*stub_->Generate(&context, TextRequest("prompt", 4000)));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  worker->AllowSteps(1 << 20);
  EXPECT_TRUE(worker->AwaitIdle());
}

TEST_F(GenerateTest, ASlowReaderDelaysNobodyAndGetsEverything) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("abcdefg")});
  constexpr uint32_t kTokens = 2000;
  v1::GenerateRequest request = TextRequest("prompt", kTokens);
  request.set_logprobs(20);  // about 300 bytes per token: far more than this client buffers
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65535);
  const auto slow_client = v1::Inference::NewStub(
      grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext context;
  const auto stream = slow_client->Generate(&context, request);
  // The request ends while nothing has been read.
  ASSERT_TRUE(worker->AwaitIdle());
  const Answer other = Generate(TextRequest("other", 3));
  EXPECT_EQ(other.choices[0].text, "abc");
  const Answer answer = ReadAll(*stream);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(answer.choices[0].token_ids, SizeIs(kTokens));
  EXPECT_THAT(answer.choices[0].logprobs, SizeIs(kTokens));
  EXPECT_LT(answer.messages.size(), kTokens);  // waiting tokens share messages
}

TEST_F(GenerateTest, AStreamGoesOnAfterItsWorkerDies) {
  StartServer();
  const std::string script = "the quick brown fox ";
  auto worker = AttachWorker({.worker_id = "first", .script = Repeat(script), .allowed_steps = 12});
  grpc::ClientContext context;
  const auto stream = stub_->Generate(&context, TextRequest("prompt", 60));
  ASSERT_TRUE(worker->AwaitHeldStep());
  worker->Disconnect();
  EXPECT_TRUE(AwaitHealth(HealthResponse::NOT_SERVING));
  worker = MakeWorker({.worker_id = "second", .script = Repeat(script)});
  const Answer answer = ReadAll(*stream);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.choices[0].text, script + script + script);
  EXPECT_EQ(answer.messages.back().usage().completion_tokens(), 60);
}

TEST_F(GenerateTest, RefusesTheIdOfARunningRequest) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("x"), .allowed_steps = 2});
  v1::GenerateRequest request = TextRequest("prompt", 10);
  request.set_request_id("same");
  grpc::ClientContext context;
  const auto stream = stub_->Generate(&context, request);
  ASSERT_TRUE(worker->AwaitHeldStep());
  EXPECT_EQ(Generate(request).status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  worker->AllowSteps(1 << 20);
  EXPECT_TRUE(ReadAll(*stream).status.ok());
  EXPECT_TRUE(Generate(request).status.ok());
}

TEST_F(GenerateTest, AFullQueueIsResourceExhausted) {
  CoordinatorServer::Options options;
  options.scheduler.max_running_sequences = 1;
  options.scheduler.max_waiting_requests = 1;
  StartServer(options);
  const auto worker = AttachWorker({.script = Repeat("x"), .allowed_steps = 2});
  grpc::ClientContext contexts[2];
  const auto running = stub_->Generate(&contexts[0], TextRequest("prompt", 10));
  ASSERT_TRUE(worker->AwaitHeldStep());
  const auto waiting = stub_->Generate(&contexts[1], TextRequest("prompt", 10));
  v1::GetStatusResponse status;
  while (status.num_requests_waiting() == 0) {
    grpc::ClientContext context;
    ASSERT_TRUE(stub_->GetStatus(&context, {}, &status).ok());
  }
  grpc::ClientContext refused;
  EXPECT_EQ(ReadAll(*stub_->Generate(&refused, TextRequest("prompt", 10))).status.error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(refused.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1);
  worker->AllowSteps(1 << 20);
  EXPECT_TRUE(ReadAll(*running).status.ok());
  EXPECT_TRUE(ReadAll(*waiting).status.ok());
}

TEST_F(GenerateTest, NamesTheFieldThatIsNotUtf8) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("x")});
  v1::GenerateRequest request = TextRequest("ab?cd", 1);
  std::string bytes = request.SerializeAsString();
  bytes[bytes.find('?')] = '\xFF';
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer buffer(&slice, 1);
  const grpc::internal::RpcMethod method("/kvec.v1.Inference/Generate",
                                         grpc::internal::RpcMethod::SERVER_STREAMING);
  grpc::ClientContext context;
  const std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> stream(
      grpc::internal::ClientReaderFactory<v1::GenerateResponse>::Create(channel_.get(), method,
                                                                        &context, buffer));
  const Answer answer = ReadAll(*stream);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("text: byte 2"));
}

TEST_F(GenerateTest, RefusesAHugeMessageAndGoesOn) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("x")});
  const Answer answer = Generate(TextRequest(std::string(100 << 20, 'a'), 1));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(Generate(TextRequest("a", 1)).status.ok());
}

TEST_F(GenerateTest, ServesManyClientsAtOnce) {
  StartServer();
  const auto worker = AttachWorker({.script = Repeat("abcdefghij")});
  std::vector<std::future<Answer>> answers;
  for (int i = 0; i < 16; ++i) {
    answers.push_back(std::async(std::launch::async,
                                 [this, i] { return Generate(TextRequest("prompt", 20 + i)); }));
  }
  for (int i = 0; i < 16; ++i) {
    const Answer answer = answers[i].get();
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_THAT(answer.choices[0].token_ids, SizeIs(20 + i));
  }
  EXPECT_TRUE(worker->AwaitIdle());
}

}  // namespace
}  // namespace kvec::coordinator::server
