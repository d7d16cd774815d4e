#include "coordinator/server/request_validation.h"

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/server/test_model.h"

namespace kvec::coordinator::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

v1::CachePolicy FullPolicy() {
  v1::CachePolicy policy;
  policy.set_policy("full");
  return policy;
}

absl::StatusOr<scheduler::Request> Validate(const v1::GenerateRequest& request) {
  static const ServedModel* const model = MakeTestModel().release();
  return ValidateRequest(request, *model, FullPolicy(), /*is_follow_up=*/false);
}

v1::GenerateRequest ValidRequest() {
  v1::GenerateRequest request;
  request.set_text("hello");
  return request;
}

// A request that is wrong in one way.
struct BadRequest {
  std::string name;
  std::function<void(v1::GenerateRequest&)> spoil;
  std::string message;  // a part of the status message: the field and the value
};

class BadRequestTest : public testing::TestWithParam<BadRequest> {};

TEST_P(BadRequestTest, IsAnInvalidArgumentThatNamesFieldAndValue) {
  v1::GenerateRequest request = ValidRequest();
  GetParam().spoil(request);
  const absl::Status status = Validate(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

using R = v1::GenerateRequest;

std::vector<BadRequest> BadInputs() {
  return {
      {"NoInput", [](R& r) { r.clear_input(); }, "input: one of text, chat and token_ids"},
      {"EmptyText", [](R& r) { r.set_text(std::string()); }, "text: empty"},
      {"InvalidUtf8", [](R& r) { r.set_text(std::string("ab\xFF")); }, "text: byte 2"},
      {"EmptyChat", [](R& r) { r.mutable_chat(); }, "chat.messages: empty"},
      {"UnknownRole", [](R& r) { r.mutable_chat()->add_messages()->set_role("robot"); },
       "chat.messages[0].role: \"robot\""},
      {"NoTokenIds", [](R& r) { r.mutable_token_ids(); }, "token_ids.ids: gives no tokens"},
      {"TokenIdOutsideVocabulary",
       [](R& r) {
         r.mutable_token_ids()->add_ids(3);
         r.mutable_token_ids()->add_ids(kTestVocabSize);
       },
       "token_ids.ids[1]: 258"},
      {"TokenIdBeyondSigned", [](R& r) { r.mutable_token_ids()->add_ids(4'000'000'000u); },
       "4000000000"},
      {"TextFarBeyondContext", [](R& r) { r.set_text(std::string(1 << 20, 'a')); },
       "text: 1048576 bytes are at least 131072 tokens, at most 8192 are possible"},
      {"ChatFarBeyondContext",
       [](R& r) {
         v1::ChatMessage& message = *r.mutable_chat()->add_messages();
         message.set_role("user");
         message.set_content(std::string(1 << 20, 'a'));
       },
       "chat: text: 1048584 bytes are at least 131073 tokens"},
      {"PromptFillsContext", [](R& r) { r.set_text(std::string(kTestContext, 'a')); },
       "prompt: 8192 tokens leave no room in the context of 8192"},
      {"LongSessionId", [](R& r) { r.set_session_id(std::string(129, 'x')); }, "length: 129"},
      {"SessionIdWithSpace", [](R& r) { r.set_session_id("a b"); }, "session_id: \"a b\""},
      {"SessionWithChoices",
       [](R& r) {
         r.set_session_id("s");
         r.mutable_sampling()->set_n(2);
       },
       "sampling.n: 2, must be 1 with a session_id"},
      {"ContinuesNoSession", [](R& r) { r.set_continue_session(true); }, "continue_session: true"},
      {"LongRequestId", [](R& r) { r.set_request_id(std::string(129, 'x')); }, "length: 129"},
      {"RequestIdWithNewline", [](R& r) { r.set_request_id("a\nb"); }, "request_id: \"a\\nb\""},
      {"PriorityTooHigh", [](R& r) { r.set_priority(101); }, "priority: 101"},
      {"PriorityTooLow", [](R& r) { r.set_priority(-2'000'000'000); }, "priority: -2000000000"},
  };
}

std::vector<BadRequest> BadSampling() {
  const auto set = [](void (v1::SamplingParameters::*setter)(float), float value) {
    return [=](R& r) { (r.mutable_sampling()->*setter)(value); };
  };
  using S = v1::SamplingParameters;
  return {
      {"TemperatureNan", set(&S::set_temperature, kNan), "sampling.temperature: nan"},
      {"TemperatureNegative", set(&S::set_temperature, -1), "sampling.temperature: -1"},
      {"TemperatureHuge", set(&S::set_temperature, 1e30f), "sampling.temperature: 1e+30"},
      {"TemperatureInfinite", set(&S::set_temperature, kInfinity), "sampling.temperature: inf"},
      {"TopPZero", set(&S::set_top_p, 0), "sampling.top_p: 0 is outside (0, 1]"},
      {"TopPAboveOne", set(&S::set_top_p, 1.5), "sampling.top_p: 1.5"},
      {"TopPNan", set(&S::set_top_p, kNan), "sampling.top_p: nan"},
      {"MinPOne", set(&S::set_min_p, 1), "sampling.min_p: 1 is outside [0, 1)"},
      {"MinPNegative", set(&S::set_min_p, -0.5), "sampling.min_p: -0.5"},
      {"RepetitionZero", set(&S::set_repetition_penalty, 0), "sampling.repetition_penalty: 0"},
      {"RepetitionNan", set(&S::set_repetition_penalty, kNan), "sampling.repetition_penalty: nan"},
      {"FrequencyTooLarge", set(&S::set_frequency_penalty, 2.5), "sampling.frequency_penalty: 2.5"},
      {"PresenceTooSmall", set(&S::set_presence_penalty, -3), "sampling.presence_penalty: -3"},
      {"BiasNan", [](R& r) { (*r.mutable_sampling()->mutable_logit_bias())[5] = kNan; },
       "sampling.logit_bias[5]: nan"},
      {"BiasTooLarge", [](R& r) { (*r.mutable_sampling()->mutable_logit_bias())[5] = 101; },
       "sampling.logit_bias[5]: 101"},
      {"BiasOutsideVocabulary",
       [](R& r) { (*r.mutable_sampling()->mutable_logit_bias())[999] = 1; },
       "sampling.logit_bias: token 999"},
      {"NoChoices", [](R& r) { r.mutable_sampling()->set_n(0); }, "sampling.n: 0"},
      {"DecodeEvictionOfChoices",
       [](R& r) {
         r.mutable_sampling()->set_n(2);
         r.mutable_cache()->set_policy("kvec");
         r.mutable_cache()->set_budget_tokens(128);
         r.mutable_cache()->set_decode_interval_tokens(64);
       },
       "cache.decode_interval_tokens: 64, must be 0 with sampling.n = 2"},
      {"TooManyChoices", [](R& r) { r.mutable_sampling()->set_n(65); }, "sampling.n: 65"},
      {"ForcedChoices",
       [](R& r) {
         r.mutable_sampling()->set_n(2);
         r.add_forced_token_ids(1);
       },
       "sampling.n: 2"},
      {"LogProbs", [](R& r) { r.set_logprobs(21); }, "logprobs: 21 is above 20"},
      {"PromptLogProbs", [](R& r) { r.set_prompt_logprobs(21); }, "prompt_logprobs: 21"},
  };
}

std::vector<BadRequest> BadStopping() {
  return {
      {"NoMaxTokens", [](R& r) { r.mutable_stopping()->set_max_tokens(0); },
       "stopping.max_tokens: 0"},
      {"BillionMaxTokens", [](R& r) { r.mutable_stopping()->set_max_tokens(1'000'000'000); },
       "stopping.max_tokens: 1000000000 after a prompt of 5 tokens exceeds the context of 8192"},
      {"OneTooMany", [](R& r) { r.mutable_stopping()->set_max_tokens(kTestContext - 4); },
       "stopping.max_tokens: 8188"},
      {"MinTokensAboveMax",
       [](R& r) {
         r.mutable_stopping()->set_max_tokens(3);
         r.mutable_stopping()->set_min_tokens(4);
       },
       "stopping.min_tokens: 4"},
      {"TooManyStops",
       [](R& r) {
         for (int i = 0; i < 17; ++i) r.mutable_stopping()->add_stop(std::string(1, 'x'));
       },
       "stopping.stop: 17 strings"},
      {"EmptyStop",
       [](R& r) {
         r.mutable_stopping()->add_stop("x");
         r.mutable_stopping()->add_stop("");
       },
       "stopping.stop[1]: empty"},
      {"LongStop", [](R& r) { r.mutable_stopping()->add_stop(std::string(1025, 'x')); },
       "stopping.stop[0]: length: 1025"},
      {"StopTokenOutsideVocabulary",
       [](R& r) { r.mutable_stopping()->add_stop_token_ids(kTestVocabSize); },
       "stopping.stop_token_ids[0]: 258"},
      {"ForcedTokenOutsideVocabulary", [](R& r) { r.add_forced_token_ids(70'000); },
       "forced_token_ids[0]: 70000"},
      {"ForcedTokensWithMaxTokens",
       [](R& r) {
         r.add_forced_token_ids(1);
         r.mutable_stopping()->set_max_tokens(7);
       },
       "stopping.max_tokens: 7"},
      {"ForcedTokensBeyondContext",
       [](R& r) {
         for (int i = 0; i < kTestContext - 4; ++i) r.add_forced_token_ids(1);
       },
       "forced_token_ids: 8188 tokens"},
  };
}

std::vector<BadRequest> BadCache() {
  return {
      {"UnknownPolicy", [](R& r) { r.mutable_cache()->set_policy("magic"); },
       "cache.policy: \"magic\" is unknown; known: full"},
      {"NoBudgetTokens", [](R& r) { r.mutable_cache()->set_budget_tokens(0); },
       "cache.budget_tokens: 0"},
      {"NoBudgetShare", [](R& r) { r.mutable_cache()->set_budget_share(0); },
       "cache.budget_share: 0"},
      {"BudgetShareNan", [](R& r) { r.mutable_cache()->set_budget_share(kNan); },
       "cache.budget_share: nan"},
      {"BudgetShareAboveOne", [](R& r) { r.mutable_cache()->set_budget_share(1.25); },
       "cache.budget_share: 1.25"},
      {"NoObservationWindow", [](R& r) { r.mutable_cache()->set_observation_window(0); },
       "cache.observation_window: 0"},
      {"ObservationWindowAboveWide", [](R& r) { r.mutable_cache()->set_observation_window(33); },
       "cache.observation_window: 33"},
      {"WideWindowHuge", [](R& r) { r.mutable_cache()->set_wide_window(1 << 30); },
       "cache.wide_window: 1073741824"},
      {"LambdaNan", [](R& r) { r.mutable_cache()->set_lambda(kNan); }, "cache.lambda: nan"},
      {"BetaAboveOne", [](R& r) { r.mutable_cache()->set_beta(2); }, "cache.beta: 2"},
      {"UnknownLayerAllocation", [](R& r) { r.mutable_cache()->set_layer_allocation("x"); },
       "cache.layer_allocation: \"x\""},
      {"UnknownHeadAllocation", [](R& r) { r.mutable_cache()->set_head_allocation("y"); },
       "cache.head_allocation: \"y\""},
  };
}

std::string NameOf(const testing::TestParamInfo<BadRequest>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Input, BadRequestTest, testing::ValuesIn(BadInputs()), NameOf);
INSTANTIATE_TEST_SUITE_P(Sampling, BadRequestTest, testing::ValuesIn(BadSampling()), NameOf);
INSTANTIATE_TEST_SUITE_P(Stopping, BadRequestTest, testing::ValuesIn(BadStopping()), NameOf);
INSTANTIATE_TEST_SUITE_P(Cache, BadRequestTest, testing::ValuesIn(BadCache()), NameOf);

TEST(RequestValidationTest, FillsDefaults) {
  const absl::StatusOr<scheduler::Request> request = Validate(ValidRequest());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_THAT(request->prompt, ElementsAre('h', 'e', 'l', 'l', 'o'));
  EXPECT_EQ(request->num_choices, 1);
  EXPECT_EQ(request->max_tokens, kTestContext - 5);
  EXPECT_THAT(request->stop_token_ids, ElementsAre(kTestEos));
  const v1::StepSampling& sampling = request->sampling;
  EXPECT_EQ(sampling.temperature(), 1);
  EXPECT_EQ(sampling.top_k(), 0);
  EXPECT_EQ(sampling.top_p(), 1);
  EXPECT_EQ(sampling.min_p(), 0);
  EXPECT_EQ(sampling.repetition_penalty(), 1);
  EXPECT_EQ(sampling.logprobs(), -1);
  EXPECT_EQ(sampling.prompt_logprobs(), -1);
  EXPECT_EQ(request->cache.policy(), "full");
  EXPECT_EQ(request->cache.observation_window(), 16);
  EXPECT_EQ(request->cache.wide_window(), 32);
  EXPECT_EQ(request->cache.layer_allocation(), "uniform");
}

TEST(RequestValidationTest, TakesValuesAtTheirLimits) {
  v1::GenerateRequest request = ValidRequest();
  v1::SamplingParameters& sampling = *request.mutable_sampling();
  sampling.set_temperature(0);
  sampling.set_top_p(1);
  sampling.set_min_p(0);
  sampling.set_frequency_penalty(-2);
  sampling.set_presence_penalty(2);
  sampling.set_n(64);
  (*sampling.mutable_logit_bias())[kTestVocabSize - 1] = -100;
  request.set_logprobs(20);
  request.set_priority(-100);
  request.set_request_id(std::string(128, 'x'));
  request.mutable_stopping()->set_max_tokens(kTestContext - 5);
  request.mutable_stopping()->set_min_tokens(kTestContext - 5);
  for (int i = 0; i < 16; ++i) request.mutable_stopping()->add_stop("x");
  const absl::StatusOr<scheduler::Request> checked = Validate(request);
  ASSERT_TRUE(checked.ok()) << checked.status();
  EXPECT_EQ(checked->num_choices, 64);
  EXPECT_EQ(checked->sampling.min_tokens(), kTestContext - 5);
}

TEST(RequestValidationTest, ATopKOfTheWholeVocabularyOrMoreIsOff) {
  v1::GenerateRequest request = ValidRequest();
  request.mutable_sampling()->set_top_k(4'000'000'000u);
  EXPECT_EQ(Validate(request)->sampling.top_k(), 0);
  request.mutable_sampling()->set_top_k(kTestVocabSize - 1);
  EXPECT_EQ(Validate(request)->sampling.top_k(), kTestVocabSize - 1);
}

TEST(RequestValidationTest, IgnoreEosKeepsTheUsersStopTokens) {
  v1::GenerateRequest request = ValidRequest();
  request.mutable_stopping()->add_stop_token_ids(7);
  EXPECT_THAT(Validate(request)->stop_token_ids, UnorderedElementsAre(7, kTestEos));
  request.mutable_stopping()->set_ignore_eos(true);
  const absl::StatusOr<scheduler::Request> checked = Validate(request);
  EXPECT_THAT(checked->stop_token_ids, ElementsAre(7));
  EXPECT_THAT(checked->sampling.stop_token_ids(), ElementsAre(7));
}

TEST(RequestValidationTest, KeepsTheTextOfSpecialTokensWhenAsked) {
  v1::GenerateRequest request = ValidRequest();
  request.set_text("<|mark|>");
  EXPECT_THAT(Validate(request)->prompt, ElementsAre(kTestMarker));
  request.set_parse_special_tokens(false);
  EXPECT_EQ(Validate(request)->prompt.size(), 8);
}

TEST(RequestValidationTest, ForcedTokensFixTheNumberOfTokens) {
  v1::GenerateRequest request = ValidRequest();
  for (int i = 0; i < 3; ++i) request.add_forced_token_ids(i);
  const absl::StatusOr<scheduler::Request> checked = Validate(request);
  ASSERT_TRUE(checked.ok()) << checked.status();
  EXPECT_THAT(checked->forced_tokens, ElementsAre(0, 1, 2));
  EXPECT_EQ(checked->max_tokens, 3);
}

TEST(RequestValidationTest, AFollowUpIsWhatComesAfterItsSession) {
  const std::unique_ptr<ServedModel> model = MakeTestModel();
  v1::GenerateRequest request = ValidRequest();
  request.set_session_id("s");
  request.set_continue_session(true);
  const auto validate = [&] {
    return ValidateRequest(request, *model, FullPolicy(), /*is_follow_up=*/true);
  };
  const absl::StatusOr<scheduler::Request> checked = validate();
  ASSERT_TRUE(checked.ok()) << checked.status();
  EXPECT_EQ(checked->session_id, "s");
  EXPECT_TRUE(checked->is_follow_up);
  EXPECT_TRUE(checked->fills_context);
  EXPECT_EQ(checked->context_length, kTestContext);

  request.mutable_cache()->set_policy("full");
  EXPECT_EQ(validate().status().message(),
            "cache: session \"s\" has begun, and its policy goes on");
  request.clear_cache();
  request.mutable_chat()->add_messages()->set_role("user");
  EXPECT_EQ(validate().status().message(),
            "chat: session \"s\" has begun; what follows it is text or token_ids, without a chat "
            "template");
}

TEST(RequestValidationTest, ReportsASessionThatIsNotThere) {
  v1::GenerateRequest request = ValidRequest();
  request.set_session_id("s");
  EXPECT_TRUE(Validate(request).ok());
  request.set_continue_session(true);
  EXPECT_EQ(Validate(request).status(),
            absl::NotFoundError("session_id: there is no session \"s\""));
}

TEST(RequestValidationTest, ReportsAChatWithoutATemplate) {
  const std::unique_ptr<ServedModel> model = MakeTestModel();
  model->chat_template = *text::ChatTemplate::Create("", *model->tokenizer);
  v1::GenerateRequest request;
  v1::ChatMessage& message = *request.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("hi");
  EXPECT_EQ(ValidateRequest(request, *model, FullPolicy(), /*is_follow_up=*/false).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace kvec::coordinator::server
