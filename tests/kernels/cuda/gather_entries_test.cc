#include "kernels/cuda/gather_entries.h"

#include <algorithm>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/paged_cache.h"

namespace kvec::kernels::cuda {
namespace {

class CudaGatherEntriesTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaGatherEntriesTest, kAllOrders, OrderName);

constexpr int kEntries = 150;

// Keys, values and position of an entry.
std::vector<float> EntryOf(const PagedCache& cache, int head, int entry) {
  std::vector<float> numbers = {static_cast<float>(cache.Position(0, head, entry))};
  for (bool is_value : {false, true}) {
    for (int i = 0; i < cache.shape().head_dim; ++i) {
      numbers.push_back(cache.Number(0, head, entry, is_value, i));
    }
  }
  return numbers;
}

std::vector<int32_t> RandomSubset(int size, uint32_t seed) {
  std::vector<int32_t> entries(kEntries);
  std::iota(entries.begin(), entries.end(), 0);
  std::shuffle(entries.begin(), entries.end(), std::mt19937(seed));
  entries.resize(static_cast<size_t>(size));
  std::sort(entries.begin(), entries.end());
  return entries;
}

class GatherCase {
 public:
  GatherCase(int head_dim, KvType type, cudaStream_t stream)
      : shape_{.num_heads = 2, .num_kv_heads = 2, .head_dim = head_dim, .group_size = 1},
        cache_(shape_, type, 64, stream) {
    AppendRows(cache_, Matrix::Random(kEntries, shape_.qkv_cols(), 1),
               {{cache_.AddSequence(), kEntries, true}});
  }

  PagedCache& cache() { return cache_; }

  // Gathers kept[head] of both heads, in place or to the pages of a sequence without entries, and
  // checks that it is there.
  void GatherAndCheck(const std::vector<std::vector<int32_t>>& kept, bool in_place) {
    std::vector<std::vector<float>> expected;
    std::vector<GatherTask> tasks;
    std::vector<int32_t> words;
    const auto append = [&words](const std::vector<int32_t>& array) {
      words.insert(words.end(), array.begin(), array.end());
      return static_cast<int32_t>(words.size() - array.size());
    };
    const int target = in_place ? 0 : cache_.AddSequence();
    if (!in_place) cache_.Grow(target, kEntries);
    for (int head = 0; head < 2; ++head) {
      const std::vector<int32_t>& entries = kept[static_cast<size_t>(head)];
      for (int32_t entry : entries) expected.push_back(EntryOf(cache_, head, entry));
      tasks.push_back({append(cache_.table(0, head)), append(entries),
                       static_cast<int32_t>(entries.size()), append(cache_.table(target, head))});
    }
    DeviceArray<GatherTask> device_tasks(tasks, cache_.stream());
    DeviceArray<int32_t> device_words(words, cache_.stream());
    ASSERT_EQ(
        GatherEntries(cache_.stream(), device_tasks.data(), 2, device_words.data(), cache_.kv()),
        cudaSuccess);
    cache_.Changed();
    std::swap(cache_.table(0, 0), cache_.table(target, 0));
    std::swap(cache_.table(0, 1), cache_.table(target, 1));
    size_t index = 0;
    for (int head = 0; head < 2; ++head) {
      for (size_t i = 0; i < kept[static_cast<size_t>(head)].size(); ++i) {
        ASSERT_EQ(EntryOf(cache_, head, static_cast<int>(i)), expected[index++]) << i;
      }
    }
  }

 private:
  const HeadShape shape_;
  PagedCache cache_;
};

TEST_P(CudaGatherEntriesTest, MovesKeysValuesAndPositionsInPlace) {
  for (int head_dim : {64, 80, 256}) {
    for (KvType type : {KvType::kBF16, KvType::kF32, KvType::kInt8}) {
      GatherCase gather(head_dim, type, stream_);
      gather.GatherAndCheck({RandomSubset(100, 2), RandomSubset(17, 3)}, true);
    }
  }
}

TEST_P(CudaGatherEntriesTest, MovesByOneEntry) {  // every place is read just before it is written
  for (KvType type : {KvType::kBF16, KvType::kInt8}) {
    GatherCase gather(64, type, stream_);
    std::vector<int32_t> all_but_first(kEntries - 1);
    std::iota(all_but_first.begin(), all_but_first.end(), 1);
    gather.GatherAndCheck({all_but_first, all_but_first}, true);
  }
}

TEST_P(CudaGatherEntriesTest, LeavesSharedPagesAlone) {
  for (KvType type : {KvType::kF16, KvType::kInt8}) {
    GatherCase gather(64, type, stream_);
    const std::vector<float> before = EntryOf(gather.cache(), 0, 0);
    const std::vector<int32_t> shared = gather.cache().table(0, 0);
    gather.GatherAndCheck({RandomSubset(50, 4), {}}, false);
    gather.cache().table(0, 0) = shared;
    EXPECT_EQ(EntryOf(gather.cache(), 0, 0), before);
  }
}

TEST_P(CudaGatherEntriesTest, CopiesWholePages) {
  for (KvType type : {KvType::kBF16, KvType::kInt8}) {
    GatherCase gather(96, type, stream_);
    PagedCache& cache = gather.cache();
    cache.Grow(cache.AddSequence(), 2 * kPageTokens);
    const std::vector<int32_t> from = {cache.table(0, 0)[3], cache.table(0, 0)[0]};
    DeviceArray<int32_t> device_from(from, stream_);
    DeviceArray<int32_t> device_to(cache.table(1, 0), stream_);
    ASSERT_EQ(CopyPages(stream_, device_from.data(), device_to.data(), 2, cache.kv()), cudaSuccess);
    cache.Changed();
    std::vector<std::vector<float>> expected;
    for (int entry : {48, 63, 0, 15}) expected.push_back(EntryOf(cache, 0, entry));
    cache.table(0, 0) = cache.table(1, 0);
    for (int i = 0; i < 4; ++i) {
      const int entries[] = {0, 15, 16, 31};
      EXPECT_EQ(EntryOf(cache, 0, entries[i]), expected[static_cast<size_t>(i)]);
    }
  }
}

}  // namespace
}  // namespace kvec::kernels::cuda
