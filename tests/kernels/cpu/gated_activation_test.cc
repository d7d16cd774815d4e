#include "kernels/cpu/gated_activation.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/kernels/cpu/isa_test.h"
#include "tests/kernels/cpu/random_matrix.h"

namespace kvec::kernels::cpu {
namespace {

using ::testing::HasSubstr;

double Activated(Activation activation, double x) {
  if (activation == Activation::kSilu) return x / (1 + std::exp(-x));
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

class GatedActivationTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(Isas, GatedActivationTest, kAllIsas, IsaTestName);

TEST_P(GatedActivationTest, MatchesDoublePrecision) {
  ThreadPool pool(2);
  for (Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (int cols : {1, 7, 17, 97, 511, 513}) {
      Matrix gate_up = Matrix::Random(7, 2 * cols, 1, 3.0f);
      Matrix out(7, cols);
      ASSERT_TRUE(GatedActivation(pool, gate_up.tensor(), activation, out.tensor()).ok());
      for (int row = 0; row < 7; ++row) {
        for (int col = 0; col < cols; ++col) {
          const double expected =
              Activated(activation, gate_up.at(row, col)) * gate_up.at(row, cols + col);
          ASSERT_NEAR(out.at(row, col), expected, 2e-6 * (1 + std::fabs(expected)))
              << "gate " << gate_up.at(row, col);
        }
      }
      EXPECT_TRUE(out.GapsAreIntact());
    }
  }
}

TEST_P(GatedActivationTest, SaturatesAtExtremeGates) {
  ThreadPool pool(1);
  const float gates[] = {-1e30f, -1000.0f, -90.0f, 0.0f, 90.0f, 1000.0f};
  for (Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    Matrix gate_up(1, 12);
    Matrix out(1, 6);
    for (int i = 0; i < 6; ++i) {
      gate_up.at(0, i) = gates[i];
      gate_up.at(0, 6 + i) = 1.0f;
    }
    ASSERT_TRUE(GatedActivation(pool, gate_up.tensor(), activation, out.tensor()).ok());
    for (int i = 1; i < 4; ++i) EXPECT_NEAR(out.at(0, i), 0.0f, 1e-30f) << gates[i];
    EXPECT_LE(std::fabs(out.at(0, 0)), 1e-7f);
    EXPECT_FLOAT_EQ(out.at(0, 4), 90.0f);
    EXPECT_FLOAT_EQ(out.at(0, 5), 1000.0f);
  }
}

TEST(GatedActivationArgumentsTest, RejectsShapesThatDoNotFit) {
  ThreadPool pool(1);
  Matrix gate_up(2, 9);
  Matrix out(2, 4);
  EXPECT_THAT(
      std::string(
          GatedActivation(pool, gate_up.tensor(), Activation::kSilu, out.tensor()).message()),
      HasSubstr("[2, 9] does not give [2, 4]"));
}

}  // namespace
}  // namespace kvec::kernels::cpu
