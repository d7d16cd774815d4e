#include "kernels/cuda/append_kv.h"

#include "gtest/gtest.h"
#include "tests/kernels/cuda/paged_cache.h"

namespace kvec::kernels::cuda {
namespace {

class CudaAppendKvTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaAppendKvTest, kAllOrders, OrderName);

TEST_P(CudaAppendKvTest, StoresKeysValuesAndPositionsOfEveryHead) {
  const HeadShape shape{.num_heads = 4, .num_kv_heads = 2, .head_dim = 80, .group_size = 2};
  for (KvType type : {KvType::kBF16, KvType::kF16, KvType::kF32}) {
    PagedCache cache(shape, type, 16, stream_);
    const int first = cache.AddSequence();
    const int second = cache.AddSequence();
    AppendRows(cache, Matrix::Random(21, shape.qkv_cols(), 1), {{second, 21, true}});
    const Matrix qkv = Matrix::Random(20, shape.qkv_cols(), 2);
    AppendRows(cache, qkv, {{first, 17, true}, {second, 3, false}});
    for (int row = 0; row < 20; ++row) {
      const int sequence = row < 17 ? first : second;
      const int entry = row < 17 ? row : 21 + row - 17;
      for (int head = 0; head < 2; ++head) {
        EXPECT_EQ(cache.Position(sequence, head, entry), kFirstPosition + row);
        for (int i = 0; i < shape.head_dim; ++i) {
          const int k = (4 + head) * shape.head_dim + i;
          const int v = (6 + head) * shape.head_dim + i;
          ASSERT_EQ(cache.Number(sequence, head, entry, false, i),
                    cpu::RoundTo(type, qkv.at(row, k)));
          ASSERT_EQ(cache.Number(sequence, head, entry, true, i),
                    cpu::RoundTo(type, qkv.at(row, v)));
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvec::kernels::cuda
