#include <fstream>
#include <iterator>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/common/model/temp_folder.h"
#include "tests/coordinator/client/fake_coordinator.h"
#include "tests/coordinator/client/run_kvec.h"

namespace kvec::coordinator::client {
namespace {

using testing::HasSubstr;

class TraceCommandTest : public testing::Test {
 protected:
  CommandResult Run(const std::string& steps, const std::string& path) {
    return RunKvec({"trace", "--target", coordinator_.target(), "--steps", steps, "--out", path});
  }

  FakeCoordinator coordinator_{AnswerWith({})};
  const TempFolder folder_;
  const std::string path_ = folder_.File("trace.json");
};

TEST_F(TraceCommandTest, WritesTheTraceAndATableOfIt) {
  const CommandResult result = Run("3", path_);
  ASSERT_EQ(result.exit_code, ExitCode::kDone) << result.err;
  EXPECT_THAT(result.out, HasSubstr("stage 0 rank 0: worker-1"));
  EXPECT_THAT(result.out, HasSubstr("3 Steps"));
  std::ifstream file(path_);
  const std::string content(std::istreambuf_iterator<char>(file), {});
  const auto json = nlohmann::json::parse(content);
  int num_steps = 0;
  for (const auto& event : json.at("traceEvents")) {
    if (event.at("name") == "step") ++num_steps;
  }
  EXPECT_EQ(num_steps, 3);
}

TEST_F(TraceCommandTest, SaysWhyThereIsNoTrace) {
  const CommandResult nothing_runs = Run("501", path_);
  EXPECT_EQ(nothing_runs.exit_code, ExitCode::kFailed);
  EXPECT_THAT(nothing_runs.err, HasSubstr("no Step"));
  const CommandResult no_folder = Run("1", "/nowhere/trace.json");
  EXPECT_EQ(no_folder.exit_code, ExitCode::kFailed);
  EXPECT_THAT(no_folder.err, HasSubstr("--out /nowhere/trace.json"));
  EXPECT_EQ(Run("0", path_).exit_code, ExitCode::kWrongUsage);
  EXPECT_EQ(Run("1001", path_).exit_code, ExitCode::kWrongUsage);
}

}  // namespace
}  // namespace kvec::coordinator::client
