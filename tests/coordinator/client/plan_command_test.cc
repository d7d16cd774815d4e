#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/temp_folder.h"
#include "tests/common/model/tiny_gguf.h"
#include "tests/coordinator/client/run_kvec.h"

namespace kvec::coordinator::client {
namespace {

using testing::HasSubstr;

// Llama 3.1's of 70 billion parameters.
constexpr char kConfigJson[] = R"({"model_type": "llama", "vocab_size": 128256,
    "max_position_embeddings": 131072, "num_key_value_heads": 8, "head_dim": 128,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "num_hidden_layers": 80,
    "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64})";

class PlanCommandTest : public testing::Test {
 protected:
  void SetUp() override { folder_.Write("config.json", kConfigJson); }
  CommandResult Plan(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"plan", "--model", folder_.path()});
    return RunKvec(arguments);
  }

  TempFolder folder_;
};

TEST_F(PlanCommandTest, PlansAModelWhoseWeightsAreNotThere) {
  const CommandResult result =
      Plan({"--card", "H100-80", "--gpus", "8", "--context", "131072", "--budget", "2048"});
  ASSERT_EQ(result.exit_code, ExitCode::kDone) << result.err;
  EXPECT_THAT(result.out, HasSubstr("80 layers, 64 query and 8 KV heads of 128, 129.5 GiB"));
  EXPECT_THAT(result.out, HasSubstr("tp=8,pp=1 on 8 GPUs of 79.6 GiB"));
  EXPECT_THAT(result.out, HasSubstr("stage 0 rank 7"));
  EXPECT_THAT(result.out, HasSubstr("56-63"));
  EXPECT_THAT(result.out, HasSubstr("budget of 2048 entries per KV head"));
  EXPECT_THAT(result.out, HasSubstr("kvec-coordinator --parallel tp=8,pp=1"));
  EXPECT_THAT(result.out, HasSubstr("kvec-worker --device cuda --max-step-tokens 512 --kv-bytes "));
  // The same by the file's own name.
  const CommandResult of_file =
      RunKvec({"plan", "--model", folder_.File("config.json"), "--card", "H100-80", "--gpus", "8",
               "--context", "131072", "--budget", "2048"});
  EXPECT_EQ(of_file.out, result.out);
}

TEST_F(PlanCommandTest, FindsTheSmallestGroupWhenNoneIsNamed) {
  const CommandResult result = Plan({"--card", "H100-80", "--context", "8192"});
  ASSERT_EQ(result.exit_code, ExitCode::kDone) << result.err;
  EXPECT_THAT(result.out, HasSubstr("tp=2,pp=1 on 2 GPUs"));
}

TEST_F(PlanCommandTest, TellsWorkersToHoldEntriesAsItCountsThem) {
  for (const std::string type : {"bf16", "f32", "int8"}) {
    const CommandResult result = Plan({"--card", "H200", "--context", "8192", "--kv-type", type});
    ASSERT_EQ(result.exit_code, ExitCode::kDone) << result.err;
    EXPECT_THAT(result.out, HasSubstr("kvec-worker --device cuda --kv-type " + type + " "));
  }
}

TEST_F(PlanCommandTest, TellsWorkersToHoldWeightsAsItCountsThem) {
  for (const std::string weights : {"int8", "fp8"}) {
    const CommandResult result =
        Plan({"--card", "H100-80", "--context", "8192", "--weights", weights});
    ASSERT_EQ(result.exit_code, ExitCode::kDone) << result.err;
    EXPECT_THAT(result.out, HasSubstr("tp=1,pp=1 on 1 GPU of 79.6 GiB"));
    EXPECT_THAT(result.out, HasSubstr("kvec-worker --device cuda --cuda-weights " + weights + " "));
  }
}

TEST_F(PlanCommandTest, HostsShareTheLayersAndTheirGpusTheHeads) {
  const CommandResult result =
      Plan({"--gpu-memory", "40GiB", "--gpus", "4x2", "--context", "8192"});
  ASSERT_EQ(result.exit_code, ExitCode::kDone) << result.err;
  EXPECT_THAT(result.out, HasSubstr("tp=4,pp=2 on 8 GPUs of 40.0 GiB"));
}

TEST_F(PlanCommandTest, NamesTheSmallestGroupWhereItDoesNotFit) {
  const CommandResult result = Plan({"--card", "A100-80", "--gpus", "1", "--context", "32768"});
  EXPECT_EQ(result.exit_code, ExitCode::kFailed);
  EXPECT_THAT(result.err, HasSubstr("RESOURCE_EXHAUSTED"));
  EXPECT_THAT(result.err, HasSubstr("does not fit tp=1,pp=1: stage 0 rank 0 needs "));
  EXPECT_THAT(result.err, HasSubstr("its GPU has 80.0 GiB"));
  EXPECT_THAT(result.err,
              HasSubstr("The smallest group that holds it is tp=2,pp=1 on 2 such GPUs"));
  EXPECT_THAT(Plan({"--gpu-memory", "1GiB", "--gpus", "8", "--context", "32768"}).err,
              HasSubstr("no group of up to 128 such GPUs holds it"));
}

TEST_F(PlanCommandTest, ReadsModelsWithTheirWeights) {
  const std::string path = folder_.Write("tiny.gguf", TinyGguf(ModelFamily::kLlama).Build());
  const CommandResult result =
      RunKvec({"plan", "--model", path, "--gpu-memory", "4GiB", "--weights", "file", "--answer",
               "8", "--parallel", "tp=2"});
  ASSERT_EQ(result.exit_code, ExitCode::kDone) << result.err;
  EXPECT_THAT(result.out, HasSubstr("tp=2,pp=1 on 2 GPUs"));
}

TEST_F(PlanCommandTest, SaysWhichOptionIsWrong) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> wrong = {
      {{}, "--card"},
      {{"--card", "H900"}, "H100-80"},
      {{"--card", "H200", "--gpus", "x2"}, "--gpus: \"x2\""},
      {{"--card", "H200", "--gpus", "0"}, "--gpus: \"0\""},
      {{"--card", "H200", "--budget", "some"}, "--budget: \"some\""},
      {{"--card", "H200", "--weights", "file"}, "has no weights"},
      {{"--card", "H200", "--parallel", "tp=65"}, "tp=65"},
      {{"--card", "H200", "--gpus", "8", "--parallel", "tp=4"}, "--parallel: tp=4 is 4 workers"},
      {{"--card", "H200", "--context", "400"}, "context: 400"},
  };
  for (const auto& [arguments, message] : wrong) {
    const CommandResult result = Plan(arguments);
    EXPECT_EQ(result.exit_code, ExitCode::kFailed) << message;
    EXPECT_THAT(result.err, HasSubstr(message));
  }
  EXPECT_EQ(RunKvec({"plan"}).exit_code, ExitCode::kWrongUsage);
  EXPECT_THAT(RunKvec({"plan", "--model", "/nowhere/config.json", "--card", "H200"}).err,
              HasSubstr("/nowhere/config.json"));
}

}  // namespace
}  // namespace kvec::coordinator::client
