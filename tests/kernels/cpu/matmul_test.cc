#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/thread_pool.h"
#include "tests/kernels/cpu/isa_test.h"
#include "tests/kernels/cpu/random_matrix.h"
#include "tests/kernels/cpu/random_weight.h"

namespace kvec::kernels::cpu {
namespace {

using ::testing::HasSubstr;

constexpr TensorType kAllTypes[] = {TensorType::kF32,  TensorType::kF16,  TensorType::kBF16,
                                    TensorType::kQ4_0, TensorType::kQ4_1, TensorType::kQ5_0,
                                    TensorType::kQ5_1, TensorType::kQ8_0, TensorType::kQ4_K,
                                    TensorType::kQ5_K, TensorType::kQ6_K};

// Whole blocks for dense types, too: odd widths have tests of their own.
int SmallestWidth(TensorType type) { return std::max(32, GetTraits(type).block_elements); }

// x rounded to 16 bits with a scale per 32 inputs, as MatMul does for quantised weights.
std::vector<double> RoundedRow(const Matrix& x, int row) {
  std::vector<double> rounded(static_cast<size_t>(x.cols()));
  for (int block = 0; block < x.cols(); block += 32) {
    float maximum = 0;
    for (int i = 0; i < 32; ++i) maximum = std::max(maximum, std::fabs(x.at(row, block + i)));
    if (maximum == 0) continue;
    for (int i = 0; i < 32; ++i) {
      const float quotient = x.at(row, block + i) * (32512.0f / maximum);
      rounded[block + i] = std::nearbyint(quotient) * (maximum * (1.0f / 32512.0f));
    }
  }
  return rounded;
}

std::vector<double> PlainRow(const Matrix& x, int row) {
  std::vector<double> values;
  for (int col = 0; col < x.cols(); ++col) values.push_back(x.at(row, col));
  return values;
}

struct DotProduct {
  double value = 0;
  double magnitude = 0;  // Σ |x w|, which float32's rounding errors are relative to
  double rounding = 0;   // bound of what rounding x to 16 bits changes
};

// In double, of decoded weights.
DotProduct Dot(const std::vector<double>& x, const float* weights) {
  DotProduct dot;
  for (size_t block = 0; block < x.size(); block += 32) {
    double maximum = 0;
    double sum = 0;
    for (size_t i = block; i < std::min(block + 32, x.size()); ++i) {
      dot.value += x[i] * weights[i];
      dot.magnitude += std::fabs(x[i] * weights[i]);
      maximum = std::max(maximum, std::fabs(x[i]));
      sum += std::fabs(weights[i]);
    }
    dot.rounding += 0.5 * maximum / 32512 * sum;
  }
  return dot;
}

// What the weights themselves lose: scales of the K types are kept in 11 bits, and their parts
// (scale · u and min) are up to four times their sum.
double WeightTolerance(TensorType type) {
  switch (type) {
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
    case TensorType::kQ6_K:
      return 1e-3;
    default:
      return 1e-6;
  }
}

Matrix Multiply(const Weight& weight, Matrix x, int num_threads = 2) {
  Matrix y(x.rows(), weight.out_features());
  ThreadPool pool(num_threads);
  MatMulScratch scratch(num_threads);
  const absl::Status status =
      MatMul(pool, weight, x.tensor(), nullptr, MatMulMode::kOverwrite, y.tensor(), scratch);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(y.GapsAreIntact());
  return y;
}

std::unique_ptr<Weight> Prepare(const std::vector<WeightSource>& sources, Isa isa) {
  ThreadPool pool(2);
  auto weight = PrepareWeight(pool, sources, isa);
  EXPECT_TRUE(weight.ok()) << weight.status();
  return *std::move(weight);
}

class MatMulTest : public IsaTest {
 protected:
  // Against the product in double: of the rounded activations for quantised weights, which must be
  // met to float32's precision, and of the plain ones within the bound of that rounding.
  void ExpectProduct(TensorType type, int out_features, int in_features, int num_rows) {
    SCOPED_TRACE(absl::StrCat(GetTraits(type).name, " [", out_features, ", ", in_features, "], ",
                              num_rows, " rows"));
    const RandomWeight source(type, out_features, in_features, /*seed=*/out_features);
    const std::vector<float> weights = source.Dequantized();
    const Matrix x = Matrix::Random(num_rows, in_features, /*seed=*/7);
    const Matrix y = Multiply(*Prepare({source.source()}, GetParam()), x);
    for (int row = 0; row < num_rows; ++row) {
      const std::vector<double> plain = PlainRow(x, row);
      const std::vector<double> used = IsQuantized(type) ? RoundedRow(x, row) : plain;
      for (int out = 0; out < out_features; ++out) {
        const float* weight_row = &weights[static_cast<size_t>(out) * in_features];
        const DotProduct expected = Dot(used, weight_row);
        const double tolerance = WeightTolerance(type) * expected.magnitude;
        ASSERT_NEAR(y.at(row, out), expected.value, tolerance) << "row " << row << " out " << out;
        const DotProduct unrounded = Dot(plain, weight_row);
        ASSERT_NEAR(y.at(row, out), unrounded.value, unrounded.rounding + tolerance);
      }
    }
  }
};

TEST_P(MatMulTest, EqualsProductInDoubleForEveryTypeAndOddSizes) {
  for (TensorType type : kAllTypes) {
    const int width = SmallestWidth(type);
    for (int out_features : {1, 7, 17, 97}) {
      for (int num_rows : {1, 2, 3, 7, 8, 13, 47}) {
        ExpectProduct(type, out_features, 3 * width, num_rows);
      }
    }
  }
}

// More inputs than are unpacked at a time, so that sums are set aside and taken up again.
TEST_P(MatMulTest, EqualsProductInDoubleForManyInputs) {
  for (TensorType type : kAllTypes) {
    for (int num_rows : {1, 5, 40}) ExpectProduct(type, 33, 1792, num_rows);
  }
}

TEST_P(MatMulTest, EqualsProductInDoubleForManyFeaturesAndRows) {
  for (TensorType type : {TensorType::kQ4_1, TensorType::kQ6_K, TensorType::kBF16}) {
    ExpectProduct(type, 511, 256, 33);
    ExpectProduct(type, 513, 256, 2);
    ExpectProduct(type, 17, 256, 513);
  }
}

TEST_P(MatMulTest, TakesAnyNumberOfInputsWithDenseWeights) {
  for (TensorType type : {TensorType::kF32, TensorType::kF16, TensorType::kBF16}) {
    for (int in_features : {1, 7, 17, 97, 511}) {
      for (int num_rows : {1, 14}) ExpectProduct(type, 19, in_features, num_rows);
    }
  }
}

TEST_P(MatMulTest, GivesARowTheSameBitsWhateverIsBesideIt) {
  for (TensorType type : kAllTypes) {
    SCOPED_TRACE(GetTraits(type).name);
    constexpr int kInFeatures = 1024;
    constexpr int kOutFeatures = 81;
    constexpr int kMostRows = 523;
    const RandomWeight source(type, kOutFeatures, kInFeatures, /*seed=*/3);
    const auto weight = Prepare({source.source()}, GetParam());
    const Matrix x = Matrix::Random(kMostRows, kInFeatures, /*seed=*/4);
    const Matrix all = Multiply(*weight, x);
    for (int num_rows : {1, 2, 3, 7, 8, 9, 32, 33, 64, 511}) {
      for (int num_threads : {1, 3}) {
        Matrix last_rows(num_rows, kInFeatures);
        for (int row = 0; row < num_rows; ++row) {
          for (int col = 0; col < kInFeatures; ++col) {
            last_rows.at(row, col) = x.at(kMostRows - num_rows + row, col);
          }
        }
        const Matrix y = Multiply(*weight, last_rows, num_threads);
        for (int row = 0; row < num_rows; ++row) {
          for (int out = 0; out < kOutFeatures; ++out) {
            ASSERT_EQ(y.at(row, out), all.at(kMostRows - num_rows + row, out))
                << num_rows << " rows, row " << row << " feature " << out;
          }
        }
      }
    }
  }
}

TEST_P(MatMulTest, GivesAFeatureTheSameBitsInAnyWeight) {
  for (TensorType type : {TensorType::kQ4_0, TensorType::kF32}) {
    const RandomWeight whole(type, 100, 64, /*seed=*/5);
    const WeightSource source = whole.source();
    const size_t row_bytes = RowBytes(type, 64);
    const WeightSource below{type, 60, 64, source.data.subspan(40 * row_bytes)};
    for (int num_rows : {1, 40}) {
      const Matrix x = Matrix::Random(num_rows, 64, /*seed=*/6);
      const Matrix y = Multiply(*Prepare({source}, GetParam()), x);
      const Matrix part = Multiply(*Prepare({below}, GetParam()), x);
      for (int row = 0; row < num_rows; ++row) {
        for (int out = 0; out < 60; ++out) ASSERT_EQ(part.at(row, out), y.at(row, 40 + out));
      }
    }
  }
}

TEST_P(MatMulTest, StacksSourcesOfDifferentTypes) {
  const RandomWeight q(TensorType::kQ4_K, 37, 512, /*seed=*/1);
  const RandomWeight k(TensorType::kBF16, 16, 512, /*seed=*/2);
  const RandomWeight v(TensorType::kQ6_K, 5, 512, /*seed=*/3);
  const auto stacked = Prepare({q.source(), k.source(), v.source()}, GetParam());
  EXPECT_EQ(stacked->out_features(), 58);
  EXPECT_EQ(stacked->in_features(), 512);
  for (int num_rows : {1, 50}) {
    const Matrix x = Matrix::Random(num_rows, 512, /*seed=*/8);
    const Matrix y = Multiply(*stacked, x);
    int first = 0;
    for (const RandomWeight* part : {&q, &k, &v}) {
      const auto weight = Prepare({part->source()}, GetParam());
      const Matrix expected = Multiply(*weight, x);
      for (int row = 0; row < num_rows; ++row) {
        for (int out = 0; out < weight->out_features(); ++out) {
          ASSERT_EQ(y.at(row, first + out), expected.at(row, out));
        }
      }
      first += weight->out_features();
    }
  }
}

TEST_P(MatMulTest, AddsBiasAndAccumulates) {
  for (TensorType type : {TensorType::kQ4_1, TensorType::kQ8_0, TensorType::kF16}) {
    const RandomWeight source(type, 45, 96, /*seed=*/1);
    const auto weight = Prepare({source.source(), source.source()}, GetParam());
    Matrix bias = Matrix::Random(1, 90, /*seed=*/2);
    for (int num_rows : {1, 6, 70}) {
      Matrix x = Matrix::Random(num_rows, 96, /*seed=*/3);
      const Matrix product = Multiply(*weight, x);
      const Matrix before = Matrix::Random(num_rows, 90, /*seed=*/4);
      Matrix y = before;
      ThreadPool pool(2);
      MatMulScratch scratch(2);
      ASSERT_TRUE(MatMul(pool, *weight, x.tensor(), bias.tensor().data, MatMulMode::kAccumulate,
                         y.tensor(), scratch)
                      .ok());
      for (int row = 0; row < num_rows; ++row) {
        for (int out = 0; out < 90; ++out) {
          const float expected = before.at(row, out) + (product.at(row, out) + bias.at(0, out));
          ASSERT_EQ(y.at(row, out), expected);
        }
      }
      EXPECT_TRUE(y.GapsAreIntact());
    }
  }
}

TEST_P(MatMulTest, KeepsHugeAndTinyScales) {
  for (float scale : {60000.0f, 6e-8f}) {
    std::vector<uint8_t> data(RowBytes(TensorType::kQ8_0, 32));
    const uint16_t half = FloatToHalf(scale);
    std::memcpy(data.data(), &half, sizeof(half));
    for (int i = 0; i < 32; ++i) data[2 + i] = static_cast<uint8_t>(i - 16);
    const auto weight = Prepare({{TensorType::kQ8_0, 1, 32, data}}, GetParam());
    Matrix x(1, 32);
    x.at(0, 31) = 1;
    EXPECT_FLOAT_EQ(Multiply(*weight, x).at(0, 0), 15 * HalfToFloat(half));
  }
}

// Sub-scales of 63 make products that float16 cannot hold, or only without precision.
TEST_P(MatMulTest, KeepsHugeAndTinyScalesOfSuperBlocks) {
  for (float scale : {60000.0f, 1e-5f}) {
    std::vector<uint8_t> data(RowBytes(TensorType::kQ4_K, 256), 0x55);
    const uint16_t half = FloatToHalf(scale);
    std::memcpy(data.data(), &half, sizeof(half));
    std::memset(data.data() + 2, 0, 2);    // minimum
    std::memset(data.data() + 4, 63, 12);  // sub-scales
    const auto weight = Prepare({{TensorType::kQ4_K, 1, 256, data}}, GetParam());
    Matrix x(1, 256);
    x.at(0, 31) = 1;
    EXPECT_NEAR(Multiply(*weight, x).at(0, 0) / (5 * 63 * HalfToFloat(half)), 1, 5e-4);
  }
}

TEST_P(MatMulTest, GivesZeroForZeroAndTinyActivations) {
  const RandomWeight source(TensorType::kQ4_1, 3, 64, /*seed=*/1);
  const auto weight = Prepare({source.source()}, GetParam());
  Matrix x(2, 64);
  x.at(1, 5) = 1e-42f;
  const Matrix y = Multiply(*weight, x);
  for (int row = 0; row < 2; ++row) {
    for (int out = 0; out < 3; ++out) EXPECT_EQ(y.at(row, out), 0.0f);
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, MatMulTest, kAllIsas, IsaTestName);

TEST(PrepareWeightTest, RejectsSourcesThatContradictThemselves) {
  const std::vector<uint8_t> data(RowBytes(TensorType::kQ4_0, 64) * 2);
  const auto message = [](const std::vector<WeightSource>& sources) {
    ThreadPool pool(1);
    const auto weight = PrepareWeight(pool, sources, Isa::kScalar);
    EXPECT_EQ(weight.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(weight.status().message());
  };
  EXPECT_THAT(message({}), HasSubstr("no sources"));
  EXPECT_THAT(message({{TensorType::kQ4_0, 0, 64, {}}}), HasSubstr("[0, 64]"));
  EXPECT_THAT(message({{TensorType::kQ4_0, 2, 48, data}}), HasSubstr("48 is no multiple of 32"));
  EXPECT_THAT(message({{TensorType::kQ4_0, 3, 64, data}}),
              HasSubstr("72 bytes of data for 3 rows"));
  EXPECT_THAT(message({{TensorType::kQ4_0, 2, 64, data}, {TensorType::kQ4_0, 4, 32, data}}),
              HasSubstr("in_features 32"));
}

TEST(MatMulShapeTest, RejectsShapesThatDoNotFit) {
  const RandomWeight source(TensorType::kQ4_0, 3, 64, /*seed=*/1);
  const auto weight = Prepare({source.source()}, Isa::kScalar);
  ThreadPool pool(1);
  MatMulScratch scratch(1);
  const auto code = [&](Matrix x, Matrix y) {
    return MatMul(pool, *weight, x.tensor(), nullptr, MatMulMode::kOverwrite, y.tensor(), scratch)
        .code();
  };
  EXPECT_EQ(code(Matrix(2, 32), Matrix(2, 3)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Matrix(2, 64), Matrix(2, 4)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Matrix(2, 64), Matrix(1, 3)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Matrix(0, 64), Matrix(0, 3)), absl::StatusCode::kOk);
}

}  // namespace
}  // namespace kvec::kernels::cpu
