#include "kernels/cpu/matmul_kernels.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cpu/isa_test.h"
#include "tests/kernels/cpu/random_matrix.h"

namespace kvec::kernels::cpu {
namespace {

class MatMulKernelsTest : public IsaTest {};

std::vector<int> NumbersOf(const ActivationBlock& block, const MatMulKernels& kernels) {
  std::vector<int> numbers(32);
  for (int i = 0; i < 32; ++i) {
    if (kernels.panel_number_bytes == 1) {
      numbers[i] = 256 * block.high()[i] + block.low()[i];
      continue;
    }
    constexpr int kPlaces[] = {0, 2, 1, 3};
    int16_t number;
    std::memcpy(&number, block.numbers + 2 * (i / 4 * 4 + kPlaces[i % 4]), sizeof(number));
    numbers[i] = number;
  }
  return numbers;
}

// All instruction sets round activations to the same numbers.
TEST_P(MatMulKernelsTest, RoundsActivationsAsTheScalarKernelDoes) {
  for (int num_blocks : {1, 2, 3, 17}) {
    Matrix x = Matrix::Random(1, 32 * num_blocks, /*seed=*/num_blocks);
    for (int i = 0; i < 32; ++i) x.at(0, i) *= 1e-33f;               // rounded to zero
    x.at(0, 32 * num_blocks - 1) = num_blocks == 3 ? 3e38f : -1.0f;  // the largest of its block
    std::vector<ActivationBlock> expected(num_blocks);
    std::vector<ActivationBlock> rounded(num_blocks);
    ScalarMatMulKernels().quantize(x.tensor().data, num_blocks, expected.data());
    const MatMulKernels& kernels = GetMatMulKernels(GetParam());
    kernels.quantize(x.tensor().data, num_blocks, rounded.data());
    for (int block = 0; block < num_blocks; ++block) {
      SCOPED_TRACE(testing::Message() << "block " << block << " of " << num_blocks);
      EXPECT_EQ(NumbersOf(rounded[block], kernels),
                NumbersOf(expected[block], ScalarMatMulKernels()));
      EXPECT_EQ(rounded[block].scale, expected[block].scale);
      EXPECT_EQ(rounded[block].sum, expected[block].sum);
      EXPECT_EQ(rounded[block].half_sums[0], expected[block].half_sums[0]);
      EXPECT_EQ(rounded[block].half_sums[1], expected[block].half_sums[1]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, MatMulKernelsTest, kAllIsas, IsaTestName);

}  // namespace
}  // namespace kvec::kernels::cpu
