#include "kernels/cuda/gated_activation.h"

#include <cmath>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/device_input.h"

namespace kvec::kernels::cuda {
namespace {

class CudaGatedActivationTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaGatedActivationTest, kAllOrders, OrderName);

double Reference(double gate, Activation activation) {
  if (activation == Activation::kSilu) return gate / (1 + std::exp(-gate));
  return gate / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (gate + 0.044715 * std::pow(gate, 3))));
}

TEST_P(CudaGatedActivationTest, MatchesDoublePrecision) {
  for (Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (int cols : {1, 7, 97, 513}) {
      Matrix gate_up = Matrix::Random(7, 2 * cols, 1, 4.0f);
      gate_up.at(0, 0) = 200.0f;  // exp overflows
      gate_up.at(1, 0) = -200.0f;
      DeviceMatrix device_gate_up(gate_up, stream_);
      DeviceMatrix device_out(Matrix(7, cols), stream_);
      ASSERT_EQ(GatedActivation(stream_, device_gate_up.tensor(), activation,
                                ProductInput::Of(device_out.tensor())),
                cudaSuccess);
      const Matrix out = device_out.ToHost();
      for (int row = 0; row < 7; ++row) {
        for (int col = 0; col < cols; ++col) {
          const double expected =
              Reference(gate_up.at(row, col), activation) * gate_up.at(row, cols + col);
          ASSERT_NEAR(out.at(row, col), expected, 1e-5 + 1e-5 * std::fabs(expected));
        }
      }
      EXPECT_TRUE(out.GapsAreIntact());
    }
  }
}

TEST_P(CudaGatedActivationTest, RoundsWhatAProductTakes) {
  for (Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    DeviceMatrix gate_up(Matrix::Random(7, 2 * 511, 1, 4.0f), stream_);
    DeviceMatrix out(Matrix(7, 511), stream_);
    const DeviceInput rounded(Matrix(7, 511), 3, stream_);
    for (const ProductInput& to : {ProductInput::Of(out.tensor()), rounded.input()}) {
      ASSERT_EQ(GatedActivation(stream_, gate_up.tensor(), activation, to), cudaSuccess);
    }
    EXPECT_EQ(rounded.ToHost(), Rounded(out.ToHost()));
  }
}

}  // namespace
}  // namespace kvec::kernels::cuda
