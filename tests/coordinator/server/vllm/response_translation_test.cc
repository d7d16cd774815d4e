#include "coordinator/server/vllm/response_translation.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::server::vllm {
namespace {

namespace engine = ::vllm::grpc::engine;
using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::IsEmpty;

engine::GenerateRequest Request(bool stream, uint32_t n = 1) {
  engine::GenerateRequest request;
  request.set_stream(stream);
  request.mutable_sampling_params()->set_n(n);
  return request;
}

v1::GenerateResponse Tokens(uint32_t choice, std::vector<uint32_t> ids) {
  v1::GenerateResponse response;
  response.set_choice(choice);
  response.mutable_token_ids()->Assign(ids.begin(), ids.end());
  return response;
}

v1::GenerateResponse Finished(uint32_t choice, v1::FinishReason reason) {
  v1::GenerateResponse response;
  response.set_choice(choice);
  response.set_finish_reason(reason);
  return response;
}

v1::GenerateResponse Usage(uint32_t cached_tokens) {
  v1::GenerateResponse response;
  response.mutable_usage()->set_cached_tokens(cached_tokens);
  return response;
}

v1::TokenLogProbs LogProbs(uint32_t id, float log_prob) {
  v1::TokenLogProbs logprobs;
  logprobs.mutable_chosen()->set_token_id(id);
  logprobs.mutable_chosen()->set_log_prob(log_prob);
  for (const auto& [top_id, top_log_prob] : {std::pair{id + 1, log_prob / 2}, {id, log_prob}}) {
    logprobs.add_top()->set_token_id(top_id);
    logprobs.mutable_top()->rbegin()->set_log_prob(top_log_prob);
  }
  return logprobs;
}

TEST(ResponseTranslationTest, StreamsNewIdsAndThenAllOfThem) {
  ResponseTranslation translation(Request(/*stream=*/true), 3);
  auto messages = translation.Translate(Tokens(0, {7, 8}));
  ASSERT_EQ(messages.size(), 1);
  EXPECT_THAT(messages[0].chunk().token_ids(), ElementsAre(7, 8));
  EXPECT_EQ(messages[0].chunk().prompt_tokens(), 3);
  EXPECT_EQ(messages[0].chunk().completion_tokens(), 2);
  messages = translation.Translate(Tokens(0, {9}));
  ASSERT_EQ(messages.size(), 1);
  EXPECT_THAT(messages[0].chunk().token_ids(), ElementsAre(9));
  EXPECT_EQ(messages[0].chunk().completion_tokens(), 3);

  // The last choice waits for the usage.
  EXPECT_TRUE(translation.Translate(Finished(0, v1::FINISH_REASON_LENGTH)).empty());
  messages = translation.Translate(Usage(16));
  ASSERT_EQ(messages.size(), 1);
  const engine::GenerateComplete& complete = messages[0].complete();
  EXPECT_THAT(complete.output_ids(), ElementsAre(7, 8, 9));
  EXPECT_EQ(complete.finish_reason(), "length");
  EXPECT_EQ(complete.prompt_tokens(), 3);
  EXPECT_EQ(complete.completion_tokens(), 3);
  EXPECT_EQ(complete.cached_tokens(), 16);
  EXPECT_EQ(complete.matched_stop_case(), engine::GenerateComplete::MATCHED_STOP_NOT_SET);
}

TEST(ResponseTranslationTest, TokensReasonAndUsageMayComeTogether) {
  ResponseTranslation translation(Request(/*stream=*/true), 3);
  v1::GenerateResponse response = Tokens(0, {7});
  response.set_finish_reason(v1::FINISH_REASON_STOP);
  response.set_stop_token_id(7);
  response.mutable_usage();
  const auto messages = translation.Translate(response);
  ASSERT_EQ(messages.size(), 2);
  EXPECT_THAT(messages[0].chunk().token_ids(), ElementsAre(7));
  EXPECT_EQ(messages[1].complete().finish_reason(), "stop");
  EXPECT_EQ(messages[1].complete().matched_token_id(), 7);
}

TEST(ResponseTranslationTest, WithoutAStreamThereIsOneMessagePerChoice) {
  ResponseTranslation translation(Request(/*stream=*/false, 2), 3);
  EXPECT_TRUE(translation.Translate(Tokens(0, {7})).empty());
  EXPECT_TRUE(translation.Translate(Tokens(1, {17})).empty());
  v1::GenerateResponse stopped = Finished(1, v1::FINISH_REASON_STOP);
  stopped.set_stop_string("END");
  EXPECT_TRUE(translation.Translate(stopped).empty());
  EXPECT_TRUE(translation.Translate(Tokens(0, {8})).empty());
  EXPECT_TRUE(translation.Translate(Finished(0, v1::FINISH_REASON_LENGTH)).empty());
  const auto messages = translation.Translate(Usage(0));
  ASSERT_EQ(messages.size(), 2);
  EXPECT_EQ(messages[0].complete().index(), 0);
  EXPECT_THAT(messages[0].complete().output_ids(), ElementsAre(7, 8));
  EXPECT_EQ(messages[1].complete().index(), 1);
  EXPECT_THAT(messages[1].complete().output_ids(), ElementsAre(17));
  EXPECT_EQ(messages[1].complete().matched_stop_str(), "END");
}

TEST(ResponseTranslationTest, AStreamedChoiceIsCompleteWhileOthersGoOn) {
  ResponseTranslation translation(Request(/*stream=*/true, 2), 3);
  translation.Translate(Tokens(0, {7}));
  translation.Translate(Tokens(1, {17}));
  auto messages = translation.Translate(Finished(1, v1::FINISH_REASON_STOP));
  ASSERT_EQ(messages.size(), 1);
  EXPECT_EQ(messages[0].complete().index(), 1);
  EXPECT_TRUE(translation.Translate(Finished(0, v1::FINISH_REASON_STOP)).empty());
  messages = translation.Translate(Usage(32));
  ASSERT_EQ(messages.size(), 1);
  EXPECT_EQ(messages[0].complete().index(), 0);
  EXPECT_EQ(messages[0].complete().cached_tokens(), 32);
}

TEST(ResponseTranslationTest, LogProbsGoWithTheirTokens) {
  for (const bool stream : {true, false}) {
    ResponseTranslation translation(Request(stream), 2);
    v1::GenerateResponse response = Tokens(0, {7, 8});
    *response.add_logprobs() = LogProbs(7, -1);
    *response.add_logprobs() = LogProbs(8, -3);
    response.set_finish_reason(v1::FINISH_REASON_LENGTH);
    response.mutable_usage();
    const auto messages = translation.Translate(response);
    ASSERT_EQ(messages.size(), stream ? 2u : 1u);
    const engine::OutputLogProbs& logprobs =
        stream ? messages[0].chunk().output_logprobs() : messages[0].complete().output_logprobs();
    EXPECT_THAT(logprobs.token_ids(), ElementsAre(7, 8));
    EXPECT_THAT(logprobs.token_logprobs(), ElementsAre(FloatEq(-1), FloatEq(-3)));
    ASSERT_EQ(logprobs.top_logprobs_size(), 2);
    EXPECT_THAT(logprobs.top_logprobs(1).token_ids(), ElementsAre(9, 8));
    EXPECT_THAT(logprobs.top_logprobs(1).values(), ElementsAre(FloatEq(-1.5), FloatEq(-3)));
    // Once only: the gateway adds them up.
    EXPECT_FALSE(stream && messages[1].complete().has_output_logprobs());
  }
}

TEST(ResponseTranslationTest, PromptLogProbsHaveAnEmptyEntryForTheFirstToken) {
  for (const bool stream : {true, false}) {
    ResponseTranslation translation(Request(stream), 3);
    v1::GenerateResponse head;
    head.mutable_prompt_token_ids()->Add(4);
    head.mutable_prompt_token_ids()->Add(5);
    head.mutable_prompt_token_ids()->Add(6);
    *head.add_prompt_logprobs() = LogProbs(5, -1);
    EXPECT_TRUE(translation.Translate(head).empty());
    v1::GenerateResponse last = Tokens(0, {7});
    *last.add_prompt_logprobs() = LogProbs(6, -2);
    last.set_finish_reason(v1::FINISH_REASON_LENGTH);
    last.mutable_usage();
    const auto messages = translation.Translate(last);
    ASSERT_EQ(messages.size(), stream ? 2u : 1u);
    const engine::InputLogProbs& logprobs =
        stream ? messages[0].chunk().input_logprobs() : messages[0].complete().input_logprobs();
    EXPECT_THAT(logprobs.token_ids(), ElementsAre(4, 5, 6));
    ASSERT_EQ(logprobs.token_logprobs_size(), 3);
    EXPECT_FALSE(logprobs.token_logprobs(0).has_value());
    EXPECT_EQ(logprobs.token_logprobs(2).value(), -2);
    ASSERT_EQ(logprobs.top_logprobs_size(), 3);
    EXPECT_THAT(logprobs.top_logprobs(0).token_ids(), IsEmpty());
    EXPECT_THAT(logprobs.top_logprobs(1).token_ids(), ElementsAre(6, 5));
    EXPECT_FALSE(stream && messages[1].complete().has_input_logprobs());
  }
}

}  // namespace
}  // namespace kvec::coordinator::server::vllm
