#include "kernels/cuda/rope.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/kernel_test.h"

namespace kvec::kernels::cuda {
namespace {

class CudaRopeTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaRopeTest, kAllOrders, OrderName);

TEST_P(CudaRopeTest, AnglesAreExactAtFarPositions) {
  const std::vector<int32_t> positions = {0, 1, 4095, 131071};
  for (int head_dim : {64, 80, 256}) {
    std::vector<double> frequencies;
    for (int i = 0; i < head_dim / 2; ++i) {
      frequencies.push_back(std::pow(500000.0, -2.0 * i / head_dim));
    }
    DeviceArray<int32_t> device_positions(positions, stream_);
    DeviceArray<double> device_frequencies(frequencies, stream_);
    DeviceMatrix device_out(Matrix(4, head_dim), stream_);
    ASSERT_EQ(RopeAngles(stream_, device_positions.data(), device_frequencies.data(),
                         device_out.tensor()),
              cudaSuccess);
    const Matrix out = device_out.ToHost();
    for (int row = 0; row < 4; ++row) {
      for (int i = 0; i < head_dim / 2; ++i) {
        const double angle =
            positions[static_cast<size_t>(row)] * frequencies[static_cast<size_t>(i)];
        EXPECT_NEAR(out.at(row, i), std::cos(angle), 1e-7);
        EXPECT_NEAR(out.at(row, head_dim / 2 + i), std::sin(angle), 1e-7);
      }
    }
    EXPECT_TRUE(out.GapsAreIntact());
  }
}

// What NormAndRotate makes of one head, in double precision.
std::vector<double> Reference(const Matrix& qkv, int row, int first_col, const Matrix* weight,
                              const Matrix& angles, RopePairing pairing) {
  const int head_dim = angles.cols();
  const int half = head_dim / 2;
  std::vector<double> head;
  double squares = 0;
  for (int i = 0; i < head_dim; ++i) {
    head.push_back(qkv.at(row, first_col + i));
    squares += head.back() * head.back();
  }
  for (int i = 0; i < head_dim && weight != nullptr; ++i) {
    head[static_cast<size_t>(i)] *= weight->at(0, i) / std::sqrt(squares / head_dim + 1e-6);
  }
  for (int i = 0; i < half; ++i) {
    const bool halves = pairing == RopePairing::kHalves;
    double& x = head[static_cast<size_t>(halves ? i : 2 * i)];
    double& y = head[static_cast<size_t>(halves ? i + half : 2 * i + 1)];
    const double cosine = angles.at(row, i);
    const double sine = angles.at(row, half + i);
    const double turned = x * cosine - y * sine;
    y = y * cosine + x * sine;
    x = turned;
  }
  return head;
}

TEST_P(CudaRopeTest, NormAndRotateMatchesDoublePrecision) {
  for (int head_dim : {64, 80, 96, 128, 256}) {
    const HeadShape shape{.num_heads = 5, .num_kv_heads = 2, .head_dim = head_dim, .group_size = 3};
    const Matrix qkv = Matrix::Random(3, shape.qkv_cols(), 1);
    const Matrix angles = Matrix::Random(3, head_dim, 2);
    const Matrix q_weight = Matrix::Random(1, head_dim, 3);
    DeviceMatrix device_angles(angles, stream_);
    DeviceMatrix device_q_weight(q_weight, stream_);
    for (RopePairing pairing : {RopePairing::kHalves, RopePairing::kInterleaved}) {
      DeviceMatrix device_qkv(qkv, stream_);
      const QkNorm norm{.q_weight = device_q_weight.tensor().data, .eps = 1e-6f};
      ASSERT_EQ(
          NormAndRotate(stream_, device_qkv.tensor(), shape, norm, device_angles.tensor(), pairing),
          cudaSuccess);
      const Matrix out = device_qkv.ToHost();
      for (int row = 0; row < 3; ++row) {
        for (int col = 0; col < shape.qkv_cols(); ++col) {
          const int head = col / head_dim;
          const std::vector<double> expected =
              Reference(qkv, row, head * head_dim, head < 5 ? &q_weight : nullptr, angles, pairing);
          const bool is_value = head >= 7;
          ASSERT_NEAR(out.at(row, col),
                      is_value ? qkv.at(row, col) : expected[static_cast<size_t>(col % head_dim)],
                      1e-5)
              << "head_dim " << head_dim << " head " << head;
        }
      }
      EXPECT_TRUE(out.GapsAreIntact());
    }
  }
}

}  // namespace
}  // namespace kvec::kernels::cuda
