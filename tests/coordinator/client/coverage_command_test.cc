#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/common/model/temp_folder.h"
#include "tests/coordinator/client/fake_coordinator.h"
#include "tests/coordinator/client/run_kvec.h"

namespace kvec::coordinator::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr uint32_t kPrompt[] = {'a', '<', '/', 0xC3, 0xA9, 'z'};

// Two heads of layer 1 hold tokens 0 and 5, and 3 to 5.
grpc::Status AnswerEvicted(grpc::ServerContext&, const v1::GenerateRequest& request,
                           FakeCoordinator::Writer& writer) {
  v1::GenerateResponse message;
  for (uint32_t id : kPrompt) message.add_prompt_token_ids(id);
  v1::Usage& usage = *message.mutable_usage();
  usage.set_prompt_tokens(6);
  if (request.cache().budget_tokens() < 6) {
    usage.set_evicted_tokens(4);
    usage.set_coverage(0.5);
    v1::LayerCacheUsage& layer = *usage.add_layers();
    layer.set_layer(1);
    layer.set_kept_entries(5);
    layer.add_kept_token_bits("\x21");
    layer.add_kept_token_bits("\x38");
  }
  writer.Write(message);
  return grpc::Status::OK;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The data of a page, between its JSON script's tags.
nlohmann::json DataOf(const std::string& page) {
  const std::string begin = "<script type=\"application/json\" id=\"data\">";
  const size_t from = page.find(begin) + begin.size();
  return nlohmann::json::parse(page.substr(from, page.find("</script>", from) - from));
}

class CoverageCommandTest : public testing::Test {
 protected:
  CommandResult Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(),
                     {"coverage", "--target", coordinator_.target(), "--output", path_});
    return RunKvec(arguments, "");
  }

  const TempFolder folder_;
  const std::string path_ = folder_.File("coverage_page.html");
  FakeCoordinator coordinator_{AnswerEvicted};
};

TEST_F(CoverageCommandTest, WritesAPageWithEveryTokensTextAndHolders) {
  const CommandResult result = Run({"--budget", "2", "a text"});
  ASSERT_EQ(result.exit_code, ExitCode::kDone) << result.err;
  EXPECT_THAT(result.out, HasSubstr("4 of 6 prompt tokens evicted per head, 50.0 % held"));
  const nlohmann::json data = DataOf(ReadFile(path_));
  EXPECT_EQ(data["model"], "tiny");
  EXPECT_EQ(data["policy"], "kvec");
  EXPECT_EQ(data["budget"], "2 tokens per KV head");
  EXPECT_THAT(data["tokens"], ElementsAre("a", "<", "/", "\u00e9", "", "z"));
  ASSERT_EQ(data["layers"].size(), 1);
  std::string bits;
  ASSERT_TRUE(absl::Base64Unescape(data["layers"][0]["heads"][1].get<std::string>(), &bits));
  EXPECT_EQ(bits, "\x38");
}

TEST_F(CoverageCommandTest, NoTextOfAPromptBecomesATag) {
  Run({"--budget", "2", "a text"});
  EXPECT_THAT(ReadFile(path_), HasSubstr("\"a\",\"\\u003c\",\"/\""));
  EXPECT_THAT(ReadFile(path_), Not(HasSubstr("@KVEC_DATA@")));
}

TEST_F(CoverageCommandTest, AsksForWhatEachHeadKeptAndOneToken) {
  Run({"--prompt", "a text", "--policy", "snapkv", "--budget", "0.25"});
  const v1::GenerateRequest request = coordinator_.requests().at(0);
  EXPECT_EQ(request.text(), "a text");
  EXPECT_TRUE(request.report_kept_tokens());
  EXPECT_EQ(request.stopping().max_tokens(), 1);
  EXPECT_EQ(request.cache().policy(), "snapkv");
}

TEST_F(CoverageCommandTest, SaysThatNothingWasEvicted) {
  const CommandResult result = Run({"--budget", "6", "a text"});
  EXPECT_EQ(result.exit_code, ExitCode::kFailed);
  EXPECT_THAT(result.err, HasSubstr("nothing was evicted from the 6 prompt tokens"));
}

TEST_F(CoverageCommandTest, NamesAFileThatCannotBeWritten) {
  const CommandResult result = RunKvec({"coverage", "--target", coordinator_.target(), "--budget",
                                        "2", "--output", "/nowhere/page.html", "a text"},
                                       "");
  EXPECT_EQ(result.exit_code, ExitCode::kFailed);
  EXPECT_THAT(result.err, HasSubstr("--output /nowhere/page.html: No such file or directory"));
}

}  // namespace
}  // namespace kvec::coordinator::client
