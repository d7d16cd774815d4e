#include "kernels/cpu/embedding.h"

#include <cstdint>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/thread_pool.h"
#include "tests/kernels/cpu/random_matrix.h"
#include "tests/kernels/cpu/random_weight.h"

namespace kvec::kernels::cpu {
namespace {

using ::testing::HasSubstr;

TEST(EmbeddingLookupTest, DecodesAndScalesRowsInTheOrderOfTheIds) {
  for (TensorType type : {TensorType::kBF16, TensorType::kQ8_0, TensorType::kQ6_K}) {
    const RandomWeight table(type, 11, 512, /*seed=*/1);
    const std::vector<float> rows = table.Dequantized();
    const std::vector<int32_t> ids = {10, 0, 3, 3, 7};
    ThreadPool pool(2);
    Matrix out(5, 512);
    ASSERT_TRUE(EmbeddingLookup(pool, table.source(), ids, 1.5f, out.tensor()).ok());
    for (int row = 0; row < 5; ++row) {
      for (int col = 0; col < 512; ++col) {
        ASSERT_EQ(out.at(row, col), rows[static_cast<size_t>(ids[row] * 512 + col)] * 1.5f);
      }
    }
    EXPECT_TRUE(out.GapsAreIntact());
  }
}

TEST(EmbeddingLookupTest, RejectsIdsAndShapesThatDoNotFit) {
  const RandomWeight table(TensorType::kQ4_0, 11, 64, /*seed=*/1);
  ThreadPool pool(1);
  const auto status = [&](const std::vector<int32_t>& ids, Matrix out) {
    return EmbeddingLookup(pool, table.source(), ids, 1.0f, out.tensor());
  };
  EXPECT_THAT(std::string(status({11}, Matrix(1, 64)).message()), HasSubstr("id 11"));
  EXPECT_THAT(std::string(status({-1}, Matrix(1, 64)).message()), HasSubstr("id -1"));
  EXPECT_EQ(status({1, 2}, Matrix(1, 64)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status({1}, Matrix(1, 32)).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kvec::kernels::cpu
