#include "common/tensor/float_conversions.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "absl/base/casts.h"
#include "gtest/gtest.h"

namespace kvec {
namespace {

constexpr uint32_t kHalfInfinity = 0x7C00;

// IEEE 754 binary16 by its definition.
double HalfByDefinition(uint32_t half) {
  const double sign = (half & 0x8000) != 0 ? -1.0 : 1.0;
  const int exponent = static_cast<int>(half >> 10) & 0x1F;
  const int mantissa = static_cast<int>(half & 0x3FF);
  if (exponent == 31) return mantissa == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(HalfToFloatTest, EqualsTheDefinitionForEveryHalf) {
  for (uint32_t half = 0; half <= 0xFFFF; ++half) {
    const float value = HalfToFloat(static_cast<uint16_t>(half));
    const double expected = HalfByDefinition(half);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << half;
    } else {
      EXPECT_EQ(value, expected) << half;
      EXPECT_EQ(std::signbit(value), std::signbit(expected)) << half;
    }
  }
}

TEST(FloatToHalfTest, GivesBackEveryHalf) {
  for (uint32_t half = 0; half <= 0xFFFF; ++half) {
    const uint16_t back = FloatToHalf(HalfToFloat(static_cast<uint16_t>(half)));
    if ((half & 0x7FFF) > kHalfInfinity) {
      EXPECT_GT(back & 0x7FFF, kHalfInfinity) << half;
    } else {
      EXPECT_EQ(back, half);
    }
  }
}

// Between any two neighbouring halves lies a float exactly in the middle. It goes to the even one;
// the floats next to it go to the nearer one.
TEST(FloatToHalfTest, RoundsToNearestEvenBetweenAllNeighbours) {
  for (uint32_t low = 0; low < kHalfInfinity; ++low) {
    const uint32_t high = low + 1;
    // Beyond the largest half the next step would be 2^16: from its middle on it is infinity.
    const double upper = high == kHalfInfinity ? 65536.0 : HalfByDefinition(high);
    const auto middle = static_cast<float>((HalfByDefinition(low) + upper) / 2);
    const uint32_t even = low % 2 == 0 ? low : high;
    EXPECT_EQ(FloatToHalf(middle), even) << low;
    EXPECT_EQ(FloatToHalf(std::nextafter(middle, 0.0f)), low) << low;
    EXPECT_EQ(FloatToHalf(std::nextafter(middle, INFINITY)), high) << low;
    EXPECT_EQ(FloatToHalf(-middle), even | 0x8000) << low;
  }
}

TEST(FloatToHalfTest, TooLargeIsInfinityAndTinyIsZero) {
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::max()), kHalfInfinity);
  EXPECT_EQ(FloatToHalf(-INFINITY), kHalfInfinity | 0x8000);
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(FloatToHalf(-0.0f), 0x8000);
}

TEST(BFloat16Test, GivesBackEveryBFloat16) {
  for (uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const float value = BFloat16ToFloat(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(BFloat16ToFloat(FloatToBFloat16(value)))) << bits;
    } else {
      EXPECT_EQ(FloatToBFloat16(value), bits);
    }
  }
}

TEST(BFloat16Test, RoundsToNearestEvenBetweenAllNeighbours) {
  constexpr uint32_t kInfinity = 0x7F80;
  for (uint32_t low = 0; low < kInfinity; ++low) {
    const float middle = absl::bit_cast<float>((low << 16) | 0x8000);
    EXPECT_EQ(FloatToBFloat16(middle), low % 2 == 0 ? low : low + 1);
    EXPECT_EQ(FloatToBFloat16(std::nextafter(middle, 0.0f)), low);
    EXPECT_EQ(FloatToBFloat16(std::nextafter(middle, INFINITY)), low + 1);
  }
}

TEST(BFloat16Test, NanWithLowPayloadBitsStaysNan) {
  EXPECT_TRUE(std::isnan(BFloat16ToFloat(FloatToBFloat16(absl::bit_cast<float>(0x7F800001u)))));
}

}  // namespace
}  // namespace kvec
