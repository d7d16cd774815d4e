#include "kernels/cuda/quantize_rows.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/kernels/cpu/paged_attention.h"
#include "tests/kernels/cuda/fp8_values.h"
#include "tests/kernels/cuda/kernel_test.h"

namespace kvec::kernels::cuda {
namespace {

struct Quantized {
  std::vector<uint8_t> numbers;  // [rows, num_cols]
  std::vector<float> scales;
};

class QuantizeRowsTest : public KernelTest {
 protected:
  static constexpr int kMoreRows = 2;  // than x has

  Quantized Quantize(const Matrix& x, WeightType type, int num_cols) {
    DeviceMatrix device_x(x, stream_);
    const auto rows = static_cast<size_t>(x.rows() + kMoreRows);
    const DeviceArray<uint8_t> numbers(rows * static_cast<size_t>(num_cols), stream_);
    const DeviceArray<float> scales(rows, stream_);
    EXPECT_EQ(QuantizeRows(stream_, device_x.tensor(), type, x.rows() + kMoreRows, num_cols,
                           numbers.data(), scales.data()),
              cudaSuccess);
    return {numbers.ToHost(), scales.ToHost()};
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, QuantizeRowsTest, kAllOrders, OrderName);

// What is nearest to `value` among the numbers of a type.
double Nearest(WeightType type, double value) {
  if (type == WeightType::kInt8) return std::clamp(std::nearbyint(value), -127.0, 127.0);
  double nearest = 0;
  for (int bits = 0; bits < 256; ++bits) {
    if ((bits & 0x7F) == 0x7F) continue;
    const double candidate = Fp8ToDouble(static_cast<uint8_t>(bits));
    if (std::abs(candidate - value) < std::abs(nearest - value)) nearest = candidate;
  }
  return nearest;
}

double ValueOf(WeightType type, uint8_t bits) {
  return type == WeightType::kInt8 ? static_cast<double>(static_cast<int8_t>(bits))
                                   : Fp8ToDouble(bits);
}

TEST_P(QuantizeRowsTest, TakesTheNearestNumberOfEveryRowsOwnScale) {
  for (const WeightType type : {WeightType::kInt8, WeightType::kFp8}) {
    const double largest_number = type == WeightType::kInt8 ? 127 : 448;
    for (const int cols : {1, 7, 17, 97, 511}) {
      Matrix x = Matrix::Random(7, cols, static_cast<uint32_t>(cols));
      x.at(2, cols / 2) = 1000;  // an outlier
      for (int col = 0; col < cols; ++col) x.at(3, col) = 0;
      for (int col = 0; col < cols; ++col) x.at(4, col) *= 1e-20f;
      const int num_cols = RoundUpToMultiple(cols, kEightBitFeatures);
      const Quantized quantized = Quantize(x, type, num_cols);
      for (size_t i = static_cast<size_t>(x.rows() * num_cols); i < quantized.numbers.size(); ++i) {
        ASSERT_EQ(quantized.numbers[i], 0);
      }
      for (int row = 0; row < x.rows(); ++row) {
        double largest = 0;
        for (int col = 0; col < cols; ++col) {
          largest = std::max(largest, std::abs(double{x.at(row, col)}));
        }
        const double scale = quantized.scales[static_cast<size_t>(row)];
        ASSERT_NEAR(scale, largest / largest_number, 1e-7 * scale);
        for (int col = 0; col < num_cols; ++col) {
          const double number =
              ValueOf(type, quantized.numbers[static_cast<size_t>(row * num_cols + col)]);
          if (col >= cols || row == 3) {
            ASSERT_EQ(number, 0);
            continue;
          }
          const double value = x.at(row, col) / scale;
          // Not farther than the nearest, but for the float's rounding of value.
          ASSERT_LE(std::abs(number - value),
                    std::abs(Nearest(type, value) - value) + 1e-6 * std::abs(value) + 1e-7);
        }
      }
    }
  }
}

TEST_P(QuantizeRowsTest, ARowDoesNotDependOnThoseBesideIt) {
  const Matrix x = Matrix::Random(5, 97, 1);
  for (const WeightType type : {WeightType::kInt8, WeightType::kFp8}) {
    const Quantized together = Quantize(x, type, 112);
    for (int row = 0; row < x.rows(); ++row) {
      const Quantized alone = Quantize(cpu::RowsOf(x, row, row + 1), type, 112);
      EXPECT_EQ(alone.scales[0], together.scales[static_cast<size_t>(row)]);
      EXPECT_TRUE(std::equal(alone.numbers.begin(), alone.numbers.begin() + 112,
                             together.numbers.begin() + row * 112));
    }
  }
}

TEST_P(QuantizeRowsTest, WhatIsNotFiniteMakesItsRowsScaleInfinite) {
  Matrix x = Matrix::Random(3, 40, 2);
  x.at(0, 7) = std::numeric_limits<float>::quiet_NaN();
  x.at(1, 39) = -std::numeric_limits<float>::infinity();
  for (const WeightType type : {WeightType::kInt8, WeightType::kFp8}) {
    const Quantized quantized = Quantize(x, type, 48);
    EXPECT_TRUE(std::isinf(quantized.scales[0]));
    EXPECT_TRUE(std::isinf(quantized.scales[1]));
    EXPECT_TRUE(std::isfinite(quantized.scales[2]));
  }
}

}  // namespace
}  // namespace kvec::kernels::cuda
