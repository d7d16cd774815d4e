#include "kernels/cpu/rms_norm.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/kernels/cpu/isa_test.h"
#include "tests/kernels/cpu/random_matrix.h"

namespace kvec::kernels::cpu {
namespace {

using ::testing::HasSubstr;

constexpr float kEps = 1e-5f;

double Normed(const Matrix& x, const Matrix& weight, int row, int col) {
  double squares = 0;
  for (int i = 0; i < x.cols(); ++i) squares += double{x.at(row, i)} * x.at(row, i);
  return x.at(row, col) / std::sqrt(squares / x.cols() + kEps) * weight.at(0, col);
}

class RmsNormTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(Isas, RmsNormTest, kAllIsas, IsaTestName);

TEST_P(RmsNormTest, MatchesDoublePrecision) {
  ThreadPool pool(2);
  for (int cols : {1, 7, 17, 97, 511, 513, 576}) {
    for (int rows : {1, 3, 13}) {
      Matrix x = Matrix::Random(rows, cols, 1);
      Matrix weight = Matrix::Random(1, cols, 2);
      Matrix out(rows, cols);
      ASSERT_TRUE(RmsNorm(pool, x.tensor(), weight.tensor().data, kEps, out.tensor()).ok());
      for (int row = 0; row < rows; ++row) {
        for (int col = 0; col < cols; ++col) {
          const double expected = Normed(x, weight, row, col);
          ASSERT_NEAR(out.at(row, col), expected, 1e-6 * (1 + std::fabs(expected)))
              << cols << " columns, at " << row << ", " << col;
        }
      }
      EXPECT_TRUE(out.GapsAreIntact());
    }
  }
}

TEST_P(RmsNormTest, WorksInPlace) {
  ThreadPool pool(1);
  Matrix x = Matrix::Random(3, 97, 3);
  Matrix weight = Matrix::Random(1, 97, 4);
  Matrix out(3, 97);
  ASSERT_TRUE(RmsNorm(pool, x.tensor(), weight.tensor().data, kEps, out.tensor()).ok());
  ASSERT_TRUE(RmsNorm(pool, x.tensor(), weight.tensor().data, kEps, x.tensor()).ok());
  EXPECT_EQ(x, out);
}

TEST_P(RmsNormTest, AddRmsNormAddsToTheResidualStream) {
  ThreadPool pool(2);
  for (int cols : {1, 7, 97, 513}) {
    Matrix y = Matrix::Random(13, cols, 5);
    Matrix x = Matrix::Random(13, cols, 6);
    Matrix weight = Matrix::Random(1, cols, 7);
    const Matrix before = x;
    ASSERT_TRUE(AddRmsNorm(pool, y.tensor(), weight.tensor().data, kEps, x.tensor()).ok());
    for (int row = 0; row < 13; ++row) {
      for (int col = 0; col < cols; ++col) {
        const double expected = before.at(row, col) + Normed(y, weight, row, col);
        ASSERT_NEAR(x.at(row, col), expected, 2e-6 * (1 + std::fabs(expected)));
      }
    }
    EXPECT_TRUE(x.GapsAreIntact());
  }
}

TEST_P(RmsNormTest, ARowDoesNotDependOnTheRowsBesideIt) {
  ThreadPool pool(2);
  Matrix x = Matrix::Random(40, 576, 8);
  Matrix weight = Matrix::Random(1, 576, 9);
  Matrix together(40, 576);
  Matrix alone(40, 576);
  ASSERT_TRUE(RmsNorm(pool, x.tensor(), weight.tensor().data, kEps, together.tensor()).ok());
  for (int row = 0; row < 40; ++row) {
    ASSERT_TRUE(RmsNorm(pool, x.tensor().Rows(row, 1), weight.tensor().data, kEps,
                        alone.tensor().Rows(row, 1))
                    .ok());
  }
  EXPECT_EQ(together, alone);
}

TEST(RmsNormArgumentsTest, RejectsDifferentShapes) {
  ThreadPool pool(1);
  Matrix x(2, 8);
  Matrix out(2, 9);
  Matrix weight(1, 8);
  EXPECT_THAT(
      std::string(RmsNorm(pool, x.tensor(), weight.tensor().data, kEps, out.tensor()).message()),
      HasSubstr("[2, 8] and [2, 9]"));
  EXPECT_FALSE(AddRmsNorm(pool, x.tensor(), weight.tensor().data, kEps, out.tensor()).ok());
}

}  // namespace
}  // namespace kvec::kernels::cpu
