#include "kernels/cpu/value_norms.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cpu/isa_test.h"
#include "tests/kernels/cpu/paged_attention.h"

namespace kvec::kernels::cpu {
namespace {

class ValueNormsTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(Isas, ValueNormsTest, kAllIsas, IsaTestName);

TEST_P(ValueNormsTest, MatchDoublePrecision) {
  ThreadPool pool(2);
  for (KvType type : {KvType::kBF16, KvType::kF16, KvType::kF32, KvType::kInt8}) {
    for (int dim : {8, 64, 72, 80, 128}) {
      const HeadShape shape{.num_heads = 3, .num_kv_heads = 3, .head_dim = dim, .group_size = 1};
      for (int entries : {1, 7, 16, 17, 97, 513}) {
        Matrix qkv = Matrix::Random(entries, shape.qkv_cols(), 5, 3.0f);
        PagedCache cache(shape, type, 3 * (entries / kPageTokens + 2));
        RunAttention(cache, qkv, {{cache.AddSequence(), entries, true}});
        const Matrix stored = AsStored(cache, 0, qkv);
        // The heads may hold different numbers of entries.
        std::vector<HeadPages> heads = cache.Heads(0);
        heads[1].num_entries = (entries + 1) / 2;
        const int stride = entries + 3;
        std::vector<float> norms(3 * static_cast<size_t>(stride), NAN);
        ValueNorms(pool, heads, stride, cache.arena(), norms.data());
        for (int head = 0; head < 3; ++head) {
          for (int entry = 0; entry < heads[head].num_entries; ++entry) {
            double squares = 0;
            for (int i = 0; i < dim; ++i) {
              const double value = stored.at(entry, (6 + head) * dim + i);
              squares += value * value;
            }
            const double norm = std::sqrt(squares);
            ASSERT_NEAR(norms[static_cast<size_t>(head * stride + entry)], norm, 1e-6 * norm)
                << "head_dim " << dim << ", head " << head << ", entry " << entry;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvec::kernels::cpu
