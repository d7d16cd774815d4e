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
    for (KvType type : {KvType::kBF16, KvType::kF16, KvType::kF32}) {
      PagedCache cache(shape, type, 16, stream_);
      AppendRows(cache, Matrix::Random(50, shape.qkv_cols(), 1), {{cache.AddSequence(), 50, true}});
      const std::vector<HeadPages> heads = cache.Heads(0);
      const AttentionSequence sequence{.heads = heads};
      const FlatBatch batch({.sequences = absl::MakeConstSpan(&sequence, 1)});
      DeviceArray<int32_t> words({batch.words().begin(), batch.words().end()}, stream_);
      for (int num_entries : {1, 17, 50}) {
        DeviceArray<float> norms(static_cast<size_t>(2 * num_entries), stream_);
        ASSERT_EQ(
            ValueNorms(stream_, batch.View(words.data()), 2, num_entries, cache.kv(), norms.data()),
            cudaSuccess);
        const std::vector<float> result = norms.ToHost();
        for (int head = 0; head < 2; ++head) {
          for (int entry = 0; entry < num_entries; ++entry) {
            double squares = 0;
            for (int i = 0; i < head_dim; ++i) {
              squares += std::pow(double{cache.Number(0, head, entry, true, i)}, 2);
            }
            ASSERT_NEAR(result[static_cast<size_t>(head * num_entries + entry)], std::sqrt(squares),
                        1e-5);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvec::kernels::cuda
