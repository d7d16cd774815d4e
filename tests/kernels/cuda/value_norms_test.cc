#include "kernels/cuda/value_norms.h"

#include <cmath>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/paged_cache.h"

namespace kvec::kernels::cuda {
namespace {

class CudaValueNormsTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaValueNormsTest, kAllOrders, OrderName);

TEST_P(CudaValueNormsTest, MatchesDoublePrecision) {
  for (int head_dim : {64, 80, 256}) {
    const HeadShape shape{.num_heads = 2, .num_kv_heads = 2, .head_dim = head_dim, .group_size = 1};
    for (KvType type : {KvType::kBF16, KvType::kF16, KvType::kF32, KvType::kInt8}) {
      PagedCache cache(shape, type, 16, stream_);
      AppendRows(cache, Matrix::Random(50, shape.qkv_cols(), 1), {{cache.AddSequence(), 50, true}});
      cache.GrowHead(0, 1, -33);
      const std::vector<HeadPages> heads = cache.Heads(0);
      const AttentionSequence sequence{.heads = heads};
      const FlatBatch batch({.sequences = absl::MakeConstSpan(&sequence, 1)});
      DeviceArray<int32_t> words({batch.words().begin(), batch.words().end()}, stream_);
      const int stride = 55;
      const DeviceArray<float> norms(std::vector<float>(2 * stride, -1.0f), stream_);
      ASSERT_EQ(ValueNorms(stream_, batch.View(words.data()), 2, stride, cache.kv(), norms.data()),
                cudaSuccess);
      const std::vector<float> result = norms.ToHost();
      for (int head = 0; head < 2; ++head) {
        for (int entry = 0; entry < stride; ++entry) {
          double squares = 0;
          for (int i = 0; i < head_dim && entry < heads[static_cast<size_t>(head)].num_entries;
               ++i) {
            squares += std::pow(double{cache.Number(0, head, entry, true, i)}, 2);
          }
          const bool is_entry = entry < heads[static_cast<size_t>(head)].num_entries;
          ASSERT_NEAR(result[static_cast<size_t>(head * stride + entry)],
                      is_entry ? std::sqrt(squares) : -1.0, 1e-5);
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvec::kernels::cuda
