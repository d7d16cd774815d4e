#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/thread_pool.h"
#include "tests/kernels/cpu/random_weight.h"

namespace kvec::kernels::cpu {
namespace {

using ::testing::HasSubstr;

constexpr TensorType kQuantizedTypes[] = {TensorType::kQ4_0, TensorType::kQ4_1, TensorType::kQ5_0,
                                          TensorType::kQ5_1, TensorType::kQ8_0, TensorType::kQ4_K,
                                          TensorType::kQ5_K, TensorType::kQ6_K};

std::vector<Isa> AvailableIsas() {
  std::vector<Isa> isas;
  for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (isa <= DetectIsa()) isas.push_back(isa);
  }
  return isas;
}

std::vector<float> RandomVector(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  for (float& value : values) value = normal(random);
  return values;
}

// x rounded to 8 bits with a scale per 32 inputs, as MatMul does, and back.
std::vector<double> RoundActivations(const std::vector<float>& x) {
  std::vector<double> rounded(x.size());
  for (size_t block = 0; block < x.size(); block += 32) {
    float maximum = 0;
    for (int i = 0; i < 32; ++i) maximum = std::max(maximum, std::fabs(x[block + i]));
    if (maximum == 0) continue;
    for (int i = 0; i < 32; ++i) {
      rounded[block + i] = std::nearbyint(x[block + i] * (127.0f / maximum)) * (maximum / 127.0f);
    }
  }
  return rounded;
}

struct Product {
  std::vector<double> values;      // [rows, out]
  std::vector<double> magnitudes;  // Σ |x w|: what rounding errors are relative to
};

// x · wᵀ in double.
template <typename T>
Product Multiply(const std::vector<T>& x, const std::vector<float>& weights, int in_features) {
  const size_t rows = x.size() / in_features;
  const size_t out_features = weights.size() / in_features;
  Product product{std::vector<double>(rows * out_features),
                  std::vector<double>(rows * out_features)};
  for (size_t row = 0; row < rows; ++row) {
    for (size_t out = 0; out < out_features; ++out) {
      for (int i = 0; i < in_features; ++i) {
        const double term = double{x[row * in_features + i]} * weights[out * in_features + i];
        product.values[row * out_features + out] += term;
        product.magnitudes[row * out_features + out] += std::fabs(term);
      }
    }
  }
  return product;
}

class MatMulRunner {
 public:
  explicit MatMulRunner(int num_threads) : pool_(num_threads), scratch_(num_threads) {}

  absl::Status Run(const Weight& weight, const std::vector<float>& x, int num_rows,
                   const float* bias, MatMulMode mode, std::vector<float>& y) {
    std::vector<float> input = x;
    return MatMul(pool_, weight,
                  {input.data(), num_rows, weight.in_features(), weight.in_features()}, bias, mode,
                  {y.data(), num_rows, weight.out_features(), weight.out_features()}, scratch_);
  }

 private:
  ThreadPool pool_;
  MatMulScratch scratch_;
};

std::vector<float> MultiplyOrDie(const Weight& weight, const std::vector<float>& x, int num_rows,
                                 int num_threads = 2) {
  std::vector<float> y(static_cast<size_t>(num_rows) * weight.out_features());
  const absl::Status status =
      MatMulRunner(num_threads).Run(weight, x, num_rows, nullptr, MatMulMode::kOverwrite, y);
  EXPECT_TRUE(status.ok()) << status;
  return y;
}

std::unique_ptr<Weight> PrepareOrDie(std::vector<WeightSource> sources, Isa isa) {
  auto weight = PrepareWeight(sources, isa);
  EXPECT_TRUE(weight.ok()) << weight.status();
  return *std::move(weight);
}

// The scales of the K types are rounded to 11 bits; all else is exact but for float32 sums.
double ToleranceOf(TensorType type) {
  switch (type) {
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
    case TensorType::kQ6_K:
      return 2.5e-4;
    default:
      return 1e-6;
  }
}

class QuantizedMatMulTest : public ::testing::TestWithParam<Isa> {};

TEST_P(QuantizedMatMulTest, EqualsProductOfRoundedActivations) {
  for (TensorType type : kQuantizedTypes) {
    const int block = GetTraits(type).block_elements;
    for (int in_features : {block, 3 * block, 800 / block * block + 256}) {
      for (int out_features : {1, 7, 17, 97}) {
        for (int num_rows : {1, 2, 7, 13}) {
          SCOPED_TRACE(GetTraits(type).name.data() + std::string(" ") +
                       std::to_string(out_features) + "x" + std::to_string(in_features) + " rows " +
                       std::to_string(num_rows));
          const RandomWeight source(type, out_features, in_features, /*seed=*/out_features);
          const auto x = RandomVector(static_cast<size_t>(num_rows) * in_features, 7);
          const auto weight = PrepareOrDie({source.source()}, GetParam());
          const auto y = MultiplyOrDie(*weight, x, num_rows);
          const auto expected = Multiply(RoundActivations(x), source.Dequantized(), in_features);
          for (size_t i = 0; i < y.size(); ++i) {
            ASSERT_NEAR(y[i], expected.values[i], ToleranceOf(type) * expected.magnitudes[i]);
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllIsas, QuantizedMatMulTest, ::testing::ValuesIn(AvailableIsas()),
                         [](const auto& info) { return std::string(IsaName(info.param)); });

}  // namespace
}  // namespace kvec::kernels::cpu
