#include "kernels/cuda/rms_norm.h"

#include <cmath>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/device_input.h"

namespace kvec::kernels::cuda {
namespace {

constexpr float kEps = 1e-5f;

class CudaRmsNormTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaRmsNormTest, kAllOrders, OrderName);

// One number of a normalised row, in double precision.
double Normed(const Matrix& x, const Matrix& weight, int row, int col) {
  double squares = 0;
  for (int i = 0; i < x.cols(); ++i) squares += double{x.at(row, i)} * x.at(row, i);
  return x.at(row, col) / std::sqrt(squares / x.cols() + kEps) * weight.at(0, col);
}

TEST_P(CudaRmsNormTest, MatchesDoublePrecision) {
  for (int cols : {1, 7, 17, 97, 511, 513, 2048}) {
    const Matrix x = Matrix::Random(5, cols, 1);
    const Matrix weight = Matrix::Random(1, cols, 2);
    DeviceMatrix device_x(x, stream_);
    DeviceMatrix device_weight(weight, stream_);
    DeviceMatrix device_out(Matrix(5, cols, 9), stream_);
    ASSERT_EQ(RmsNorm(stream_, device_x.tensor(), device_weight.tensor().data, kEps,
                      ProductInput::Of(device_out.tensor())),
              cudaSuccess);
    const Matrix out = device_out.ToHost();
    for (int row = 0; row < 5; ++row) {
      for (int col = 0; col < cols; ++col) {
        ASSERT_NEAR(out.at(row, col), Normed(x, weight, row, col), 2e-5) << cols;
      }
    }
    EXPECT_TRUE(out.GapsAreIntact());
  }
}

// What a product took before, rounded by a kernel of its own.
TEST_P(CudaRmsNormTest, RoundsWhatAProductTakes) {
  for (int cols : {1, 97, 513}) {
    DeviceMatrix x(Matrix::Random(5, cols, 1), stream_);
    DeviceMatrix weight(Matrix::Random(1, cols, 2), stream_);
    DeviceMatrix out(Matrix(5, cols), stream_);
    const DeviceInput rounded(Matrix(5, cols), 3, stream_);
    for (const ProductInput& to : {ProductInput::Of(out.tensor()), rounded.input()}) {
      ASSERT_EQ(RmsNorm(stream_, x.tensor(), weight.tensor().data, kEps, to), cudaSuccess);
    }
    EXPECT_EQ(rounded.ToHost(), Rounded(out.ToHost()));
  }
}

TEST_P(CudaRmsNormTest, MayWriteToItsInput) {
  const Matrix x = Matrix::Random(3, 300, 3);
  const Matrix weight = Matrix::Random(1, 300, 4);
  DeviceMatrix device_x(x, stream_);
  DeviceMatrix device_weight(weight, stream_);
  ASSERT_EQ(RmsNorm(stream_, device_x.tensor(), device_weight.tensor().data, kEps,
                    ProductInput::Of(device_x.tensor())),
            cudaSuccess);
  const Matrix out = device_x.ToHost();
  for (int col = 0; col < 300; ++col) {
    ASSERT_NEAR(out.at(2, col), Normed(x, weight, 2, col), 2e-5);
  }
}

TEST_P(CudaRmsNormTest, AddsToTheResidual) {
  const Matrix x = Matrix::Random(4, 97, 5);
  const Matrix y = Matrix::Random(4, 97, 6);
  const Matrix weight = Matrix::Random(1, 97, 7);
  DeviceMatrix device_x(x, stream_);
  DeviceMatrix device_y(y, stream_);
  DeviceMatrix device_weight(weight, stream_);
  ASSERT_EQ(
      AddRmsNorm(stream_, device_y.tensor(), device_weight.tensor().data, kEps, device_x.tensor()),
      cudaSuccess);
  const Matrix out = device_x.ToHost();
  for (int row = 0; row < 4; ++row) {
    for (int col = 0; col < 97; ++col) {
      ASSERT_NEAR(out.at(row, col), x.at(row, col) + Normed(y, weight, row, col), 2e-5);
    }
  }
}

}  // namespace
}  // namespace kvec::kernels::cuda
