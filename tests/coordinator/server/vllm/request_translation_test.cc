#include "coordinator/server/vllm/request_translation.h"

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::server::vllm {
namespace {

namespace engine = ::vllm::grpc::engine;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(RequestTranslationTest, TranslatesEveryField) {
  engine::GenerateRequest request;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"pb(request_id: "cmpl-1"
           tokenized { input_ids: [ 5, 6 ] }
           sampling_params {
             temperature: 0.5
             top_p: 0.9
             top_k: 40
             min_p: 0.1
             frequency_penalty: 0.25
             presence_penalty: -0.5
             repetition_penalty: 1.5
             max_tokens: 12
             min_tokens: 3
             stop: "a"
             stop: "b"
             stop_token_ids: [ 7 ]
             ignore_eos: true
             n: 4
             logprobs: 2
             prompt_logprobs: 0
             seed: 9
             include_stop_str_in_output: true
             logit_bias { key: 3 value: -1 }
           }
           stream: true)pb",
      &request));
  v1::GenerateRequest expected;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"pb(request_id: "cmpl-1"
           token_ids { ids: [ 5, 6 ] }
           sampling {
             temperature: 0.5
             top_p: 0.9
             top_k: 40
             min_p: 0.1
             frequency_penalty: 0.25
             presence_penalty: -0.5
             repetition_penalty: 1.5
             n: 4
             seed: 9
             logit_bias { key: 3 value: -1 }
           }
           stopping {
             max_tokens: 12
             min_tokens: 3
             stop: "a"
             stop: "b"
             stop_token_ids: [ 7 ]
             ignore_eos: true
             include_stop: true
           }
           logprobs: 2
           prompt_logprobs: 0)pb",
      &expected));
  const auto translated = TranslateRequest(request, std::nullopt);
  ASSERT_TRUE(translated.ok()) << translated.status();
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(*translated, expected))
      << translated->DebugString();
}

TEST(RequestTranslationTest, UnsetFieldsAreOffAndNotZero) {
  const auto translated = TranslateRequest(engine::GenerateRequest(), std::nullopt);
  ASSERT_TRUE(translated.ok());
  EXPECT_FALSE(translated->sampling().has_temperature());
  EXPECT_FALSE(translated->sampling().has_top_p());
  EXPECT_FALSE(translated->sampling().has_repetition_penalty());
  EXPECT_FALSE(translated->sampling().has_seed());
  EXPECT_FALSE(translated->sampling().has_n());
  EXPECT_FALSE(translated->stopping().has_max_tokens());
  EXPECT_FALSE(translated->has_logprobs());
  EXPECT_EQ(translated->input_case(), v1::GenerateRequest::INPUT_NOT_SET);
}

TEST(RequestTranslationTest, TextStaysText) {
  engine::GenerateRequest request;
  request.set_text("hello");
  EXPECT_EQ(TranslateRequest(request, 1)->text(), "hello");
}

TEST(RequestTranslationTest, PutsBosBeforeIdsThatLackIt) {
  engine::GenerateRequest request;
  request.mutable_tokenized()->add_input_ids(5);
  EXPECT_THAT(TranslateRequest(request, std::nullopt)->token_ids().ids(), ElementsAre(5));
  EXPECT_THAT(TranslateRequest(request, 1)->token_ids().ids(), ElementsAre(1, 5));
  request.mutable_tokenized()->set_input_ids(0, 1);
  EXPECT_THAT(TranslateRequest(request, 1)->token_ids().ids(), ElementsAre(1));
  request.mutable_tokenized()->clear_input_ids();
  EXPECT_TRUE(TranslateRequest(request, 1)->token_ids().ids().empty());
}

TEST(RequestTranslationTest, NegativeSeedsStayDifferent) {
  engine::GenerateRequest request;
  request.mutable_sampling_params()->set_seed(-5);
  const uint64_t first = TranslateRequest(request, std::nullopt)->sampling().seed();
  request.mutable_sampling_params()->set_seed(5);
  EXPECT_NE(TranslateRequest(request, std::nullopt)->sampling().seed(), first);
}

TEST(RequestTranslationTest, RefusesWhatIsNotOfferedByName) {
  const std::vector<std::pair<std::string, std::function<void(engine::GenerateRequest&)>>> cases = {
      {"json_schema", [](auto& r) { r.mutable_sampling_params()->set_json_schema("{}"); }},
      {"regex", [](auto& r) { r.mutable_sampling_params()->set_regex("a+"); }},
      {"grammar", [](auto& r) { r.mutable_sampling_params()->set_grammar("root ::= x"); }},
      {"structural_tag", [](auto& r) { r.mutable_sampling_params()->set_structural_tag("{}"); }},
      {"json_object", [](auto& r) { r.mutable_sampling_params()->set_json_object(true); }},
      {"choice", [](auto& r) { r.mutable_sampling_params()->set_choice("\x0A\x01x"); }},
      {"truncate_prompt_tokens",
       [](auto& r) { r.mutable_sampling_params()->set_truncate_prompt_tokens(3); }},
      {"sampling_params.logprobs: -1",
       [](auto& r) { r.mutable_sampling_params()->set_logprobs(-1); }},
      {"sampling_params.prompt_logprobs: -1",
       [](auto& r) { r.mutable_sampling_params()->set_prompt_logprobs(-1); }},
      {"logit_bias: token -2",
       [](auto& r) { (*r.mutable_sampling_params()->mutable_logit_bias())[-2] = 1; }},
      {"kv_transfer_params", [](auto& r) { r.set_kv_transfer_params(""); }},
      {"kv_transfer_params_json", [](auto& r) { r.set_kv_transfer_params_json("{}"); }},
      {"mm_inputs", [](auto& r) { r.set_mm_inputs(""); }},
      {"extra_mm_inputs", [](auto& r) { r.add_extra_mm_inputs(""); }},
      {"media_refs", [](auto& r) { r.set_media_refs(""); }},
      {"data_parallel_rank: 2", [](auto& r) { r.set_data_parallel_rank(2); }},
  };
  for (const auto& [name, change] : cases) {
    engine::GenerateRequest request;
    request.mutable_tokenized()->add_input_ids(5);
    change(request);
    const absl::Status status = TranslateRequest(request, std::nullopt).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(status.message(), HasSubstr(name));
  }
}

}  // namespace
}  // namespace kvec::coordinator::server::vllm
