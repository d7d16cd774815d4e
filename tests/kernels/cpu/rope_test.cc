#include "kernels/cpu/rope.h"

#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/kernels/cpu/isa_test.h"
#include "tests/kernels/cpu/random_matrix.h"

namespace kvec::kernels::cpu {
namespace {

using ::testing::HasSubstr;

class RopeTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(Isas, RopeTest, kAllIsas, IsaTestName);

TEST(RopeAnglesTest, LargePositionsKeepTheirAngles) {
  ThreadPool pool(2);
  const std::vector<int32_t> positions = {0, 1, 4095, 131071, 1000000, 2000000000};
  Matrix out(6, 64);
  const RopeConfig rope{.theta = 500000.0f, .frequency_factors = {}};
  ASSERT_TRUE(RopeAngles(pool, positions, rope, out.tensor()).ok());
  for (int row = 0; row < 6; ++row) {
    for (int i = 0; i < 32; ++i) {
      const long double frequency = std::pow(500000.0L, -2.0L * i / 64.0L);
      const long double angle = positions[static_cast<size_t>(row)] * frequency;
      EXPECT_NEAR(out.at(row, i), std::cos(angle), 1e-6) << positions[row] << ", pair " << i;
      EXPECT_NEAR(out.at(row, 32 + i), std::sin(angle), 1e-6) << positions[row] << ", pair " << i;
    }
  }
  EXPECT_TRUE(out.GapsAreIntact());
}

TEST(RopeAnglesTest, FrequencyFactorsDivideFrequencies) {
  ThreadPool pool(1);
  Matrix out(1, 4);
  const std::vector<int32_t> positions = {3};
  const RopeConfig rope{.theta = 100.0f, .frequency_factors = {2.0f, 0.5f}};
  ASSERT_TRUE(RopeAngles(pool, positions, rope, out.tensor()).ok());
  EXPECT_FLOAT_EQ(out.at(0, 0), std::cos(3.0f / 2.0f));
  EXPECT_FLOAT_EQ(out.at(0, 1), std::cos(3.0f * 0.1f / 0.5f));
  EXPECT_FLOAT_EQ(out.at(0, 2), std::sin(3.0f / 2.0f));
  EXPECT_FLOAT_EQ(out.at(0, 3), std::sin(3.0f * 0.1f / 0.5f));
}

TEST(RopeAnglesTest, RejectsShapesThatDoNotFit) {
  ThreadPool pool(1);
  Matrix out(2, 4);
  const std::vector<int32_t> positions = {3};
  EXPECT_THAT(std::string(RopeAngles(pool, positions, {}, out.tensor()).message()),
              HasSubstr("1 positions"));
  const std::vector<int32_t> two = {3, 4};
  EXPECT_THAT(
      std::string(RopeAngles(pool, two, {.theta = 1e4f, .frequency_factors = {1.0f}}, out.tensor())
                      .message()),
      HasSubstr("1 frequency factors"));
}

// The head's values after norm and rotation, in double precision.
std::vector<double> Rotated(const Matrix& qkv, int row, int begin, int head_dim,
                            const float* weight, float eps, const Matrix& angles,
                            RopePairing pairing) {
  std::vector<double> head(static_cast<size_t>(head_dim));
  double squares = 0;
  for (int i = 0; i < head_dim; ++i) squares += std::pow(double{qkv.at(row, begin + i)}, 2);
  const double scale = 1 / std::sqrt(squares / head_dim + eps);
  for (int i = 0; i < head_dim; ++i) {
    head[i] = qkv.at(row, begin + i) * (weight == nullptr ? 1.0 : scale * weight[i]);
  }
  const int half = head_dim / 2;
  for (int i = 0; i < half; ++i) {
    const int first = pairing == RopePairing::kHalves ? i : 2 * i;
    const int second = pairing == RopePairing::kHalves ? i + half : 2 * i + 1;
    const double x = head[first];
    const double y = head[second];
    head[first] = x * angles.at(row, i) - y * angles.at(row, half + i);
    head[second] = x * angles.at(row, half + i) + y * angles.at(row, i);
  }
  return head;
}

TEST_P(RopeTest, NormAndRotateMatchesDoublePrecision) {
  ThreadPool pool(2);
  for (int head_dim : {8, 64, 72, 80, 256}) {
    const HeadShape shape{.num_heads = 3, .num_kv_heads = 2, .head_dim = head_dim, .group_size = 2};
    Matrix weights = Matrix::Random(2, head_dim, 1);
    const QkNorm norms[] = {
        {}, {weights.tensor().data, weights.tensor().data + weights.tensor().stride, 1e-6f}};
    for (const QkNorm& norm : norms) {
      for (RopePairing pairing : {RopePairing::kHalves, RopePairing::kInterleaved}) {
        Matrix qkv = Matrix::Random(7, shape.qkv_cols(), 2);
        Matrix angles = Matrix::Random(7, head_dim, 3);
        const Matrix before = qkv;
        ASSERT_TRUE(NormAndRotate(pool, qkv.tensor(), shape, norm, angles.tensor(), pairing).ok());
        for (int row = 0; row < 7; ++row) {
          for (int head = 0; head < 5; ++head) {
            const std::vector<double> expected =
                Rotated(before, row, head * head_dim, head_dim,
                        head < 3 ? norm.q_weight : norm.k_weight, norm.eps, angles, pairing);
            for (int i = 0; i < head_dim; ++i) {
              ASSERT_NEAR(qkv.at(row, head * head_dim + i), expected[i], 1e-5)
                  << "head_dim " << head_dim << ", head " << head << ", at " << i;
            }
          }
          for (int col = 5 * head_dim; col < shape.qkv_cols(); ++col) {
            ASSERT_EQ(qkv.at(row, col), before.at(row, col)) << "a value was turned";
          }
        }
        EXPECT_TRUE(qkv.GapsAreIntact());
      }
    }
  }
}

TEST_P(RopeTest, RejectsShapesThatDoNotFit) {
  ThreadPool pool(1);
  const HeadShape shape{.num_heads = 3, .num_kv_heads = 3, .head_dim = 8, .group_size = 1};
  Matrix qkv(2, shape.qkv_cols() + 1);
  Matrix angles(2, 8);
  EXPECT_THAT(std::string(NormAndRotate(pool, qkv.tensor(), shape, {}, angles.tensor(),
                                        RopePairing::kHalves)
                              .message()),
              HasSubstr("qkv [2, 73]"));
}

}  // namespace
}  // namespace kvec::kernels::cpu
