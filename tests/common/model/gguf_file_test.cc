#include "common/model/gguf_file.h"

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/gguf_writer.h"

namespace kvec {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<GgufFile> Parse(const std::string& file) {
  return GgufFile::Parse({reinterpret_cast<const uint8_t*>(file.data()), file.size()});
}

// Two tensors and two keys: whatever is to be spoilt.
GgufWriter TwoTensors() {
  GgufWriter writer;
  writer.Set("general.name", Value("two tensors"));
  writer.Set("list", ArrayValue(std::vector<std::string>{"one", "two"}));
  writer.tensors.push_back({"first", 0, {3, 2}, std::string(24, 'a'), {}, {}});
  writer.tensors.push_back({"second", 2, {32}, std::string(18, 'b'), {}, {}});
  return writer;
}

TEST(GgufFileTest, ReadsMetadataAndTensors) {
  const std::string bytes = TwoTensors().Build();
  const absl::StatusOr<GgufFile> file = Parse(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(*file->metadata().String("general.name"), "two tensors");
  EXPECT_THAT(*file->metadata().Strings("list", 2), ElementsAre("one", "two"));

  ASSERT_EQ(file->tensors().size(), 2u);
  const FileTensor& first = file->tensors()[0];
  EXPECT_EQ(first.name, "first");
  EXPECT_EQ(first.type, TensorType::kF32);
  EXPECT_THAT(first.shape, ElementsAre(2, 3));  // the file has the innermost dimension first
  EXPECT_EQ(std::string(first.data.begin(), first.data.end()), std::string(24, 'a'));
  const FileTensor& second = file->tensors()[1];
  EXPECT_EQ(second.type, TensorType::kQ4_0);
  EXPECT_EQ(std::string(second.data.begin(), second.data.end()), std::string(18, 'b'));
}

TEST(GgufFileTest, ReadsVersion2) {
  GgufWriter writer = TwoTensors();
  writer.version = 2;
  const std::string bytes = writer.Build();
  EXPECT_TRUE(Parse(bytes).ok());
}

TEST(GgufFileTest, HonoursAnotherAlignment) {
  GgufWriter writer = TwoTensors();
  writer.alignment = 256;
  writer.Set("general.alignment", Value<uint32_t>(256));
  const std::string bytes = writer.Build();
  const absl::StatusOr<GgufFile> file = Parse(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->tensors()[1].data[0], 'b');
}

TEST(GgufFileTest, KnowsEveryTensorType) {
  struct Known {
    uint32_t number;
    TensorType type;
  };
  for (const Known known :
       {Known{0, TensorType::kF32}, Known{1, TensorType::kF16}, Known{2, TensorType::kQ4_0},
        Known{3, TensorType::kQ4_1}, Known{6, TensorType::kQ5_0}, Known{7, TensorType::kQ5_1},
        Known{8, TensorType::kQ8_0}, Known{12, TensorType::kQ4_K}, Known{13, TensorType::kQ5_K},
        Known{14, TensorType::kQ6_K}, Known{30, TensorType::kBF16}}) {
    GgufWriter writer;
    writer.tensors.push_back(
        {"t", known.number, {256}, std::string(RowBytes(known.type, 256), 'x'), {}, {}});
    const std::string bytes = writer.Build();
    const absl::StatusOr<GgufFile> file = Parse(bytes);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->tensors()[0].type, known.type);
  }
}

TEST(GgufFileTest, RejectsAFileCutAnywhere) {
  const std::string bytes = TwoTensors().Build();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::string cut = bytes.substr(0, size);
    EXPECT_EQ(Parse(cut).status().code(), absl::StatusCode::kInvalidArgument) << size;
  }
}

struct HostileCase {
  const char* name;
  std::function<void(GgufWriter&)> spoil;
  const char* message;  // field and value
};

void PrintTo(const HostileCase& hostile, std::ostream* out) { *out << hostile.name; }

class HostileGgufTest : public testing::TestWithParam<HostileCase> {};

TEST_P(HostileGgufTest, IsRejectedWithFieldAndValue) {
  GgufWriter writer = TwoTensors();
  GetParam().spoil(writer);
  const std::string bytes = writer.Build();
  const absl::Status status = Parse(bytes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

constexpr uint64_t kHuge = ~uint64_t{0};

INSTANTIATE_TEST_SUITE_P(
    Header, HostileGgufTest,
    testing::Values(
        HostileCase{"Magic", [](GgufWriter& w) { w.magic = "GGML"; }, "magic: is 0x4c4d4747"},
        HostileCase{"Version1", [](GgufWriter& w) { w.version = 1; }, "version: is 1;"},
        HostileCase{"BigEndian", [](GgufWriter& w) { w.version = 3u << 24; },
                    "version: is 50331648, a big-endian file"},
        HostileCase{"TensorCountHuge", [](GgufWriter& w) { w.num_tensors = kHuge; },
                    "n_tensors: is 18446744073709551615"},
        HostileCase{"TensorCountBeyondFile", [](GgufWriter& w) { w.num_tensors = 3; },
                    "tensor entry 2"},
        HostileCase{"EntryCountHuge", [](GgufWriter& w) { w.num_entries = kHuge; },
                    "n_kv: is 18446744073709551615"},
        HostileCase{"EntryCountSigned", [](GgufWriter& w) { w.num_entries = uint64_t{1} << 63; },
                    "n_kv: is 9223372036854775808"}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Metadata, HostileGgufTest,
    testing::Values(
        HostileCase{
            "StringBeyondFile",
            [](GgufWriter& w) { w.Set("s", Bytes<uint32_t>(8) + Bytes<uint64_t>(1 << 30)); },
            "metadata key \"s\": string 0 of 1: needs 1073741824 bytes"},
        HostileCase{"StringLengthWraps",
                    [](GgufWriter& w) { w.Set("s", Bytes<uint32_t>(8) + Bytes(kHuge)); },
                    "needs 18446744073709551615 bytes"},
        HostileCase{"StringsHugeCount",
                    [](GgufWriter& w) {
                      w.Set("s", Bytes<uint32_t>(9) + Bytes<uint32_t>(8) + Bytes(kHuge));
                    },
                    "metadata key \"s\": array of 18446744073709551615 string"},
        HostileCase{"NumbersCountWraps",  // times 8 bytes: 8
                    [](GgufWriter& w) {
                      w.Set("s", Bytes<uint32_t>(9) + Bytes<uint32_t>(10) +
                                     Bytes((uint64_t{1} << 61) + 1));
                    },
                    "array of 2305843009213693953 uint64"},
        HostileCase{"ArrayOfArrays",
                    [](GgufWriter& w) {
                      w.Set("s", Bytes<uint32_t>(9) + Bytes<uint32_t>(9) + Bytes<uint64_t>(0));
                    },
                    "metadata key \"s\": is an array of arrays"},
        HostileCase{"UnknownType", [](GgufWriter& w) { w.Set("s", Bytes<uint32_t>(13)); },
                    "metadata key \"s\": unknown value type 13"},
        HostileCase{"KeyTwice", [](GgufWriter& w) { w.entries.push_back(w.entries.front()); },
                    "metadata key \"general.name\": is there twice"},
        HostileCase{"KeyWithControlCharacters",
                    [](GgufWriter& w) { w.Set("a\n\x1b", Bytes<uint32_t>(13)); },
                    "metadata key \"a\\n\\x1b\""},
        HostileCase{"AlignmentZero",
                    [](GgufWriter& w) { w.Set("general.alignment", Value<uint32_t>(0)); },
                    "general.alignment: is 0, must be a power of two"},
        HostileCase{"AlignmentOdd",
                    [](GgufWriter& w) { w.Set("general.alignment", Value<uint32_t>(48)); },
                    "general.alignment: is 48, must be a power of two"},
        HostileCase{"AlignmentOfWrongType",
                    [](GgufWriter& w) { w.Set("general.alignment", Value<uint64_t>(32)); },
                    "general.alignment: is of type uint64"},
        HostileCase{"AlignmentString",
                    [](GgufWriter& w) { w.Set("general.alignment", Value("32")); },
                    "general.alignment: is of type string"},
        HostileCase{"AlignmentBeyondFile",
                    [](GgufWriter& w) { w.Set("general.alignment", Value<uint32_t>(1u << 31)); },
                    "tensor \"first\": needs 24 bytes at data offset 0, file has 0"}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Tensors, HostileGgufTest,
    testing::Values(
        HostileCase{"NoDimensions", [](GgufWriter& w) { w.tensors[0].num_dims = 0; },
                    "tensor \"first\": n_dims: is 0"},
        HostileCase{"FiveDimensions", [](GgufWriter& w) { w.tensors[0].num_dims = 5; },
                    "tensor \"first\": n_dims: is 5"},
        HostileCase{"DimensionCountHuge", [](GgufWriter& w) { w.tensors[0].num_dims = ~0u; },
                    "n_dims: is 4294967295"},
        HostileCase{"ZeroDimension",
                    [](GgufWriter& w) {
                      w.tensors[0].dims = {3, 0};
                    },
                    "tensor \"first\": shape [0, 3]"},
        HostileCase{"NegativeDimension", [](GgufWriter& w) { w.tensors[0].dims = {kHuge}; },
                    "tensor \"first\": shape [-1]"},
        HostileCase{"ProductWraps",
                    [](GgufWriter& w) {
                      w.tensors[0].dims = {uint64_t{1} << 32, uint64_t{1} << 32, 2};
                    },
                    "tensor \"first\": shape [2, 4294967296, 4294967296]"},
        HostileCase{"BytesWrap", [](GgufWriter& w) { w.tensors[0].dims = {uint64_t{1} << 62}; },
                    "tensor \"first\": shape [4611686018427387904]"},
        HostileCase{"SumWraps", [](GgufWriter& w) { w.tensors[1].offset = kHuge - 31; },
                    "tensor \"second\": needs 18 bytes at data offset 18446744073709551584"},
        HostileCase{"OffsetBeyondFile", [](GgufWriter& w) { w.tensors[1].offset = 1 << 20; },
                    "tensor \"second\": needs 18 bytes at data offset 1048576, file has 50"},
        HostileCase{"DataBeyondFile",
                    [](GgufWriter& w) {
                      w.tensors[1].dims = {32, 2};
                    },
                    "tensor \"second\": needs 36 bytes at data offset 32, file has 50"},
        HostileCase{"OffsetUnaligned", [](GgufWriter& w) { w.tensors[1].offset = 16; },
                    "tensor \"second\": offset 16 is not a multiple of general.alignment 32"},
        HostileCase{"DataOverlaps", [](GgufWriter& w) { w.tensors[1].offset = 0; },
                    "overlaps that of tensor"},
        HostileCase{"NameTwice", [](GgufWriter& w) { w.tensors[1].name = "first"; },
                    "tensor \"first\": name is there twice"},
        HostileCase{"TypeOutOfRange", [](GgufWriter& w) { w.tensors[0].type = 1000; },
                    "tensor \"first\": ggml type 1000 is not supported; known: F32, F16"},
        HostileCase{"TypeNegative", [](GgufWriter& w) { w.tensors[0].type = ~0u; },
                    "ggml type 4294967295 is not supported"},
        HostileCase{"TypeWithBlockSizeZero",  // removed from ggml, whose table has zeros for it
                    [](GgufWriter& w) { w.tensors[0].type = 4; }, "ggml type 4 is not supported"},
        HostileCase{"TypeNotSupported", [](GgufWriter& w) { w.tensors[0].type = 10; },
                    "ggml type 10 is not supported"},
        HostileCase{"RowsNoMultipleOfTheBlock",
                    [](GgufWriter& w) {
                      w.tensors[1].dims = {16, 2};
                    },
                    "tensor \"second\": rows of 16 elements are no multiple of the 32"},
        HostileCase{"LongNameIsCutInTheMessage",
                    [](GgufWriter& w) {
                      w.tensors[0].name = std::string(1 << 20, 'n');
                      w.tensors[0].type = 99;
                    },
                    "nnn…\": ggml type 99"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace kvec
