#include "tests/worker/model/golden_file.h"

#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<Golden> ReadText(const std::string& text) {
  const std::string path = testing::TempDir() + "/golden_file_test.json";
  std::ofstream(path) << text;
  return ReadGoldenFile(path);
}

class TinyModelGoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(TinyModelGoldenTest, HoldsThreePromptsAndGreedySteps) {
  const absl::StatusOr<Golden> golden = ReadTinyModelGolden(GetParam());
  ASSERT_TRUE(golden.ok()) << golden.status();
  EXPECT_EQ(golden->model, GetParam());
  EXPECT_FALSE(golden->tokenize.empty());
  ASSERT_EQ(golden->generate.size(), 3);
  for (const Golden::Generation& generation : golden->generate) {
    ASSERT_EQ(generation.generated_ids.size(), 24);
    for (size_t step = 0; step < generation.generated_ids.size(); ++step) {
      const auto& best = generation.top_logprobs[step];
      ASSERT_EQ(best.size(), 5);
      EXPECT_EQ(best[0].id, generation.generated_ids[step]);
      for (size_t i = 1; i < best.size(); ++i) EXPECT_GE(best[i - 1].log_prob, best[i].log_prob);
      EXPECT_LT(best[0].log_prob, 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, TinyModelGoldenTest, testing::ValuesIn(TinyModelNames()),
                         [](const auto& info) { return info.param; });

TEST(GoldenFileTest, NamesAMissingFile) {
  const absl::Status status = ReadGoldenFile("/nowhere/golden.json").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nowhere/golden.json"));
}

TEST(GoldenFileTest, RejectsTextThatIsNoJson) {
  EXPECT_EQ(ReadText("{").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(GoldenFileTest, RejectsAMissingField) {
  const absl::Status status = ReadText(R"({"model": "x", "tokenize": []})").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("generate"));
}

TEST(GoldenFileTest, RejectsLengthsThatDoNotFit) {
  const absl::Status status = ReadText(R"({"model": "x", "tokenize": [], "generate": [
      {"prompt_ids": [1, 2], "prompt_logprobs": [], "generated_ids": [], "top_logprobs": []}]})")
                                  .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("generate[0].prompt_logprobs"));
}

}  // namespace
}  // namespace kvec
