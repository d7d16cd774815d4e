#include "common/tensor/dequantize.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/base/casts.h"
#include "absl/strings/escaping.h"
#include "gtest/gtest.h"

namespace kvec {
namespace {

constexpr TensorType kAllTypes[] = {
    TensorType::kF32,  TensorType::kF16,  TensorType::kBF16, TensorType::kQ4_0,
    TensorType::kQ4_1, TensorType::kQ5_0, TensorType::kQ5_1, TensorType::kQ8_0,
    TensorType::kQ4_K, TensorType::kQ5_K, TensorType::kQ6_K,
};

struct Golden {
  std::string blocks;
  std::vector<float> values;
};

// From the file that make_dequantize_golden.py writes with the GGUF project's own decoder.
Golden ReadGolden(absl::string_view type_name) {
  std::ifstream file(KVEC_SOURCE_DIR "/tests/common/tensor/dequantize_golden.txt");
  std::string name;
  std::string blocks;
  std::string values;
  while (file >> name >> blocks >> values) {
    if (name != type_name) continue;
    const std::string bytes = absl::HexStringToBytes(values);
    Golden golden{absl::HexStringToBytes(blocks), std::vector<float>(bytes.size() / sizeof(float))};
    std::memcpy(golden.values.data(), bytes.data(), bytes.size());
    return golden;
  }
  ADD_FAILURE() << "no golden for " << type_name;
  return {};
}

absl::Span<const uint8_t> AsBytes(absl::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

class DequantizeTest : public testing::TestWithParam<TensorType> {};

TEST_P(DequantizeTest, EqualsTheReferenceBitByBit) {
  const Golden golden = ReadGolden(GetTraits(GetParam()).name);
  std::vector<float> values(golden.values.size());
  Dequantize(GetParam(), AsBytes(golden.blocks), absl::MakeSpan(values));
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(golden.values[i])) {
      EXPECT_TRUE(std::isnan(values[i])) << "element " << i;
    } else {
      EXPECT_EQ(absl::bit_cast<uint32_t>(values[i]), absl::bit_cast<uint32_t>(golden.values[i]))
          << "element " << i << ": " << values[i] << ", reference " << golden.values[i];
    }
  }
}

TEST_P(DequantizeTest, DecodesBlocksAtAnyAddress) {
  const Golden golden = ReadGolden(GetTraits(GetParam()).name);
  const std::string shifted = "x" + golden.blocks;
  std::vector<float> aligned(golden.values.size());
  std::vector<float> unaligned(golden.values.size());
  Dequantize(GetParam(), AsBytes(golden.blocks), absl::MakeSpan(aligned));
  Dequantize(GetParam(), AsBytes(shifted).subspan(1), absl::MakeSpan(unaligned));
  EXPECT_EQ(std::memcmp(aligned.data(), unaligned.data(), aligned.size() * sizeof(float)), 0);
}

TEST_P(DequantizeTest, AcceptsNoNumbersAtAll) { Dequantize(GetParam(), {}, {}); }

INSTANTIATE_TEST_SUITE_P(AllTypes, DequantizeTest, testing::ValuesIn(kAllTypes),
                         [](const testing::TestParamInfo<TensorType>& info) {
                           return std::string(GetTraits(info.param).name);
                         });

TEST(TensorTypeTest, RowBytesCountsWholeBlocks) {
  EXPECT_EQ(RowBytes(TensorType::kF32, 7), 28u);
  EXPECT_EQ(RowBytes(TensorType::kBF16, 7), 14u);
  EXPECT_EQ(RowBytes(TensorType::kQ4_1, 64), 40u);
  EXPECT_EQ(RowBytes(TensorType::kQ6_K, 512), 420u);
}

TEST(TensorTypeTest, EveryTypeIsAmongTheKnownNames) {
  std::vector<std::string> names;
  std::istringstream list{std::string(KnownTensorTypeNames())};
  for (std::string name; std::getline(list >> std::ws, name, ',');) names.push_back(name);
  ASSERT_EQ(names.size(), std::size(kAllTypes));
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(names[i], GetTraits(kAllTypes[i]).name);
    EXPECT_EQ(IsQuantized(kAllTypes[i]), i >= 3) << names[i];
  }
}

}  // namespace
}  // namespace kvec
