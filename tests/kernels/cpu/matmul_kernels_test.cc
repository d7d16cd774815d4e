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

// All instruction sets round activations to the same bits: what differs between them is the order
// of float32 sums only.
TEST_P(MatMulKernelsTest, RoundsActivationsAsTheScalarKernelDoes) {
  for (int num_blocks : {1, 2, 3, 17}) {
    Matrix x = Matrix::Random(1, 32 * num_blocks, /*seed=*/num_blocks);
    for (int i = 0; i < 32; ++i) x.at(0, i) *= 1e-33f;               // rounded to zero
    x.at(0, 32 * num_blocks - 1) = num_blocks == 3 ? 3e38f : -1.0f;  // the largest of its block
    std::vector<ActivationBlock> expected(num_blocks);
    std::vector<ActivationBlock> rounded(num_blocks);
    ScalarMatMulKernels().quantize(x.tensor().data, num_blocks, expected.data());
    GetMatMulKernels(GetParam()).quantize(x.tensor().data, num_blocks, rounded.data());
    for (int block = 0; block < num_blocks; ++block) {
      EXPECT_EQ(std::memcmp(&rounded[block], &expected[block], sizeof(ActivationBlock)), 0)
          << "block " << block << " of " << num_blocks;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, MatMulKernelsTest, kAllIsas, IsaTestName);

}  // namespace
}  // namespace kvec::kernels::cpu
