#include "coordinator/server/response_queue.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/server/test_model.h"

namespace kvec::coordinator::server {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

class ResponseQueueTest : public testing::Test {
 protected:
  ResponseQueue MakeQueue() {
    request_.id = "r";
    if (request_.prompt.empty()) request_.prompt = {1, 2, 3};
    request_.sampling.set_seed(9);
    return ResponseQueue(*model_->tokenizer, original_, request_);
  }

  static void AddText(ResponseQueue& queue, uint32_t choice, const std::string& text) {
    for (const char c : text) queue.AddToken(choice, static_cast<uint8_t>(c), nullptr);
  }

  static std::vector<v1::GenerateResponse> PopAll(ResponseQueue& queue) {
    std::vector<v1::GenerateResponse> responses;
    while (auto response = queue.Pop()) responses.push_back(*response);
    return responses;
  }

  const std::unique_ptr<ServedModel> model_ = MakeTestModel();
  v1::GenerateRequest original_;
  scheduler::Request request_;
};

TEST_F(ResponseQueueTest, PutsPromptIdAndSeedIntoTheFirstMessageOfChoice0) {
  request_.num_choices = 2;
  ResponseQueue queue = MakeQueue();
  AddText(queue, 1, "b");
  AddText(queue, 0, "a");
  AddText(queue, 0, "c");
  const auto responses = PopAll(queue);
  ASSERT_THAT(responses, SizeIs(2));
  EXPECT_EQ(responses[0].choice(), 1);
  EXPECT_EQ(responses[0].request_id(), "");
  EXPECT_EQ(responses[1].choice(), 0);
  EXPECT_EQ(responses[1].request_id(), "r");
  EXPECT_EQ(responses[1].seed(), 9);
  EXPECT_THAT(responses[1].prompt_token_ids(), ElementsAre(1, 2, 3));
  AddText(queue, 0, "d");
  EXPECT_EQ(queue.Pop()->request_id(), "");
}

TEST_F(ResponseQueueTest, AddsToTheWaitingMessageOfAChoice) {
  ResponseQueue queue = MakeQueue();
  AddText(queue, 0, "abc");
  EXPECT_EQ(queue.Pop()->text(), "abc");
  AddText(queue, 0, "de");
  EXPECT_THAT(queue.Pop()->token_ids(), ElementsAre('d', 'e'));
  EXPECT_FALSE(queue.Pop().has_value());
}

TEST_F(ResponseQueueTest, BeginsANewMessageBeforeOneGetsTooLargeForClients) {
  ResponseQueue queue = MakeQueue();
  v1::TokenLogProbs logprobs;
  for (int i = 0; i < 20; ++i) logprobs.add_top()->set_log_prob(-1.5f);
  constexpr int kTokens = 20'000;
  for (int i = 0; i < kTokens; ++i) queue.AddToken(0, 'x', &logprobs);
  const auto responses = PopAll(queue);
  int num_tokens = 0;
  for (const v1::GenerateResponse& response : responses) {
    EXPECT_LT(response.ByteSizeLong(), 2u << 20);
    num_tokens += response.token_ids_size();
  }
  EXPECT_GT(responses.size(), 1);
  EXPECT_EQ(num_tokens, kTokens);
}

TEST_F(ResponseQueueTest, PutsTheUsageIntoTheLastMessage) {
  ResponseQueue queue = MakeQueue();
  v1::Usage usage;
  usage.set_completion_tokens(2);
  AddText(queue, 0, "ab");
  queue.FinishChoice(0, v1::FINISH_REASON_LENGTH);
  queue.AddUsage(usage);
  const auto responses = PopAll(queue);
  ASSERT_THAT(responses, SizeIs(1));
  EXPECT_EQ(responses[0].usage().completion_tokens(), 2);
}

TEST_F(ResponseQueueTest, SendsTheUsageAloneWhenAllElseIsSent) {
  ResponseQueue queue = MakeQueue();
  AddText(queue, 0, "ab");
  queue.FinishChoice(0, v1::FINISH_REASON_LENGTH);
  PopAll(queue);
  queue.AddUsage(v1::Usage());
  EXPECT_TRUE(queue.Pop()->has_usage());
}

TEST_F(ResponseQueueTest, StopsAtAStopStringAndHoldsBackItsBeginning) {
  original_.mutable_stopping()->add_stop("END");
  ResponseQueue queue = MakeQueue();
  AddText(queue, 0, "aEN");
  EXPECT_EQ(queue.Pop()->text(), "a");
  EXPECT_EQ(queue.AddToken(0, 'D', nullptr), scheduler::Verdict::kStop);
  queue.FinishChoice(0, v1::FINISH_REASON_STOP);
  const auto last = queue.Pop();
  EXPECT_EQ(last->text(), "");
  EXPECT_EQ(last->stop_string(), "END");
}

TEST_F(ResponseQueueTest, SendsWhatWasHeldBackAtTheEnd) {
  original_.mutable_stopping()->add_stop("END");
  ResponseQueue queue = MakeQueue();
  AddText(queue, 0, "aEN");
  queue.FinishChoice(0, v1::FINISH_REASON_LENGTH);
  const auto last = queue.Pop();
  EXPECT_EQ(last->text(), "aEN");
  EXPECT_EQ(last->finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(last->stop_match_case(), v1::GenerateResponse::STOP_MATCH_NOT_SET);
}

TEST_F(ResponseQueueTest, LeavesTheTextOfAStopTokenOut) {
  request_.stop_token_ids = {'z', kTestEos};
  ResponseQueue queue = MakeQueue();
  AddText(queue, 0, "az");
  queue.FinishChoice(0, v1::FINISH_REASON_STOP);
  const auto last = queue.Pop();
  EXPECT_EQ(last->text(), "a");
  EXPECT_THAT(last->token_ids(), ElementsAre('a', 'z'));
  EXPECT_EQ(last->stop_token_id(), 'z');
}

TEST_F(ResponseQueueTest, AForcedStopTokenIsTextLikeAnyOther) {
  request_.stop_token_ids = {'z'};
  request_.forced_tokens = {'z', 'a'};
  ResponseQueue queue = MakeQueue();
  AddText(queue, 0, "za");
  queue.FinishChoice(0, v1::FINISH_REASON_FORCED);
  EXPECT_EQ(queue.Pop()->text(), "za");
}

TEST_F(ResponseQueueTest, ShowsNoSpecialTokensAndNoneBeyondTheTokenizer) {
  ResponseQueue queue = MakeQueue();
  for (const int32_t token : {int32_t{'a'}, kTestMarker, kTestVocabSize + 5, int32_t{'b'}}) {
    queue.AddToken(0, token, nullptr);
  }
  EXPECT_EQ(queue.Pop()->text(), "ab");
}

}  // namespace
}  // namespace kvec::coordinator::server
