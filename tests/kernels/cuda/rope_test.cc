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

}  // namespace
}  // namespace kvec::kernels::cuda
