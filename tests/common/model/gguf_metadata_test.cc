#include "common/model/gguf_metadata.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/gguf_writer.h"

namespace kvec {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Metadata with one key, "key". Keeps the bytes that it is a view of.
class OneKey {
 public:
  explicit OneKey(std::string encoded) : encoded_(std::move(encoded)) {
    ByteReader reader({reinterpret_cast<const uint8_t*>(encoded_.data()), encoded_.size()});
    const absl::StatusOr<GgufValue> value = ReadGgufValue(reader);
    EXPECT_TRUE(value.ok()) << value.status();
    EXPECT_TRUE(metadata_.Add("key", *value).ok());
  }
  const GgufMetadata* operator->() const { return &metadata_; }

 private:
  std::string encoded_;
  GgufMetadata metadata_;
};

TEST(GgufMetadataTest, IntTakesEveryIntegerType) {
  EXPECT_EQ(*OneKey(Value<uint8_t>(200))->Int("key", 0, 1000), 200);
  EXPECT_EQ(*OneKey(Value<int8_t>(-7))->Int("key", -10, 10), -7);
  EXPECT_EQ(*OneKey(Value<uint16_t>(60000))->Int("key", 0, 70000), 60000);
  EXPECT_EQ(*OneKey(Value<int16_t>(-300))->Int("key", -1000, 0), -300);
  EXPECT_EQ(*OneKey(Value<uint32_t>(7))->Int("key", 0, 10), 7);
  EXPECT_EQ(*OneKey(Value<int32_t>(7))->Int("key", 0, 10), 7);
  EXPECT_EQ(*OneKey(Value<uint64_t>(7))->Int("key", 0, 10), 7);
  EXPECT_EQ(*OneKey(Value<int64_t>(7))->Int("key", 0, 10), 7);
}

TEST(GgufMetadataTest, IntRejectsValuesOutOfRange) {
  EXPECT_THAT(std::string(OneKey(Value<int32_t>(-1))->Int("key", 0, 10).status().message()),
              HasSubstr("key: is -1, must be in 0 … 10"));
  // Beyond int64: not to be taken for a negative number.
  EXPECT_FALSE(OneKey(Value<uint64_t>(~uint64_t{0}))->Int("key", -10, 10).ok());
}

TEST(GgufMetadataTest, IntRejectsOtherTypes) {
  EXPECT_THAT(std::string(OneKey(Value(1.0f))->Int("key", 0, 10).status().message()),
              HasSubstr("key: is a float32, must be an integer"));
  EXPECT_FALSE(OneKey(Value("7"))->Int("key", 0, 10).ok());
  EXPECT_FALSE(OneKey(ArrayValue(std::vector<int32_t>{7}))->Int("key", 0, 10).ok());
}

TEST(GgufMetadataTest, FloatTakesBothWidthsAndRejectsWhatIsNotFinite) {
  EXPECT_EQ(*OneKey(Value(0.5f))->Float("key"), 0.5f);
  EXPECT_EQ(*OneKey(Value(0.5))->Float("key"), 0.5f);
  EXPECT_FALSE(OneKey(Value(std::numeric_limits<float>::quiet_NaN()))->Float("key").ok());
  EXPECT_FALSE(OneKey(Value(std::numeric_limits<float>::infinity()))->Float("key").ok());
  EXPECT_FALSE(OneKey(Value(1e300))->Float("key").ok());
  EXPECT_FALSE(OneKey(Value<uint32_t>(1))->Float("key").ok());
}

TEST(GgufMetadataTest, BoolTakesAnyByte) {
  EXPECT_TRUE(*OneKey(Value(true))->BoolOr("key", false));
  EXPECT_FALSE(*OneKey(Value(false))->BoolOr("key", true));
  EXPECT_TRUE(*OneKey(Bytes<uint32_t>(7) + "\x02")->BoolOr("key", false));
  EXPECT_FALSE(OneKey(Value<uint8_t>(1))->BoolOr("key", false).ok());
}

TEST(GgufMetadataTest, ArraysNeedTheExactTypeAndAreBounded) {
  const OneKey numbers(ArrayValue(std::vector<int32_t>{1, -2, 3}));
  EXPECT_THAT(*numbers->Int32s("key", 3), ElementsAre(1, -2, 3));
  EXPECT_THAT(std::string(numbers->Int32s("key", 2).status().message()),
              HasSubstr("key: has 3 elements, more than 2"));
  EXPECT_THAT(std::string(numbers->Float32s("key", 3).status().message()),
              HasSubstr("key: is an array of int32, must be an array of float32"));
  EXPECT_FALSE(numbers->Strings("key", 3).ok());
  EXPECT_TRUE(OneKey(ArrayValue(std::vector<float>{}))->Float32s("key", 3)->empty());
}

TEST(GgufMetadataTest, AMissingKeyIsAnErrorOrTheDefault) {
  const GgufMetadata empty;
  EXPECT_THAT(std::string(empty.Int("key", 0, 1).status().message()),
              HasSubstr("key: metadata key is missing"));
  EXPECT_FALSE(empty.String("key").ok());
  EXPECT_EQ(*empty.IntOr("key", 5, 0, 1), 5);
  EXPECT_EQ(*empty.FloatOr("key", 2.5f), 2.5f);
  EXPECT_EQ(*empty.StringOr("key", "default"), "default");
  EXPECT_TRUE(*empty.BoolOr("key", true));
}

}  // namespace
}  // namespace kvec
