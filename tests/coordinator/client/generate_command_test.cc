#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/coordinator/client/fake_coordinator.h"
#include "tests/coordinator/client/run_kvec.h"

namespace kvec::coordinator::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

CommandResult Generate(const FakeCoordinator& coordinator, std::vector<std::string> arguments,
                       const std::string& input = "") {
  arguments.insert(arguments.begin(), {"generate", "--target", coordinator.target()});
  return RunKvec(arguments, input);
}

TEST(GenerateCommandTest, PrintsTheTextWithANewlineAtItsEnd) {
  FakeCoordinator coordinator(AnswerWith({" Par", "is."}));
  const CommandResult result = Generate(coordinator, {"--prompt", "France?"});
  EXPECT_EQ(result.exit_code, ExitCode::kDone);
  EXPECT_EQ(result.out, " Paris.\n");
  EXPECT_EQ(result.err, "");
}

TEST(GenerateCommandTest, SendsEveryFlag) {
  FakeCoordinator coordinator(AnswerWith({"x"}));
  const CommandResult result = Generate(coordinator, {"--prompt",
                                                      "p",
                                                      "--temperature",
                                                      "0.5",
                                                      "--top-k",
                                                      "3",
                                                      "--top-p",
                                                      "0.9",
                                                      "--min-p",
                                                      "0.1",
                                                      "--repetition-penalty",
                                                      "1.5",
                                                      "--frequency-penalty",
                                                      "-0.5",
                                                      "--presence-penalty",
                                                      "0.25",
                                                      "--seed",
                                                      "18446744073709551615",
                                                      "--logit-bias",
                                                      "5=-1.5,6=2",
                                                      "--n",
                                                      "2",
                                                      "--max-tokens",
                                                      "1000000000",
                                                      "--min-tokens",
                                                      "1",
                                                      "--stop",
                                                      "a,b",
                                                      "--stop",
                                                      "c",
                                                      "--stop-token-ids",
                                                      "8,9",
                                                      "--ignore-eos",
                                                      "--include-stop",
                                                      "--policy",
                                                      "kvec",
                                                      "--budget",
                                                      "0.25",
                                                      "--lambda",
                                                      "0.5",
                                                      "--delta",
                                                      "2",
                                                      "--layer-allocation",
                                                      "coverage",
                                                      "--session-id",
                                                      "s",
                                                      "--request-id",
                                                      "r",
                                                      "--priority",
                                                      "-4",
                                                      "--logprobs",
                                                      "5",
                                                      "--prompt-logprobs",
                                                      "0",
                                                      "--forced-token-ids",
                                                      "1,2",
                                                      "--no-special-tokens",
                                                      "--json"});
  ASSERT_EQ(result.exit_code, ExitCode::kDone) << result.err;
  v1::GenerateRequest expected;
  expected.set_text("p");
  auto& sampling = *expected.mutable_sampling();
  sampling.set_temperature(0.5f);
  sampling.set_top_k(3);
  sampling.set_top_p(0.9f);
  sampling.set_min_p(0.1f);
  sampling.set_repetition_penalty(1.5f);
  sampling.set_frequency_penalty(-0.5f);
  sampling.set_presence_penalty(0.25f);
  sampling.set_seed(~uint64_t{0});
  (*sampling.mutable_logit_bias())[5] = -1.5f;
  (*sampling.mutable_logit_bias())[6] = 2;
  sampling.set_n(2);
  auto& stopping = *expected.mutable_stopping();
  stopping.set_max_tokens(1000000000);
  stopping.set_min_tokens(1);
  stopping.add_stop("a,b");
  stopping.add_stop("c");
  stopping.add_stop_token_ids(8);
  stopping.add_stop_token_ids(9);
  stopping.set_ignore_eos(true);
  stopping.set_include_stop(true);
  auto& cache = *expected.mutable_cache();
  cache.set_policy("kvec");
  cache.set_budget_share(0.25f);
  cache.set_lambda(0.5f);
  cache.set_delta(2);
  cache.set_layer_allocation("coverage");
  expected.set_session_id("s");
  expected.set_request_id("r");
  expected.set_priority(-4);
  expected.set_logprobs(5);
  expected.set_prompt_logprobs(0);
  expected.add_forced_token_ids(1);
  expected.add_forced_token_ids(2);
  expected.set_add_special_tokens(false);
  expected.set_parse_special_tokens(false);
  EXPECT_EQ(coordinator.requests().at(0).DebugString(), expected.DebugString());
}

TEST(GenerateCommandTest, LeavesUnsetWhatNoFlagNames) {
  FakeCoordinator coordinator(AnswerWith({"x"}));
  Generate(coordinator, {"--prompt", "p"});
  const v1::GenerateRequest request = coordinator.requests().at(0);
  EXPECT_FALSE(request.sampling().has_temperature());
  EXPECT_FALSE(request.stopping().has_max_tokens());
  EXPECT_EQ(request.cache().budget_case(), v1::CachePolicy::BUDGET_NOT_SET);
  EXPECT_FALSE(request.has_logprobs());
}

TEST(GenerateCommandTest, ReadsABudgetWithoutPointAsTokens) {
  FakeCoordinator coordinator(AnswerWith({"x"}));
  Generate(coordinator, {"--prompt", "p", "--budget", "256"});
  EXPECT_EQ(coordinator.requests().at(0).cache().budget_tokens(), 256);
}

TEST(GenerateCommandTest, TakesThePromptFromInputFileOrIds) {
  FakeCoordinator coordinator(AnswerWith({"x"}));
  const std::string path = testing::TempDir() + "/prompt.txt";
  std::ofstream(path) << "from a file\n";
  Generate(coordinator, {}, "from input\n");
  Generate(coordinator, {"--prompt-file", path});
  Generate(coordinator, {"--prompt-file", "-"}, "dash");
  Generate(coordinator, {"--token-ids", "1,2,3"});
  const auto requests = coordinator.requests();
  ASSERT_EQ(requests.size(), 4);
  EXPECT_EQ(requests[0].text(), "from input");
  EXPECT_EQ(requests[1].text(), "from a file\n");
  EXPECT_EQ(requests[2].text(), "dash");
  EXPECT_THAT(requests[3].token_ids().ids(), ElementsAre(1, 2, 3));
}

TEST(GenerateCommandTest, SendsAChatMessageBehindTheSystemMessage) {
  FakeCoordinator coordinator(AnswerWith({"x"}));
  Generate(coordinator, {"--chat", "--prompt", "Hi", "--system", "Be brief."});
  const v1::ChatMessages chat = coordinator.requests().at(0).chat();
  ASSERT_EQ(chat.messages_size(), 2);
  EXPECT_EQ(chat.messages(0).role() + ": " + chat.messages(0).content(), "system: Be brief.");
  EXPECT_EQ(chat.messages(1).role() + ": " + chat.messages(1).content(), "user: Hi");
}

TEST(GenerateCommandTest, PrintsOneJsonObjectWithTheContractsFields) {
  FakeCoordinator coordinator(
      [](grpc::ServerContext&, const v1::GenerateRequest&, FakeCoordinator::Writer& writer) {
        v1::GenerateResponse message;
        message.add_prompt_token_ids(7);
        message.add_token_ids(42);
        message.set_text("é\n");
        auto* logprobs = message.add_logprobs();
        logprobs->mutable_chosen()->set_token_id(42);
        logprobs->mutable_chosen()->set_log_prob(-0.5f);
        logprobs->add_top()->set_token_id(42);
        message.set_finish_reason(v1::FINISH_REASON_LENGTH);
        message.mutable_usage()->set_kv_bytes(1 << 20);
        message.mutable_usage()->set_coverage(0.5);
        writer.Write(message);
        return grpc::Status::OK;
      });
  const CommandResult result = Generate(coordinator, {"--prompt", "p", "--json"});
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json.at("text"), "é\n");
  EXPECT_EQ(json.at("token_ids"), nlohmann::json({42}));
  EXPECT_EQ(json.at("prompt_token_ids"), nlohmann::json({7}));
  EXPECT_EQ(json.at("finish_reason"), "length");
  EXPECT_EQ(json.at("logprobs").at(0).at("token_id"), 42);
  EXPECT_EQ(json.at("logprobs").at(0).at("log_prob"), -0.5);
  EXPECT_EQ(json.at("logprobs").at(0).at("top").size(), 1);
  for (const char* field :
       {"prompt_tokens", "completion_tokens", "cached_tokens", "evicted_tokens", "kv_bytes",
        "peak_kv_bytes", "coverage", "queue_ms", "time_to_first_token_ms", "decode_tokens_per_second"}) {
    EXPECT_TRUE(json.at("usage").contains(field)) << field;
  }
  EXPECT_FALSE(json.contains("choices"));
}

TEST(GenerateCommandTest, KeepsInterleavedChoicesApart) {
  FakeCoordinator coordinator(
      [](grpc::ServerContext&, const v1::GenerateRequest&, FakeCoordinator::Writer& writer) {
        for (const char* text : {"a", "b"}) {
          for (uint32_t choice : {1u, 0u}) {
            v1::GenerateResponse message;
            message.set_choice(choice);
            message.set_text(text + std::to_string(choice));
            writer.Write(message);
          }
        }
        return grpc::Status::OK;
      });
  const CommandResult text = Generate(coordinator, {"--prompt", "p", "--n", "2"});
  EXPECT_EQ(text.out, "--- choice 0\na0b0\n--- choice 1\na1b1\n");
  const CommandResult json = Generate(coordinator, {"--prompt", "p", "--n", "2", "--json"});
  EXPECT_EQ(nlohmann::json::parse(json.out).at("choices").at(1).at("text"), "a1b1");
}

TEST(GenerateCommandTest, ReportsTheCoordinatorsErrorAndFails) {
  FakeCoordinator coordinator(
      [](grpc::ServerContext&, const v1::GenerateRequest&, FakeCoordinator::Writer&) {
        return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "prompt: empty");
      });
  const CommandResult result = Generate(coordinator, {"--prompt", ""});
  EXPECT_EQ(result.exit_code, ExitCode::kFailed);
  EXPECT_EQ(result.err, "kvec: INVALID_ARGUMENT: prompt: empty\n");
}

TEST(GenerateCommandTest, KeepsThePartThatCameBeforeAnError) {
  FakeCoordinator coordinator(
      [](grpc::ServerContext&, const v1::GenerateRequest&, FakeCoordinator::Writer& writer) {
        v1::GenerateResponse message;
        message.set_text("half");
        writer.Write(message);
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
      });
  const CommandResult result = Generate(coordinator, {"--prompt", "p"});
  EXPECT_EQ(result.exit_code, ExitCode::kFailed);
  EXPECT_EQ(result.out, "half\n");
}

TEST(GenerateCommandTest, GivesUpAfterItsTimeout) {
  FakeCoordinator coordinator([](grpc::ServerContext& context, const v1::GenerateRequest&,
                                 FakeCoordinator::Writer& writer) {
    while (!context.IsCancelled() && writer.Write(v1::GenerateResponse())) {
    }
    return grpc::Status::CANCELLED;
  });
  const CommandResult result = Generate(coordinator, {"--prompt", "p", "--timeout", "0.1"});
  EXPECT_EQ(result.exit_code, ExitCode::kFailed);
  EXPECT_THAT(result.err, HasSubstr("DEADLINE_EXCEEDED"));
}

TEST(GenerateCommandTest, RejectsTextThatIsNoUtf8) {
  FakeCoordinator coordinator(AnswerWith({"x"}));
  for (const std::string& prompt :
       {std::string("ab\xff"), std::string("\xc3"), std::string("\xc0\x80"),
        std::string("\xed\xa0\x80"), std::string("\xf4\x90\x80\x80")}) {
    const CommandResult result = Generate(coordinator, {"--prompt", prompt});
    EXPECT_EQ(result.exit_code, ExitCode::kFailed);
    EXPECT_THAT(result.err, HasSubstr("prompt: byte"));
  }
  EXPECT_EQ(Generate(coordinator, {"--prompt", "aé€😀"}).exit_code, ExitCode::kDone);
}

TEST(GenerateCommandTest, RejectsAnUnreadableFile) {
  const CommandResult result = RunKvec({"generate", "--prompt-file", "/nonexistent/prompt"});
  EXPECT_EQ(result.exit_code, ExitCode::kFailed);
  EXPECT_THAT(result.err, HasSubstr("/nonexistent/prompt"));
  EXPECT_EQ(RunKvec({"generate", "--prompt-file", "/"}).exit_code, ExitCode::kFailed);
}

TEST(GenerateCommandTest, RejectsAChoiceBeyondTheProtocolsLimit) {
  FakeCoordinator coordinator(
      [](grpc::ServerContext&, const v1::GenerateRequest&, FakeCoordinator::Writer& writer) {
        v1::GenerateResponse message;
        message.set_choice(4000000000);
        writer.Write(message);
        return grpc::Status::OK;
      });
  EXPECT_EQ(Generate(coordinator, {"--prompt", "p"}).exit_code, ExitCode::kFailed);
}

}  // namespace
}  // namespace kvec::coordinator::client
