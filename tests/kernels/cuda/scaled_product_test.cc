// Weights of 8 bits, as CudaDevice holds and multiplies them.

#include "kernels/cuda/scaled_product.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/kernels/cpu/paged_attention.h"
#include "tests/kernels/cpu/random_weight.h"
#include "tests/kernels/cuda/kernel_test.h"

namespace kvec::kernels::cuda {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<CudaDevice> MakeDevice(WeightType type) {
  auto device = CudaDevice::Create({.weight_type = type});
  EXPECT_TRUE(device.ok()) << device.status();
  return *std::move(device);
}

// Of those of 8 bits the types that the card multiplies; the simulator's multiplies both.
std::vector<WeightType> EightBitTypes() {
  cudaDeviceProp properties;
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  std::vector<WeightType> types = {WeightType::kInt8};
  if (10 * properties.major + properties.minor >= 89) types.push_back(WeightType::kFp8);
  return types;
}

// A row of x or of a weight, and how far its numbers are from those that are multiplied: half of
// the distance between two numbers of the type at most.
class RoundedRow {
 public:
  RoundedRow(WeightType type, std::vector<double> values)
      : type_(type), values_(std::move(values)) {
    double largest = 0;
    for (const double value : values_) largest = std::max(largest, std::abs(value));
    scale_ = largest / (type == WeightType::kInt8 ? 127 : 448);
  }

  double value(size_t i) const { return values_[i]; }
  // int8's lie a scale apart; e4m3's 2^(e - 3) at magnitudes from 2^e on, at least 2^-9 scales.
  // With what float adds when it divides by the scale.
  double error(size_t i) const {
    const double magnitude = std::abs(values_[i]);
    const double half =
        type_ == WeightType::kInt8 ? scale_ / 2 : std::max(magnitude / 16, std::ldexp(scale_, -10));
    return half + 1e-6 * magnitude;
  }

 private:
  const WeightType type_;
  const std::vector<double> values_;
  double scale_;
};

struct Bounded {
  double value;
  double bound;
};

// With errors d, (x + dx) · (w + dw) is within |x| |dw| + (|w| + |dw|) |dx| of x · w. Float adds
// 2^-24 of all magnitudes per number: e4m3's products are added up in it.
Bounded Product(const RoundedRow& x, const RoundedRow& weight, size_t in_features) {
  Bounded product{0, 1e-6};
  double magnitudes = 0;
  for (size_t i = 0; i < in_features; ++i) {
    const double w = std::abs(weight.value(i)) + weight.error(i);
    product.value += x.value(i) * weight.value(i);
    product.bound += std::abs(x.value(i)) * weight.error(i) + w * x.error(i);
    magnitudes += (std::abs(x.value(i)) + x.error(i)) * w;
  }
  product.bound += static_cast<double>(in_features + 4) * std::ldexp(magnitudes, -24);
  return product;
}

std::vector<double> RowOf(const Matrix& matrix, int row) {
  std::vector<double> values;
  for (int col = 0; col < matrix.cols(); ++col) values.push_back(matrix.at(row, col));
  return values;
}

class ScaledProductTest : public KernelTest {
 protected:
  // y of a device of its own.
  Matrix Multiply(CudaDevice& device, const Weight& weight, const Matrix& x, const Matrix* bias,
                  MatMulMode mode, const Matrix& y) {
    DeviceMatrix device_x(x, stream_);
    DeviceMatrix device_y(y, stream_);
    DeviceMatrix device_bias(bias == nullptr ? Matrix(1, 1) : *bias, stream_);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    const absl::Status status = device.MatMul(weight, ProductInput::Of(device_x.tensor()),
                                              bias == nullptr ? nullptr : device_bias.tensor().data,
                                              mode, device_y.tensor());
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(device.Synchronize().ok()) << cusim::FaultMessage();
    return device_y.ToHost();
  }

  // Weights of f32 with an outlier and a row of zeros, on top of some of bf16.
  void CheckShape(WeightType type, int rows, int in_features, int out_features) {
    const auto device = MakeDevice(type);
    cpu::RandomWeight of_f32(TensorType::kF32, out_features, in_features, 1);
    const cpu::RandomWeight of_bf16(TensorType::kBF16, 3, in_features, 2);
    std::vector<float> values = of_f32.Dequantized();
    values[values.size() / 2] = 3;
    std::fill_n(values.begin(), in_features, 0.0f);
    WeightSource source = of_f32.source();
    source.data = {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)};
    const WeightSource sources[] = {source, of_bf16.source()};
    const auto weight = device->PrepareWeight(sources);
    ASSERT_TRUE(weight.ok()) << weight.status();
    const std::vector<float> more = of_bf16.Dequantized();
    values.insert(values.end(), more.begin(), more.end());
    const int out = out_features + 3;

    Matrix x = Matrix::Random(rows, in_features, 3);
    x.at(0, in_features / 2) = -50;
    if (rows > 1) {
      for (int col = 0; col < in_features; ++col) x.at(1, col) = 0;
    }
    const Matrix bias = Matrix::Random(1, out, 4);
    const Matrix y = Matrix::Random(rows, out, 5);
    std::vector<RoundedRow> weight_rows;
    for (int col = 0; col < out; ++col) {
      const auto begin = values.begin() + static_cast<ptrdiff_t>(col) * in_features;
      weight_rows.emplace_back(type, std::vector<double>(begin, begin + in_features));
    }
    for (const MatMulMode mode : {MatMulMode::kOverwrite, MatMulMode::kAccumulate}) {
      const Matrix* const used_bias = mode == MatMulMode::kOverwrite ? &bias : nullptr;
      const Matrix result = Multiply(*device, **weight, x, used_bias, mode, y);
      EXPECT_TRUE(result.GapsAreIntact());
      for (int row = 0; row < rows; ++row) {
        const RoundedRow x_row(type, RowOf(x, row));
        for (int col = 0; col < out; ++col) {
          const Bounded product = Product(x_row, weight_rows[static_cast<size_t>(col)],
                                          static_cast<size_t>(in_features));
          const double added = used_bias == nullptr ? y.at(row, col) : bias.at(0, col);
          ASSERT_NEAR(result.at(row, col), product.value + added, product.bound)
              << "[" << rows << ", " << in_features << "] row " << row << " col " << col;
        }
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, ScaledProductTest, kAllOrders, OrderName);

TEST_P(ScaledProductTest, StaysWithinWhatEightBitsLeaveOfDoublePrecision) {
  for (const WeightType type : EightBitTypes()) {
    CheckShape(type, 1, 511, 17);
    CheckShape(type, 7, 97, 97);
    CheckShape(type, 17, 16, 13);
    CheckShape(type, 3, 1, 1);
    CheckShape(type, 1, 64, 511);
  }
}

TEST_P(ScaledProductTest, ARowDoesNotDependOnThoseBesideIt) {
  const Matrix x = Matrix::Random(7, 97, 6);
  const cpu::RandomWeight source(TensorType::kF32, 33, 97, 7);
  const WeightSource sources[] = {source.source()};
  for (const WeightType type : EightBitTypes()) {
    const auto device = MakeDevice(type);
    const auto weight = device->PrepareWeight(sources);
    ASSERT_TRUE(weight.ok()) << weight.status();
    const Matrix together =
        Multiply(*device, **weight, x, nullptr, MatMulMode::kOverwrite, Matrix(7, 33));
    for (int row = 0; row < 7; ++row) {
      EXPECT_EQ(Multiply(*device, **weight, cpu::RowsOf(x, row, row + 1), nullptr,
                         MatMulMode::kOverwrite, Matrix(1, 33)),
                cpu::RowsOf(together, row, row + 1));
    }
  }
}

TEST_P(ScaledProductTest, WhatIsNotFiniteIsNotHidden) {
  Matrix x = Matrix::Random(2, 64, 8);
  x.at(1, 5) = std::numeric_limits<float>::quiet_NaN();
  const cpu::RandomWeight source(TensorType::kF32, 16, 64, 9);
  const WeightSource sources[] = {source.source()};
  for (const WeightType type : EightBitTypes()) {
    const auto device = MakeDevice(type);
    const auto weight = device->PrepareWeight(sources);
    ASSERT_TRUE(weight.ok()) << weight.status();
    const Matrix y = Multiply(*device, **weight, x, nullptr, MatMulMode::kOverwrite, Matrix(2, 16));
    for (int col = 0; col < 16; ++col) {
      EXPECT_TRUE(std::isfinite(y.at(0, col)));
      EXPECT_FALSE(std::isfinite(y.at(1, col)));
    }
  }
}

TEST(EightBitWeightTest, HasABytePerNumberAndAScalePerRow) {
  cusim::Reset();
  const cpu::RandomWeight source(TensorType::kF32, 33, 97, 10);
  const WeightSource sources[] = {source.source()};
  for (const WeightType type : EightBitTypes()) {
    const auto device = MakeDevice(type);
    const auto weight = device->PrepareWeight(sources);
    ASSERT_TRUE(weight.ok()) << weight.status();
    EXPECT_EQ((*weight)->bytes(), 48u * 112 + 33 * 4);  // features are multiples of 16
    EXPECT_EQ((*weight)->out_features(), 33);
    EXPECT_EQ((*weight)->in_features(), 97);
  }
}

TEST(EightBitWeightTest, IsRefusedWhereSumsWouldNotFit) {
  cusim::Reset();
  const std::vector<uint8_t> zeros(133145 * sizeof(uint16_t));
  const WeightSource sources[] = {{TensorType::kBF16, 1, 133145, zeros}};
  const auto weight = MakeDevice(WeightType::kInt8)->PrepareWeight(sources);
  EXPECT_EQ(weight.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(weight.status().message()), HasSubstr("in_features 133145 of int8"));
  EXPECT_TRUE(MakeDevice(WeightType::kBF16)->PrepareWeight(sources).ok());
}

TEST(EightBitWeightTest, NeedsACardThatMultipliesThem) {
  const auto create = [](int capability, WeightType type) {
    cusim::Reset({.compute_capability = capability});
    return CudaDevice::Create({.weight_type = type}).status();
  };
  EXPECT_TRUE(create(70, WeightType::kBF16).ok());
  EXPECT_TRUE(create(75, WeightType::kInt8).ok());
  EXPECT_TRUE(create(89, WeightType::kFp8).ok());
  const absl::Status int8 = create(72, WeightType::kInt8);
  EXPECT_EQ(int8.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(int8.message()),
              HasSubstr("weights in int8 need compute capability 7.5, host simulator has 7.2"));
  const absl::Status fp8 = create(86, WeightType::kFp8);
  EXPECT_EQ(fp8.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(fp8.message()),
              HasSubstr("weights in fp8 need compute capability 8.9, host simulator has 8.6"));
}

}  // namespace
}  // namespace kvec::kernels::cuda
