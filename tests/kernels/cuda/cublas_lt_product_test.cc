// The products' side of cuBLASLt, against a library of our own in its place.

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "common/tensor/float_conversions.h"
#include "gtest/gtest.h"
#include "kernels/cuda/dense_product.h"
#include "tests/cusim/cusim.h"
#include "tests/kernels/cuda/fp8_values.h"
#include "tests/kernels/cuda/kernel_test.h"
#include "tests/kernels/cuda/stand_in_cublas_lt.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kIn = 97;
constexpr int kOut = 33;

std::vector<uint16_t> RandomBFloat16(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> values(count);
  for (uint16_t& value : values) value = FloatToBFloat16(normal(random));
  return values;
}

class CublasLtProductTest : public testing::TestWithParam<ProductMode> {
 protected:
  void SetUp() override {
    cusim::Reset();
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    product_ = Create(GetParam());
  }

  std::unique_ptr<DenseProduct> Create(ProductMode mode) {
    auto product = CreateDenseProduct(stream_, mode);
    EXPECT_TRUE(product.ok()) << product.status();
    return *std::move(product);
  }

  // y of the first num_rows rows of x_.
  std::vector<float> Multiply(int num_rows, MatMulMode mode, bool has_bias) {
    const DeviceArray<uint16_t> x(x_, stream_);
    const DeviceArray<uint16_t> weight(weight_, stream_);
    const DeviceArray<float> bias(bias_, stream_);
    const DeviceArray<float> y(std::vector<float>(static_cast<size_t>(num_rows) * kOut, 0.5f),
                               stream_);
    const absl::Status status =
        product_->Multiply({.weight = reinterpret_cast<const __nv_bfloat16*>(weight.data()),
                            .x = reinterpret_cast<const __nv_bfloat16*>(x.data()),
                            .in_features = kIn,
                            .bias = has_bias ? bias.data() : nullptr,
                            .mode = mode,
                            .y = {y.data(), num_rows, kOut, kOut}});
    EXPECT_TRUE(status.ok()) << status;
    return y.ToHost();
  }

  static constexpr int kRows = 64;
  const std::vector<uint16_t> x_ = RandomBFloat16(kRows * kIn, 1);
  const std::vector<uint16_t> weight_ = RandomBFloat16(kOut * kIn, 2);
  const std::vector<float> bias_ = std::vector<float>(kOut, 0.25f);
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<DenseProduct> product_;
};

TEST_P(CublasLtProductTest, MultipliesAsPlainLoopsDo) {
  for (const int num_rows : {1, 7, 17, kRows}) {
    for (const MatMulMode mode : {MatMulMode::kOverwrite, MatMulMode::kAccumulate}) {
      for (const bool has_bias : {false, true}) {
        const std::vector<float> y = Multiply(num_rows, mode, has_bias);
        for (int row = 0; row < num_rows; ++row) {
          for (int col = 0; col < kOut; ++col) {
            double sum = (has_bias ? 0.25 : 0) + (mode == MatMulMode::kAccumulate ? 0.5 : 0);
            for (int k = 0; k < kIn; ++k) {
              sum += double{BFloat16ToFloat(x_[static_cast<size_t>(row * kIn + k)])} *
                     double{BFloat16ToFloat(weight_[static_cast<size_t>(col * kIn + k)])};
            }
            ASSERT_NEAR(double{y[static_cast<size_t>(row * kOut + col)]}, sum, 1e-4);
          }
        }
      }
    }
  }
}

TEST_P(CublasLtProductTest, GivesBackWhatItMadeOfTheLibrary) {
  (void)Multiply(3, MatMulMode::kOverwrite, true);
  EXPECT_GT(NumCublasLtObjects(), 0);
  product_.reset();
  EXPECT_EQ(NumCublasLtObjects(), 0);
}

// The first row's bits, alone and beside others: cuBLASLt splits K where there are few rows.
TEST_P(CublasLtProductTest, ARowIsTheSameWhateverIsBesideItOnlyWhereThatIsPinned) {
  std::vector<float> alone = Multiply(1, MatMulMode::kOverwrite, false);
  std::vector<float> among_many = Multiply(kRows, MatMulMode::kOverwrite, false);
  among_many.resize(kOut);
  if (GetParam() == ProductMode::kDeterministic) {
    EXPECT_EQ(alone, among_many);
  } else {
    EXPECT_NE(alone, among_many);  // or the stand-in would prove nothing
  }
}

TEST_P(CublasLtProductTest, AsksForAnAlgorithmOncePerWeightOrOncePerShape) {
  const int before = NumCublasLtChoices();
  for (int round = 0; round < 2; ++round) {
    for (const int num_rows : {1, 2, 3}) (void)Multiply(num_rows, MatMulMode::kOverwrite, false);
  }
  EXPECT_EQ(NumCublasLtChoices() - before, GetParam() == ProductMode::kDeterministic ? 1 : 3);
}

std::vector<uint8_t> RandomBytes(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) {
    do byte = static_cast<uint8_t>(random());
    while ((byte & 0x7F) == 0x7F);  // e4m3's only ones that are no numbers
  }
  return bytes;
}

class EightBitProductTest : public CublasLtProductTest {
 protected:
  static constexpr int kEightBitIn = 112;
  static constexpr int kEightBitOut = 48;

  // Sums of the first num_rows rows of bytes_.
  template <typename Sum>
  std::vector<Sum> MultiplyEightBit(WeightType type, int num_rows) {
    const DeviceArray<uint8_t> x(bytes_, stream_);
    const DeviceArray<uint8_t> weight(weight_bytes_, stream_);
    const DeviceArray<Sum> sums(static_cast<size_t>(num_rows) * kEightBitOut, stream_);
    const absl::Status status = product_->MultiplyEightBit({.type = type,
                                                            .weight = weight.data(),
                                                            .x = x.data(),
                                                            .sums = sums.data(),
                                                            .num_rows = num_rows,
                                                            .in_features = kEightBitIn,
                                                            .out_features = kEightBitOut});
    EXPECT_TRUE(status.ok()) << status;
    return sums.ToHost();
  }

  template <typename Function>
  double Expected(int row, int col, const Function& to_double) const {
    double sum = 0;
    for (int k = 0; k < kEightBitIn; ++k) {
      sum += to_double(bytes_[static_cast<size_t>(row * kEightBitIn + k)]) *
             to_double(weight_bytes_[static_cast<size_t>(col * kEightBitIn + k)]);
    }
    return sum;
  }

  const std::vector<uint8_t> bytes_ = RandomBytes(kRows * kEightBitIn, 3);
  const std::vector<uint8_t> weight_bytes_ = RandomBytes(kEightBitOut * kEightBitIn, 4);
};

TEST_P(EightBitProductTest, SumsOfWholeNumbersAreExact) {
  for (const int num_rows : {32, kRows}) {
    const auto sums = MultiplyEightBit<int32_t>(WeightType::kInt8, num_rows);
    for (int row = 0; row < num_rows; ++row) {
      for (int col = 0; col < kEightBitOut; ++col) {
        ASSERT_EQ(sums[static_cast<size_t>(row * kEightBitOut + col)],
                  Expected(row, col, [](uint8_t byte) {
                    return static_cast<double>(static_cast<int8_t>(byte));
                  }));
      }
    }
  }
}

TEST_P(EightBitProductTest, SumsOfFp8AreThoseOfTheirValues) {
  // 112 products of up to 448², each sum rounded to 24 bits.
  constexpr double kTolerance = 112 * 112 * 448.0 * 448.0 / (1 << 24);
  for (const int num_rows : {32, kRows}) {
    const auto sums = MultiplyEightBit<float>(WeightType::kFp8, num_rows);
    for (int row = 0; row < num_rows; ++row) {
      for (int col = 0; col < kEightBitOut; ++col) {
        ASSERT_NEAR(sums[static_cast<size_t>(row * kEightBitOut + col)],
                    Expected(row, col, Fp8ToDouble), kTolerance);
      }
    }
  }
}

TEST_P(EightBitProductTest, ARowOfFp8IsTheSameWhateverIsBesideItOnlyWhereThatIsPinned) {
  const auto among_few = MultiplyEightBit<float>(WeightType::kFp8, 32);
  auto among_many = MultiplyEightBit<float>(WeightType::kFp8, kRows);
  among_many.resize(among_few.size());
  EXPECT_EQ(among_few == among_many, GetParam() == ProductMode::kDeterministic);
}

TEST_P(EightBitProductTest, TheSameShapeOfAnotherTypeIsAnotherProduct) {
  const int before = NumCublasLtChoices();
  for (int round = 0; round < 2; ++round) {
    (void)MultiplyEightBit<int32_t>(WeightType::kInt8, 32);
    (void)MultiplyEightBit<float>(WeightType::kFp8, 32);
  }
  EXPECT_EQ(NumCublasLtChoices() - before, 2);
}

INSTANTIATE_TEST_SUITE_P(Modes, EightBitProductTest,
                         testing::Values(ProductMode::kFastest, ProductMode::kDeterministic),
                         [](const auto& info) {
                           return info.param == ProductMode::kFastest ? "Fastest" : "Deterministic";
                         });

INSTANTIATE_TEST_SUITE_P(Modes, CublasLtProductTest,
                         testing::Values(ProductMode::kFastest, ProductMode::kDeterministic),
                         [](const auto& info) {
                           return info.param == ProductMode::kFastest ? "Fastest" : "Deterministic";
                         });

}  // namespace
}  // namespace kvec::kernels::cuda
