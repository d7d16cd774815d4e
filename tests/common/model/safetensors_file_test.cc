#include "common/model/safetensors_file.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/gguf_writer.h"
#include "tests/common/model/safetensors_writer.h"

namespace kvec {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<std::vector<SafetensorsEntry>> Parse(const std::string& file) {
  return ParseSafetensors({reinterpret_cast<const uint8_t*>(file.data()), file.size()});
}

TEST(SafetensorsFileTest, ReadsTensorsOfAllTypes) {
  const std::string file = BuildSafetensors({{"a", "F32", {2, 1}, std::string(8, 'a')},
                                             {"b", "BF16", {3}, std::string(6, 'b')},
                                             {"c", "F16", {}, std::string(2, 'c')},
                                             {"empty", "I64", {0}, ""},
                                             {"other", "F8_E4M3", {4}, std::string(4, 'o')}});
  const auto entries = Parse(file);
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 5u);
  const SafetensorsEntry& a = (*entries)[0];
  EXPECT_EQ(a.name, "a");
  const absl::StatusOr<FileTensor> tensor = ToFileTensor(a, "renamed");
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ(tensor->name, "renamed");
  EXPECT_EQ(tensor->type, TensorType::kF32);
  EXPECT_THAT(tensor->shape, ElementsAre(2, 1));
  EXPECT_EQ(std::string(tensor->data.begin(), tensor->data.end()), "aaaaaaaa");
  EXPECT_EQ(ToFileTensor((*entries)[1], "b")->type, TensorType::kBF16);
  EXPECT_EQ(ToFileTensor((*entries)[2], "c")->type, TensorType::kF16);
}

TEST(SafetensorsFileTest, AnUnknownTypeMattersOnlyWhenTheTensorIsUsed) {
  const std::string file = BuildSafetensors({{"w", "F8_E4M3", {4}, "abcd"}});
  const auto entries = Parse(file);
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_THAT(std::string(ToFileTensor(entries->front(), "w").status().message()),
              HasSubstr("tensor \"w\": dtype \"F8_E4M3\" is not supported; known: F32, F16, BF16"));
}

TEST(SafetensorsFileTest, RejectsDataOfAnotherSizeThanTheShape) {
  const std::string file = BuildSafetensors({{"w", "F32", {3}, std::string(8, 'x')}});
  EXPECT_THAT(std::string(ToFileTensor(Parse(file)->front(), "w").status().message()),
              HasSubstr("tensor \"w\": data_offsets: span 8 bytes, F32 [3] needs 12"));
}

TEST(SafetensorsFileTest, RejectsShapesWhoseProductWraps) {
  const std::string file = BuildSafetensors({{"w", "F32", {1ll << 32, 1ll << 32}, ""}});
  EXPECT_THAT(std::string(ToFileTensor(Parse(file)->front(), "w").status().message()),
              HasSubstr("shape [4294967296, 4294967296]"));
}

TEST(SafetensorsFileTest, RejectsAFileCutAnywhere) {
  const std::string file = BuildSafetensors({{"w", "F32", {2}, std::string(8, 'x')}});
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_EQ(Parse(file.substr(0, size)).status().code(), absl::StatusCode::kInvalidArgument)
        << size;
  }
}

TEST(SafetensorsFileTest, RejectsAHeaderLongerThanTheFile) {
  for (const uint64_t length : {uint64_t{100}, uint64_t{1} << 63, ~uint64_t{0}}) {
    EXPECT_THAT(std::string(Parse(Bytes(length) + "{}").status().message()),
                HasSubstr(absl::StrCat("header length: is ", length)));
  }
}

TEST(SafetensorsFileTest, RejectsDeepJson) {
  EXPECT_THAT(
      std::string(Parse(BuildSafetensors(std::string(100'000, '['), "")).status().message()),
      HasSubstr("header: nesting: is deeper than 64"));
}

struct BadHeader {
  const char* name;
  const char* header;  // the file has 8 bytes of data
  const char* message;
};

void PrintTo(const BadHeader& bad, std::ostream* out) { *out << bad.name; }

class BadSafetensorsTest : public testing::TestWithParam<BadHeader> {};

TEST_P(BadSafetensorsTest, IsRejectedWithTensorAndValue) {
  const absl::Status status =
      Parse(BuildSafetensors(GetParam().header, std::string(8, 'x'))).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Headers, BadSafetensorsTest,
    testing::Values(
        BadHeader{"NoObject", "[]", "header: is no JSON object"},
        BadHeader{"EntryNoObject", R"({"w": 1})", "tensor \"w\": is 1, must be an object"},
        BadHeader{"NoDtype", R"({"w": {"shape": [2], "data_offsets": [0, 8]}})",
                  "tensor \"w\": dtype: is missing"},
        BadHeader{"NoShape", R"({"w": {"dtype": "F32", "data_offsets": [0, 8]}})",
                  "tensor \"w\": shape: must be an array"},
        BadHeader{"NegativeDimension",
                  R"({"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}})",
                  "tensor \"w\": shape: is -2"},
        BadHeader{"FractionalDimension",
                  R"({"w": {"dtype": "F32", "shape": [2.5], "data_offsets": [0, 8]}})",
                  "tensor \"w\": shape: is 2.5"},
        BadHeader{
            "TooManyDimensions",
            R"({"w": {"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,2], "data_offsets": [0, 8]}})",
            "tensor \"w\": shape: must be an array of 0 … 8"},
        BadHeader{"OneOffset", R"({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0]}})",
                  "tensor \"w\": data_offsets: must be an array of 2"},
        BadHeader{"OffsetBeyondFile",
                  R"({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]}})",
                  "tensor \"w\": data_offsets: are [0, 9], file has 8"},
        BadHeader{
            "OffsetHuge",
            R"({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 18446744073709551615]}})",
            "tensor \"w\": data_offsets: are [0, 9223372036854775807], file has 8"},
        BadHeader{"OffsetNegative",
                  R"({"w": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}})",
                  "tensor \"w\": data_offsets: is -8"},
        BadHeader{"OffsetsBackwards",
                  R"({"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}})",
                  "tensor \"w\": data_offsets: are [8, 0]"},
        BadHeader{"Overlap",
                  R"({"v": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},)"
                  R"( "w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})",
                  "tensor \"w\": data_offsets: begins at 4, the tensor before it ends at 8"},
        BadHeader{"Gap", R"({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})",
                  "tensor \"w\": data_offsets: begins at 4, the tensor before it ends at 0"},
        BadHeader{"BytesLeftOver",
                  R"({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})",
                  "data: tensors end at byte 4, file has 8"},
        BadHeader{"NameTwice",
                  R"({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},)"
                  R"( "w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})",
                  "key \"w\": is there twice"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace kvec
